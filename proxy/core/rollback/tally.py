"""The tally of one process: recommend requests counted by segment, taken as a delta four times a second."""

from bisect import bisect_left
from collections.abc import Mapping
from math import inf
from typing import TypeAlias

from proxy.core.rollback.signals import (
    BOUNDS_S,
    BROKEN,
    FAILED,
    FILLED,
    HITS,
    LATE,
    MAX_CELLS,
    OTHER,
    READS,
    REFUSED,
    REQUESTS,
    SHORT,
    SLOTS,
    Calls,
    Delta,
    Key,
    Side,
    columns,
)

Segment: TypeAlias = tuple[bytes, bytes, bytes]
"""Region, cohort and client."""

UNKNOWN: Segment = (b"", b"", b"")
_REST: Segment = (OTHER, OTHER, OTHER)


class Cells:
    """The cells of one route, arm and side."""

    __slots__ = ("_tally", "known", "plain", "refused")

    def __init__(self, tally: "Tally") -> None:
        self._tally = tally
        self.known: dict[Segment, list[int]] = {}
        """The cells that there are since the last take; `of` makes them."""
        self.plain = 0
        """Requests that nobody judges: their number, of no segment."""
        self.refused = 0

    def of(self, segment: Segment) -> list[int]:
        """Its cell, until the next take. Room is for segments told apart: the unknown one, and what stands
        for the rest, come on top.
        """
        found = self.known.get(segment)
        if found is not None:
            return found
        tally = self._tally
        if segment != UNKNOWN:
            if tally.room:
                tally.room -= 1
            else:
                tally.overflowed += 1
                segment = _REST
        found = self.known.get(segment)
        if found is None:
            found = self.known[segment] = [0] * columns(len(tally.targets))
        return found

    def ended(
        self,
        cell: list[int],
        seconds: float,
        *,
        k: int = 0,
        covered: int = 0,
        reads: int = 0,
        hits: int = 0,
        failed: bool = False,
        broken: bool = False,
        passed: int = 0,
    ) -> None:
        """Count a request that asked for `k` slots, of which `covered` were filled without popularity, and
        looked for `reads` sources in the cache. What is `broken` is `failed` as well. `passed`: so many
        targets were counted as passed while it was in flight, and with the first of them the request.
        """
        if passed <= 0:
            cell[REQUESTS] += 1
        cell[SLOTS] += k
        cell[FILLED] += covered
        if covered < k:
            cell[SHORT] += round(1_000 * (k - covered) / k)
        if reads:
            cell[READS] += reads
            cell[HITS] += hits
        if failed:
            cell[FAILED] += 1
            cell[BROKEN] += broken
        tally = self._tally
        if seconds > tally.first:
            self._late(cell, seconds, passed)
        cell[tally.clock + bisect_left(BOUNDS_S, seconds)] += 1

    def late(self, cell: list[int], at: int) -> None:
        """A request in flight has passed the target at this index; each is told of once, in their order."""
        cell[REQUESTS] += not at
        cell[LATE + at] += 1

    def left(self, cell: list[int], seconds: float, passed: int) -> None:
        """One that was counted in flight ends, and nothing more is known of it than how long it took."""
        self._late(cell, seconds, passed)
        cell[self._tally.clock + bisect_left(BOUNDS_S, seconds)] += 1

    def _late(self, cell: list[int], seconds: float, passed: int) -> None:
        """Count the targets that it has not been told to have passed."""
        targets = self._tally.targets
        for at in range(max(passed, 0), len(targets)):
            cell[LATE + at] += seconds > targets[at]

    def take(self) -> dict[Segment, list[int]]:
        """What was counted since the last time."""
        if self.plain or self.refused:
            cell = self.of(UNKNOWN)
            cell[REQUESTS] += self.plain
            cell[REFUSED] += self.refused
            self.plain = self.refused = 0
        taken, self.known = self.known, {}
        return taken


class Tally:
    """All cells; `targets` are latencies in seconds, ascending."""

    def __init__(self, targets: tuple[float, ...] = ()) -> None:
        self._aim(targets)
        self.room = MAX_CELLS
        self.overflowed = 0
        self._cells: dict[tuple[str, str, Side], Cells] = {}

    def cells(self, route: str, arm: str, side: Side) -> Cells:
        """Always the same ones: whoever counts keeps them."""
        found = self._cells.get((route, arm, side))
        if found is None:
            found = self._cells[route, arm, side] = Cells(self)
        return found

    def retarget(self, targets: tuple[float, ...]) -> None:
        """Count what is later than these from now on. What was not taken is lost: its columns mean
        something else.
        """
        self.take({})
        self._aim(targets)

    def _aim(self, targets: tuple[float, ...]) -> None:
        self.targets = targets
        self.first = targets[0] if targets else inf
        self.clock = LATE + len(targets)  # column of the first latency bucket

    def take(self, upstreams: Mapping[str, Calls]) -> Delta:
        """What was counted since the last time, and `upstreams` beside it."""
        cells = {
            Key(*place, *segment): counts
            for place, held in self._cells.items()
            for segment, counts in held.take().items()
        }
        overflowed, self.overflowed = self.overflowed, 0
        self.room = MAX_CELLS
        return Delta(targets=self.targets, cells=cells, upstreams=upstreams, overflowed=overflowed)
