"""Sums over the last ten minutes by key, and what they were at each moment that may matter.

A series only grows; a window is the difference between what it is now and what it was at its start. So
adding costs one addition whatever the length, what is old expires by being read past, and one series
answers for "the last ten minutes", "since the change" and "since the stage took effect" alike.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from math import inf
from operator import add, sub
from typing import Generic, TypeAlias, TypeVar

from proxy.core.rollback.signals import MAX_CELLS, REQUESTS

SLOTS = 60
"""Slots of a window, the one being filled among them: it covers between 59 of them and all."""
RECENT_S = 30.0
"""For so long ticks are told apart; before that, slots."""
TICK_S = 0.2
"""Less than signals take to come up again. What comes sooner, from other workers, is of the same tick."""

Counts: TypeAlias = Sequence[int]
K = TypeVar("K", bound=Hashable)


class Series:
    """Counts of one key, in `width` columns; what comes in may have more, which are left out.

    `now` is monotonic seconds. One older than the newest seen counts as the newest.
    """

    __slots__ = ("_marks", "_recent", "newest", "slot_s", "total")

    def __init__(self, width: int, slot_s: float) -> None:
        self.total: Counts = (0,) * width
        """Of everything. Never changed in place: whoever keeps it keeps a moment."""
        self.newest = 0
        self.slot_s = slot_s
        self._marks: deque[tuple[int, Counts]] = deque()  # slot, and the total before it
        self._recent: deque[tuple[float, Counts]] = deque()  # moment, and the total before it

    def add(self, counts: Counts, now: float) -> None:
        """Count on."""
        slot = int(now / self.slot_s)
        if slot > self.newest or not self._marks:
            self.newest = max(slot, self.newest)
            self._marks.append((self.newest, self.total))
            self._expire()
        recent = self._recent
        if not recent or now - recent[-1][0] >= TICK_S:
            recent.append((now, self.total))
        while recent[0][0] < now - RECENT_S:
            recent.popleft()
        self.total = [*map(add, self.total, counts)]

    def start(self, now: float) -> Counts:
        """The total when the window began."""
        slot = int(now / self.slot_s)
        if slot > self.newest:
            self.newest = slot
            self._expire()
        return self._marks[0][1] if self._marks else self.total

    def sums(self, now: float) -> list[int]:
        """Over the window."""
        return [*map(sub, self.total, self.start(now))]

    def moments(self) -> Iterator[tuple[float, Counts]]:
        """Every moment that is told apart, newest first, with the total before it."""
        yield from reversed(self._recent)
        oldest = self._recent[0][0] if self._recent else inf
        for slot, total in reversed(self._marks):
            if slot * self.slot_s < oldest:
                yield slot * self.slot_s, total

    def at(self, moment: float) -> Counts:
        """The total as it was then, to a slot where it is long ago."""
        found = self.total
        for when, total in self.moments():
            if when < moment:
                break
            found = total
        return found

    def copy(self) -> "Series":
        """One that goes on by itself from here."""
        copy = Series(len(self.total), self.slot_s)
        copy.total, copy.newest = self.total, self.newest
        copy._marks, copy._recent = self._marks.copy(), self._recent.copy()
        return copy

    def merge(self, *others: "Series") -> None:
        """Count everything that the other ones have, each in its slot."""
        steps = dict(self._steps())
        for other in others:
            for slot, step in other._steps():  # noqa: SLF001
                steps[slot] = [*map(add, steps[slot], step)] if slot in steps else step
            self.newest = max(self.newest, other.newest)
        self._recent.clear()
        total: Counts = self._marks[0][1] if self._marks else self.total
        self._marks.clear()
        for slot, step in sorted(steps.items()):
            self._marks.append((slot, total))
            total = [*map(add, total, step)]
        self.total = total
        self._expire()

    def _steps(self) -> list[tuple[int, Counts]]:
        """What each slot counted."""
        ends = [total for _, total in self._marks][1:]
        return (
            [
                (slot, [*map(sub, after, before)])
                for (slot, before), after in zip(self._marks, [*ends, self.total], strict=True)
            ]
            if self._marks
            else []
        )

    def _expire(self) -> None:
        marks = self._marks
        while marks and marks[0][0] <= self.newest - SLOTS:
            marks.popleft()


class Window(Generic[K]):
    """A series for each key, for `limit` keys at most: the busiest keep theirs, the rest share one."""

    __slots__ = ("_limit", "_other", "_tidy_at", "overflowed", "series", "slot_s", "width")

    def __init__(self, width: int, span_s: float, other: Callable[[K], K], limit: int = MAX_CELLS) -> None:
        self.width = width
        self.slot_s = span_s / SLOTS
        self.series: dict[K, Series] = {}
        self.overflowed = 0  # ticks that found no series of their own
        self._other = other  # the key that takes what overflows of this one
        self._limit = limit
        self._tidy_at = 0.0

    def add(self, key: K, counts: Counts, now: float) -> None:
        """Count on."""
        series = self.series.get(key)
        if series is None:
            series = self._begin(key, now)
        series.add(counts, now)

    def sums(self, key: K, now: float) -> list[int]:
        """Over the window; zeros for a key that is not known."""
        series = self.series.get(key)
        return series.sums(now) if series is not None else [0] * self.width

    def _begin(self, key: K, now: float) -> Series:
        if len(self.series) >= self._limit and now >= self._tidy_at:
            self._tidy_at = now + self.slot_s
            self._tidy(now)
        if len(self.series) >= self._limit and key != (other := self._other(key)):
            self.overflowed += 1
            key = other
        found = self.series.get(key)
        if found is None:
            found = self.series[key] = Series(self.width, self.slot_s)
        return found

    def _tidy(self, now: float) -> None:
        """Forget what had no traffic; a quarter of the places change hands, from the least busy."""
        busy = sorted(
            ((series.sums(now)[REQUESTS], key) for key, series in self.series.items()),
            key=lambda it: it[0],
            reverse=True,
        )
        kept = max(self._limit * 3 // 4, 1)
        rest: dict[K, list[Series]] = {}
        for place, (requests, key) in enumerate(busy):
            other = self._other(key)
            if key == other or (requests and place < kept):
                continue
            series = self.series.pop(key)
            if requests:
                rest.setdefault(other, []).append(series)
        for other, gone in rest.items():
            self.series.setdefault(other, Series(self.width, self.slot_s)).merge(*gone)
