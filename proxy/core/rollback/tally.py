"""The tally of one process: recommend requests counted by segment, taken as a delta four times a second."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

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


class Ended(NamedTuple):
    """What became of one request that was answered."""

    seconds: float
    k: int  # slots asked; 0: it never came to ask
    covered: int  # … of which filled without popularity
    reads: int  # sources looked for in the cache
    hits: int
    failed: bool
    broken: bool  # by a fault of the sidecar's own; then it is failed as well


class Cells:
    """The cells of one route, arm and side."""

    __slots__ = ("_by_segment", "_tally", "plain", "refused")

    def __init__(self, tally: "Tally") -> None:
        self._tally = tally
        self._by_segment: dict[Segment, list[int]] = {}
        self.plain = 0
        """Requests that nobody judges: their number, of no segment."""
        self.refused = 0

    def ended(self, segment: Segment, ended: Ended, passed: int = 0) -> None:
        """Count a request. `passed`: so many targets were counted as passed while it was in flight, and with
        the first of them the request.
        """
        seconds, k, covered, reads, hits, failed, broken = ended
        cell = self._by_segment.get(segment)
        if cell is None:
            cell = self._new(segment)
        cell[REQUESTS] += not passed
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
        self._clock(cell, seconds, passed)

    def late(self, segment: Segment, at: int) -> None:
        """A request in flight has passed the target at this index; each is told of once, in their order."""
        cell = self._by_segment.get(segment) or self._new(segment)
        cell[REQUESTS] += not at
        cell[LATE + at] += 1

    def left(self, segment: Segment, seconds: float, passed: int) -> None:
        """One that was counted in flight ends, and nothing more is known of it than how long it took."""
        self._clock(self._by_segment.get(segment) or self._new(segment), seconds, passed)

    def _clock(self, cell: list[int], seconds: float, passed: int) -> None:
        targets = self._tally.targets
        if targets and seconds > targets[0]:
            for at in range(passed, len(targets)):
                cell[LATE + at] += seconds > targets[at]
        cell[LATE + len(targets) + bisect_left(BOUNDS_S, seconds)] += 1

    def _new(self, segment: Segment) -> list[int]:
        """Room is for segments told apart: the unknown one, and what stands for the rest, come on top."""
        tally = self._tally
        if segment != UNKNOWN:
            if tally.room:
                tally.room -= 1
            else:
                tally.overflowed += 1
                segment = _REST
        found = self._by_segment.get(segment)
        if found is None:
            found = self._by_segment[segment] = [0] * columns(len(tally.targets))
        return found

    def take(self) -> dict[Segment, list[int]]:
        """What was counted since the last time."""
        if self.plain or self.refused:
            cell = self._by_segment.get(UNKNOWN) or self._new(UNKNOWN)
            cell[REQUESTS] += self.plain
            cell[REFUSED] += self.refused
            self.plain = self.refused = 0
        taken, self._by_segment = self._by_segment, {}
        return taken


class Tally:
    """All cells; `targets` are latencies in seconds, ascending."""

    def __init__(self, targets: tuple[float, ...] = ()) -> None:
        self.targets = targets
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
        self.targets = targets

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
