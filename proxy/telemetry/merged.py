"""The counters of several processes as one that never goes backwards."""

from collections.abc import Hashable, Mapping
from operator import sub
from typing import TypeVar

from proxy.telemetry.counters import Cell, Counters, ShadowCell, UpstreamCell

K = TypeVar("K")

_NOTHING = Counters()
_NO_CELL = Cell()
_NO_UPSTREAM = UpstreamCell()
_NO_SHADOW = ShadowCell()


class Merged:
    """Adds up into `total` what each source has counted since it was heard last.

    Differences are added, never sums taken anew: what a source had counted stays when it is gone,
    and rounding cannot make a sum of seconds smaller. What is under way ends with its source.
    """

    def __init__(self, total: Counters) -> None:
        self.total = total
        self._last: dict[Hashable, Counters] = {}

    def heard(self, source: Hashable, now: Counters) -> None:
        """A source has counted so much; `now` must not change any more."""
        self._add(self._last.get(source, _NOTHING), now)
        self._last[source] = now

    def gone(self, source: Hashable) -> None:
        """A source has ended: nothing is under way there any more."""
        last = self._last.pop(source, None)
        if last is None:
            return
        self.total.connections -= last.connections
        self.total.cache_bytes -= last.cache_bytes
        self.total.cache_entries -= last.cache_entries
        self.total.warm_left -= last.warm_left
        self.total.warm_unreadable -= last.warm_unreadable
        self.total.events_stuck -= last.events_stuck
        for name, cell in last.upstreams.items():
            upstream = self.total.upstream(name)
            upstream.inflight -= cell.inflight
            upstream.queued -= cell.queued

    def connections(self, source: Hashable) -> int:
        """Open client connections of one source."""
        return self._last.get(source, _NOTHING).connections

    def _add(self, before: Counters, now: Counters, total: Counters | None = None) -> None:
        total = total or self.total
        for why, aside in now.asides.items():
            self._add(before.asides.get(why, _NOTHING), aside, total.aside(why))
        for (route, arm), cell in now.routes.items():
            _add_cell(total.cell(route, arm), before.routes.get((route, arm), _NO_CELL), cell)
        for name, upstream in now.upstreams.items():
            _add_upstream(total.upstream(name), before.upstreams.get(name, _NO_UPSTREAM), upstream)
        for name, shadow in now.shadows.items():
            _add_shadow(total.shadow(name), before.shadows.get(name, _NO_SHADOW), shadow)
        _add_counts(total.transitions, before.transitions, now.transitions)
        _add_counts(total.cache, before.cache, now.cache)
        _add_counts(total.levels, before.levels, now.levels)
        _add_counts(total.refusals, before.refusals, now.refusals)
        _add_counts(total.actions, before.actions, now.actions)
        total.audit_lost += now.audit_lost - before.audit_lost
        total.slots_asked += now.slots_asked - before.slots_asked
        total.slots_covered += now.slots_covered - before.slots_covered
        _add_counts(total.warm, before.warm, now.warm)
        total.warm_left += now.warm_left - before.warm_left
        total.warm_unreadable += now.warm_unreadable - before.warm_unreadable
        total.events_stuck += now.events_stuck - before.events_stuck
        total.coalesced += now.coalesced - before.coalesced
        total.cache_bytes += now.cache_bytes - before.cache_bytes
        total.cache_entries += now.cache_entries - before.cache_entries
        total.cache_evictions += now.cache_evictions - before.cache_evictions
        total.unsticky += now.unsticky - before.unsticky
        total.connections += now.connections - before.connections
        total.accepted += now.accepted - before.accepted
        total.signals_overflowed += now.signals_overflowed - before.signals_overflowed
        if dropped := now.events_dropped - before.events_dropped:
            # Seldom: the log writer of this process counts here too, from its own thread.
            total.events_dropped += dropped


def _add_cell(total: Cell, before: Cell, now: Cell) -> None:
    total.status = _risen(total.status, before.status, now.status)
    total.buckets = _risen(total.buckets, before.buckets, now.buckets)
    total.seconds += now.seconds - before.seconds


def _add_upstream(total: UpstreamCell, before: UpstreamCell, now: UpstreamCell) -> None:
    _add_counts(total.outcomes, before.outcomes, now.outcomes)
    total.buckets = _risen(total.buckets, before.buckets, now.buckets)
    total.seconds += now.seconds - before.seconds
    total.inflight += now.inflight - before.inflight
    total.queued += now.queued - before.queued
    total.retries += now.retries - before.retries


def _add_shadow(total: ShadowCell, before: ShadowCell, now: ShadowCell) -> None:
    _add_counts(total.results, before.results, now.results)
    total.overlap = _risen(total.overlap, before.overlap, now.overlap)
    total.overlap_sum += now.overlap_sum - before.overlap_sum
    total.rank = _risen(total.rank, before.rank, now.rank)
    total.rank_sum += now.rank_sum - before.rank_sum
    total.real_seconds += now.real_seconds - before.real_seconds
    total.seconds += now.seconds - before.seconds


def _risen(total: list[int], before: list[int], now: list[int]) -> list[int]:
    return [sum_ + rise for sum_, rise in zip(total, map(sub, now, before), strict=True)]


def _add_counts(total: dict[K, int], before: Mapping[K, int], now: Mapping[K, int]) -> None:
    for key, count in now.items():
        total[key] = total.get(key, 0) + count - before.get(key, 0)
