"""Parts of the traffic: which are looked at by themselves, and which one is to blame."""

from collections.abc import Iterable
from typing import Final

from proxy.core.rollback.signals import OTHER, REQUESTS, Key
from proxy.core.rollback.verdicts import ALL, Dimension, Segment
from proxy.core.rollback.window import Series

MOST_SEGMENTS: Final = 64
"""Looked at by themselves at a time, of each side: the busiest."""
PART: Final = 0.5
"""Who has more of the traffic than this is not a part of it, but most of it."""


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


def busiest(series: Iterable[tuple[Segment, Series]], total: int, fewest: int, now: float) -> list[Segment]:
    """The parts that are large enough to be judged by themselves, the busiest first."""
    found = [
        (requests, segment)
        for segment, it in series
        if fewest <= (requests := it.sums(now)[REQUESTS]) <= total * PART
    ]
    found.sort(reverse=True)
    return [segment for _, segment in found[:MOST_SEGMENTS]]
