"""Signals: what recommend requests came to, as sums of integers by segment.

Every process that carries traffic counts into the cells of a `Tally` and hands them on, four times a
second, as a `Delta`; deltas merge by addition. A trigger is a proportion (facts 2.5), so a cell holds
counts of what went wrong beside the counts of what could have.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

Side: TypeAlias = Literal[
    # judged
    "exposed",  # as the operator's toggles say
    "control",  # not exposed, and asked a control upstream
    "staged",  # under a stage of a rollback
    "recovered",  # let out of it again, by bucket
    # columns of their own, never judged (facts 2.18)
    "decided",  # popularity by decision: kill, control without an upstream, level D, a breaker held open
    "override",
    "drill",  # of a drill: as its toggles say; it judges itself by these, as the others are judged by theirs
    "drill_control",
    "drill_staged",
    "drill_recovered",
    "drill_decided",
    "mirror",
    "warm",
]
"""How a request was served, as far as that decides who judges it."""


class Key(NamedTuple):
    """The segment of a cell. Region, cohort and client as they came, b"" where unknown."""

    route: str
    arm: str
    side: Side
    region: bytes = b""
    cohort: bytes = b""
    client: bytes = b""


OTHER = b"other"
"""Region, cohort and client of the cell that takes what overflows."""
MAX_CELLS = 1_024
"""Segments told apart at a time, in one delta and in the window."""
MAX_TARGETS = 4

# Columns of a cell. Behind them come the requests later than each target (ascending), then the latency
# buckets of `BOUNDS_S`, the last one without a bound.
REQUESTS = 0
FAILED = 1  # a source that was needed failed, or 5xx by an upstream's fault (facts 2.20)
BROKEN = 2  # of the sidecar's own fault: counts as failed as well, and stands here beside it
REFUSED = 3  # 4xx, caused by the client: not among the requests
SLOTS = 4  # asked: k, summed
FILLED = 5  # … of which filled without popularity (facts 2.19)
SHORT = 6  # thousandths of a request: 1000 · unfilled ÷ k, summed
READS = 7  # sources looked for in the cache
HITS = 8  # … and found fresh
LATE = 9

BOUNDS_S: tuple[float, ...] = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the latency buckets, in seconds, with the SLO targets among them (50, 75, 200 ms)."""


def columns(targets: int) -> int:
    """How many a cell has, for so many latency targets."""
    return LATE + targets + len(BOUNDS_S) + 1


class Calls(NamedTuple):
    """Calls of one upstream in one delta."""

    calls: int = 0  # that reached an end which says something about it
    failed: int = 0
    late: int = 0  # past its breaker's slow_call_ms, in flight or over


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What was counted since the delta before. `targets` in seconds, ascending."""

    targets: tuple[float, ...] = ()
    cells: Mapping[Key, list[int]] = field(default_factory=dict)
    upstreams: Mapping[str, Calls] = field(default_factory=dict)
    overflowed: int = 0  # requests that found no cell of their own


def added(deltas: Iterable[Delta]) -> Delta:
    """The sum of deltas of the same targets; those of other targets than the last one's are left out,
    since their columns mean something else.
    """
    known = list(deltas)
    if not known:
        return Delta()
    targets = known[-1].targets
    cells: dict[Key, list[int]] = {}
    upstreams: dict[str, Calls] = {}
    overflowed = 0
    for delta in known:
        if delta.targets != targets:
            continue
        overflowed += delta.overflowed
        for key, counts in delta.cells.items():
            found = cells.get(key)
            cells[key] = list(counts) if found is None else [*map(int.__add__, found, counts)]
        for name, calls in delta.upstreams.items():
            upstreams[name] = Calls(*map(int.__add__, upstreams.get(name, Calls()), calls))
    return Delta(targets=targets, cells=cells, upstreams=upstreams, overflowed=overflowed)
