"""Prometheus metrics, read from plain counters at scrape time (contract, Metrics).

The hot path pays for integers only; everything that costs (names, labels, text) is paid by whoever
scrapes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy.clock import Clock, monotonic
from proxy.core.breaker import BreakerStatus
from proxy.core.policy import Policy
from proxy.core.rollback.signals import BOUNDS_S
from proxy.telemetry import records, rollback
from proxy.telemetry.counters import AGREEMENT, Cell, Counters, UpstreamCell
from proxy.telemetry.records import RecordsNow
from proxy.telemetry.rollback import RollbackNow

STATE_VALUES = {"closed": 0, "half_open": 1, "open": 2}
"""`fusebox_breaker_state`, as the contract numbers it."""

_LE = [*map(str, BOUNDS_S), "+Inf"]
_AGREEMENT_LE = [*map(str, AGREEMENT), "+Inf"]


class Breaker(Protocol):
    """What is read from a breaker; `now` is monotonic seconds."""

    def snapshot(self, now: float) -> BreakerStatus: ...


class Observed(Protocol):
    """What is read from the data plane."""

    @property
    def policy(self) -> Policy: ...

    @property
    def breakers(self) -> Mapping[str, Breaker]: ...


class SidecarCollector(Collector):
    """All metrics of one sidecar. `policy_age_s` returns the seconds since the policy was published."""

    def __init__(
        self,
        counters: Counters,
        observed: Observed,
        policy_age_s: Callable[[], float],
        *,
        records: Callable[[], RecordsNow] | None = None,
        rollback: Callable[[], RollbackNow] | None = None,
        monotonic: Clock = monotonic,
    ) -> None:
        self._counters = counters
        self._observed = observed
        self._policy_age_s = policy_age_s
        self._records = records
        self._rollback = rollback
        self._monotonic = monotonic

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._upstreams()
        yield from self._breakers()
        yield from self._recommendations()
        yield from self._cache()
        yield from self._shadows()
        yield from self._asides()
        yield from self._audit()
        if self._rollback is not None:
            yield from rollback.metrics(self._rollback())
        yield from self._process()

    def _requests(self) -> Iterator[Metric]:
        total = CounterMetricFamily(
            "fusebox_requests", "Requests answered.", labels=("route", "arm", "status_class")
        )
        seconds = HistogramMetricFamily(
            "fusebox_request_seconds", "Request head read to answer sent.", labels=("route", "arm")
        )
        for (route, arm), cell in sorted(self._counters.routes.items()):
            for status_class in range(1, 6):
                total.add_metric((route, arm, f"{status_class}xx"), cell.status[status_class])
            _add_histogram(seconds, (route, arm), cell)
        yield total
        yield seconds
        yield _counter(
            "fusebox_refusals",
            "Requests the sidecar answered itself.",
            ("code",),
            _by_one(self._counters.refusals),
        )
        yield GaugeMetricFamily("fusebox_connections", "Open client connections.", self._counters.connections)

    def _upstreams(self) -> Iterator[Metric]:
        upstream = ("upstream",)
        total = CounterMetricFamily(
            "fusebox_upstream_requests", "Calls of an upstream.", labels=("upstream", "outcome")
        )
        seconds = HistogramMetricFamily(
            "fusebox_upstream_seconds", "Call sent to first byte of its answer.", labels=upstream
        )
        inflight = GaugeMetricFamily("fusebox_inflight", "Calls running now.", labels=upstream)
        queued = GaugeMetricFamily("fusebox_queued", "Calls waiting for a place.", labels=upstream)
        retries = CounterMetricFamily("fusebox_retries", "Calls repeated.", labels=upstream)
        for name, cell in sorted(self._counters.upstreams.items()):
            for outcome, count in cell.outcomes.items():
                total.add_metric((name, outcome), count)
            _add_histogram(seconds, (name,), cell)
            inflight.add_metric((name,), cell.inflight)
            queued.add_metric((name,), cell.queued)
            retries.add_metric((name,), cell.retries)
        yield from (total, seconds, inflight, queued, retries)

    def _breakers(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "fusebox_breaker_state", "0 closed, 1 half-open, 2 open.", labels=("upstream",)
        )
        share = GaugeMetricFamily(
            "fusebox_breaker_ramp_share",
            "Share of users let in: below 1 after closing while a ramp runs, 0 unless closed.",
            labels=("upstream",),
        )
        now = self._monotonic()
        for name, breaker in sorted(self._observed.breakers.items()):
            status = breaker.snapshot(now)
            state.add_metric((name,), STATE_VALUES[status.state])
            share.add_metric((name,), status.ramp_share)
        yield from (state, share)
        yield _counter(
            "fusebox_breaker_transitions",
            "State changes, by the rule that caused them.",
            ("upstream", "to", "rule"),
            self._counters.transitions.items(),
        )

    def _recommendations(self) -> Iterator[Metric]:
        asked, covered = self._counters.slots_asked, self._counters.slots_covered
        yield _counter(
            "fusebox_recommend_level",
            "Where recommend answers came from, A to D.",
            ("level",),
            _by_one(self._counters.levels),
        )
        yield CounterMetricFamily(
            "fusebox_unsticky_requests", "Recommend requests without a user.", self._counters.unsticky
        )
        yield CounterMetricFamily("fusebox_slots_asked", "Items asked for, judged requests.", asked)
        yield CounterMetricFamily("fusebox_slots_covered", "… filled without popularity.", covered)
        coverage = GaugeMetricFamily(
            "fusebox_coverage", "Share of asked items filled without popularity since the start."
        )
        if asked:  # no data is neither 0 nor 1 (facts 2.6)
            coverage.add_metric((), covered / asked)
        yield coverage

    def _cache(self) -> Iterator[Metric]:
        counters = self._counters
        yield _counter(
            "fusebox_cache_requests",
            "Sources that were to be asked, by what the cache had.",
            ("result",),
            _by_one(counters.cache),
        )
        yield CounterMetricFamily(
            "fusebox_coalesced", "… that another request was asking already.", counters.coalesced
        )
        yield GaugeMetricFamily("fusebox_cache_bytes", "Memory the cache takes.", counters.cache_bytes)
        yield GaugeMetricFamily("fusebox_cache_entries", "Answers in the cache.", counters.cache_entries)
        yield CounterMetricFamily(
            "fusebox_cache_evictions", "Answers that made room for others.", counters.cache_evictions
        )
        yield _counter(
            "fusebox_cache_warm", "The warm list: asked, had, failed.", ("result",), _by_one(counters.warm)
        )
        yield GaugeMetricFamily("fusebox_cache_warm_left", "… still to be looked at.", counters.warm_left)

    def _shadows(self) -> Iterator[Metric]:
        total = CounterMetricFamily(
            "fusebox_shadow_requests",
            "Copies of requests, by what became of them.",
            labels=("route", "result"),
        )
        seconds = CounterMetricFamily(
            "fusebox_shadow_seconds", "Spent on answers that were compared.", labels=("route", "answer")
        )
        overlap = HistogramMetricFamily(
            "fusebox_shadow_overlap", "Share of items that both answers have.", labels=("route",)
        )
        rank = HistogramMetricFamily(
            "fusebox_shadow_rank_agreement", "Rank-biased overlap of both answers.", labels=("route",)
        )
        for route, cell in sorted(self._counters.shadows.items()):
            for result, count in cell.results.items():
                total.add_metric((route, result), count)
            seconds.add_metric((route, "real"), cell.real_seconds)
            seconds.add_metric((route, "shadow"), cell.seconds)
            _add_agreement(overlap, route, cell.overlap, cell.overlap_sum)
            _add_agreement(rank, route, cell.rank, cell.rank_sum)
        yield from (total, seconds, overlap, rank)

    def _asides(self) -> Iterator[Metric]:
        """Traffic that must not be judged, in families of its own: no sum over the others has it in it."""
        requests = CounterMetricFamily(
            "fusebox_aside_requests", "Requests not judged.", labels=("why", "route", "arm", "status_class")
        )
        seconds = HistogramMetricFamily(
            "fusebox_aside_request_seconds", "… head read to answer sent.", labels=("why", "route", "arm")
        )
        calls = CounterMetricFamily(
            "fusebox_aside_upstream_requests", "… calls made for them.", labels=("why", "upstream", "outcome")
        )
        levels = CounterMetricFamily("fusebox_aside_level", "… by level.", labels=("why", "level"))
        slots = CounterMetricFamily("fusebox_aside_slots", "… items, by result.", labels=("why", "result"))
        cache = CounterMetricFamily(
            "fusebox_aside_cache_requests", "… sources to be asked.", labels=("why", "result")
        )
        for why, aside in sorted(self._counters.asides.items()):
            for (route, arm), cell in sorted(aside.routes.items()):
                for status_class in range(1, 6):
                    requests.add_metric((why, route, arm, f"{status_class}xx"), cell.status[status_class])
                _add_histogram(seconds, (why, route, arm), cell)
            for name, upstream in sorted(aside.upstreams.items()):
                for outcome, count in upstream.outcomes.items():
                    calls.add_metric((why, name, outcome), count)
            for level, count in sorted(aside.levels.items()):
                levels.add_metric((why, level), count)
            slots.add_metric((why, "asked"), aside.slots_asked)
            slots.add_metric((why, "covered"), aside.slots_covered)
            for result, count in aside.cache.items():
                cache.add_metric((why, result), count)
        yield from (requests, seconds, calls, levels, slots, cache)

    def _audit(self) -> Iterator[Metric]:
        yield _counter(
            "fusebox_audit_actions",
            "Actions of users recorded.",
            ("action", "outcome"),
            self._counters.actions.items(),
        )
        yield CounterMetricFamily(
            "fusebox_audit_lost", "Actions that went on unrecorded.", self._counters.audit_lost
        )
        if self._records is not None:
            yield from records.metrics(self._records())

    def _process(self) -> Iterator[Metric]:
        toggles = self._observed.policy.toggles
        killed = int(toggles.kill_switch)
        yield GaugeMetricFamily("fusebox_kill_switch", "1 while the kill switch is on.", killed)
        yield GaugeMetricFamily("fusebox_toggles_version", "Version of the toggles.", toggles.version)
        yield GaugeMetricFamily(
            "fusebox_exposure_percent", "Share of users exposed, rules aside.", toggles.exposure_percent
        )
        yield GaugeMetricFamily(
            "fusebox_held_buckets",
            "Hundredths of a percent of the users that the flap budget keeps in control, rules aside.",
            sum(high - low for low, high in self._observed.policy.held.get(None, ())),
        )
        yield GaugeMetricFamily(
            "fusebox_policy_age_seconds", "Since the policy was published.", self._policy_age_s()
        )
        yield CounterMetricFamily(
            "fusebox_events_dropped", "Log lines and events lost.", self._counters.events_dropped
        )
        yield GaugeMetricFamily(
            "fusebox_events_stuck",
            "Processes whose event log cannot be written.",
            self._counters.events_stuck,
        )
        yield CounterMetricFamily(
            "fusebox_signals_overflowed",
            "Recommend requests whose segment found no cell of its own.",
            self._counters.signals_overflowed,
        )
        yield GaugeMetricFamily("fusebox_workers", "Workers that carry traffic now.", self._counters.workers)
        yield CounterMetricFamily(
            "fusebox_worker_restarts",
            "Workers that failed and were replaced.",
            self._counters.worker_restarts,
        )


class Metrics:
    """The page that `/metrics` shows: the sidecar's own metrics and the process's."""

    def __init__(self, collector: SidecarCollector) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, in the format the scraper's `Accept` asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _counter(
    name: str, text: str, labels: Sequence[str], counts: Iterable[tuple[tuple[str, ...], int]]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in sorted(counts):
        family.add_metric(values, count)
    return family


def _by_one(counts: Mapping[str, int]) -> Iterator[tuple[tuple[str], int]]:
    return (((name,), count) for name, count in counts.items())


def _add_histogram(family: HistogramMetricFamily, labels: Iterable[str], cell: Cell | UpstreamCell) -> None:
    cumulative = accumulate(cell.buckets)
    family.add_metric(list(labels), list(zip(_LE, cumulative, strict=True)), cell.seconds)


def _add_agreement(family: HistogramMetricFamily, route: str, buckets: list[int], total: float) -> None:
    counts = [*accumulate(buckets), sum(buckets)]
    family.add_metric([route], list(zip(_AGREEMENT_LE, counts, strict=True)), total)
