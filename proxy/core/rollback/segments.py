"""Parts of the traffic: which are looked at by themselves, and which one is to blame."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from proxy.core.rollback.estimate import CONFIDENT, chance, over
from proxy.core.rollback.signals import OTHER, REQUESTS, Key
from proxy.core.rollback.triggers import Measure
from proxy.core.rollback.verdicts import ALL, Dimension, Segment
from proxy.core.rollback.window import Series

MOST_SEGMENTS: Final = 64
"""Looked at by themselves at a time, of each side: the busiest."""
MOST_PARTS: Final = 256
"""Counted by themselves at a time, of each side."""
PART: Final = 0.6
"""Who has more of the traffic than this is not a part of it, but most of it."""
SURPRISING: Final = 0.001
"""How improbable a difference is that is believed; all that are looked at together."""
BEYOND_CHANCE: Final = 1e-7
"""The same of the difference from control, which is looked at anew every second that an outage lasts."""
WORSE: Final = 1.5
"""Times as much: what is called worse than control."""


def segments_of(key: Key) -> tuple[Segment, ...]:
    """All that a cell is part of; of what is not known, none."""
    named: tuple[tuple[Dimension, bytes], ...] = (
        ("region", key.region),
        ("cohort", key.cohort),
        ("client", key.client),
    )
    parts = [Segment(dimension, value.decode("utf-8", "replace")) for dimension, value in named if value]
    return (ALL, Segment("route", key.route), *parts)


def rest_of(segment: Segment) -> Segment:
    """Who takes what there is no room for."""
    return Segment(segment.dimension, OTHER.decode())


class Case(NamedTuple):
    """A breach that a part may explain."""

    measure: Measure
    allowed: float
    since: float


def blamed(cases: Sequence[Case], every: Series, parts: Iterable[tuple[Segment, Series]]) -> Segment:
    """The smallest part that explains all of them, best one that toggles can name; `ALL`: none does.

    It does where without it nothing could be said against the rest, and where that is no chance: more goes
    wrong in it than in the rest, surely. When all is broken the rest is as well, so no part is blamed.
    """
    candidates = list(parts)
    found = [
        (segment.scope is None, requests, segment)
        for segment, series in candidates
        if (requests := _explains(cases, every, series, len(candidates)))
    ]
    return min(found)[2] if found else ALL


def _explains(cases: Sequence[Case], every: Series, part: Series, tried: int) -> float:
    """How many requests it had; 0: it does not."""
    most = 0.0
    for measure, allowed, since in cases:
        n, s = measure(part.total, part.at(since))
        total, wrong = measure(every.total, every.at(since))
        rest, left = total - n, max(wrong - s, 0.0)
        if not (
            0 < n <= total * PART
            and over(rest, left, allowed) < CONFIDENT
            and s * rest > left * n
            and chance(n, min(s, n), rest, min(left, rest)) * tried < SURPRISING
        ):
            return 0.0
        most = max(most, n)
    return most


def shared(own: tuple[float, float], control: tuple[float, float], allowed: float) -> bool:
    """Whether control has it as badly: n and s of both, since it began.

    It has more of it than is allowed, at 95 %, and the exposed side does not have half as much again,
    or not surely.
    """
    (n, s), (m, t) = own, control
    if over(m, t, allowed) < CONFIDENT:
        return False
    return s * m <= WORSE * t * n or chance(n, min(s, n), m, min(t, m)) >= BEYOND_CHANCE


def busiest(series: Iterable[tuple[Segment, Series]], total: int, fewest: int, now: float) -> list[Segment]:
    """The parts that are large enough to be judged by themselves, the busiest first."""
    found = [
        (requests, segment)
        for segment, it in series
        if segment != rest_of(segment) and fewest <= (requests := it.sums(now)[REQUESTS]) <= total * PART
    ]
    found.sort(reverse=True)
    return [segment for _, segment in found[:MOST_SEGMENTS]]
