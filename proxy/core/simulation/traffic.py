"""The deltas that the data plane would hand up: requests drawn at the rate, and what goes wrong with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import product
from math import cos, erfc, log, pi, sqrt
from typing import NamedTuple

from proxy.core.rollback.layers import Layers
from proxy.core.rollback.signals import (
    FAILED,
    FILLED,
    HITS,
    LATE,
    READS,
    REQUESTS,
    SHORT,
    SLOTS,
    Calls,
    Delta,
    Key,
    columns,
)
from proxy.core.simulation.chance import Rng, binomial, poisson
from proxy.core.simulation.incident import Fault, Incident, Traffic, Usual
from proxy.core.simulation.serving import ROUTE, Serving

_P95 = 1.6448536269514722  # of the standard normal distribution


@dataclass(slots=True)
class Tick:
    """What came in one tick: for the engine, and what only the simulation can know."""

    delta: Delta
    requests: int = 0
    harmed: int = 0  # answered worse because of a fault
    withheld: int = 0  # answered otherwise than operators say, because of a layer


class Segment(NamedTuple):
    """Part of the traffic, and its share of it."""

    region: str
    cohort: str
    client: str
    share: float


def segments(traffic: Traffic) -> tuple[Segment, ...]:
    """Every combination; who is where and who uses what know nothing of each other."""
    parts = [traffic.regions or {"": 1.0}, traffic.cohorts or {"": 1.0}, traffic.clients or {"": 1.0}]
    total = 1.0
    for part in parts:
        total *= sum(part.values())
    return tuple(
        Segment(region, cohort, client, first * second * third / total)
        for (region, first), (cohort, second), (client, third) in product(*(part.items() for part in parts))
    )


def rate(traffic: Traffic, at: float) -> float:
    """Requests a second at that moment."""
    if traffic.shape == "flat":
        return traffic.per_s
    return traffic.per_s * (1.0 - traffic.swing * cos(2.0 * pi * at / traffic.day_s))


def late(usual: Usual, target_s: float, added_s: float = 0.0) -> float:
    """The share of requests later than the target."""
    left = (target_s - added_s) * 1000.0
    if left <= 0:
        return 1.0
    spread = max(log(usual.p95_ms / usual.median_ms) / _P95, 1e-9)
    return 0.5 * erfc(log(left / usual.median_ms) / spread / sqrt(2.0))


class Generator:
    """Draws the ticks of one run."""

    def __init__(self, incident: Incident, targets: Sequence[float], rng: Rng) -> None:
        """`targets` in seconds, ascending: those of the latency triggers."""
        self._incident = incident
        self._rng = rng
        self._targets = tuple(targets)
        self._segments = segments(incident.traffic)
        self._serving = Serving(incident.traffic)
        self._late = _chain(late(incident.usual, target) for target in self._targets)
        self._slower = {
            added: _chain(late(incident.usual, target, added / 1000.0) for target in self._targets)
            for added in {it.add_ms for it in incident.faults if it.kind == "latency"}
        }
        self._hanging: list[tuple[float, Key, str, int]] = []
        self._width = columns(len(self._targets))

    def tick(self, at: float, seconds: float, layers: Layers) -> Tick:
        """What is counted from `at` on for so long, under these layers."""
        incident, rng = self._incident, self._rng
        tick = Tick(Delta(targets=self._targets))
        cells: dict[Key, list[int]] = {}
        calls: dict[str, list[int]] = {}
        expected = rate(incident.traffic, at + seconds / 2) * seconds
        active = [
            (it, strength)
            for it in incident.faults
            if it.kind != "critical" and (strength := it.strength(at)) > 0
        ]
        active += self._overloaded(expected / seconds, layers)
        for segment in self._segments:
            mine = [(it, strength) for it, strength in active if it.hits(*segment[:3])]
            for part in self._serving.parts(layers, *segment[:3]):
                n = poisson(expected * segment.share * part.share, rng)
                if not n:
                    continue
                key = Key(
                    ROUTE,
                    part.arm,
                    part.side,
                    segment.region.encode(),
                    segment.cohort.encode(),
                    segment.client.encode(),
                )
                counts = cells.setdefault(key, [0] * self._width)
                for source in part.calls:
                    calls.setdefault(source, [0, 0, 0])[0] += n
                hits = self._counted(counts, n, [it for it in mine if part.hit_by(it[0])], key, at, calls)
                tick.requests += n
                tick.harmed += hits
                tick.withheld += n if part.withheld else 0
        self._ended(at + seconds, cells, calls)
        tick.delta = Delta(
            targets=self._targets,
            cells=cells,
            upstreams={name: Calls(*counted) for name, counted in calls.items()},
        )
        return tick

    def _overloaded(self, per_s: float, layers: Layers) -> Iterator[tuple[Fault, float]]:
        """What a source is asked beyond its capacity fails, whoever asks."""
        for source, most in self._incident.capacity.items():
            asked = per_s * sum(
                segment.share * part.share
                for segment in self._segments
                for part in self._serving.parts(layers, *segment[:3])
                if source in part.calls
            )
            if asked > most:
                yield Fault(kind="errors", from_s=0.0, source=source), 1.0 - most / asked

    def _counted(
        self,
        counts: list[int],
        n: int,
        faults: Sequence[tuple[Fault, float]],
        key: Key,
        at: float,
        calls: dict[str, list[int]],
    ) -> int:
        """Put `n` requests into a cell; how many of them a fault has hit."""
        usual, k, rng = self._incident.usual, self._incident.traffic.k, self._rng
        failed = binomial(n, usual.errors, rng)
        short = 500 * binomial(n, 2.0 * usual.short, rng)
        missed = binomial(n, usual.misses, rng)
        harmed, prompt = 0, n  # prompt: not made slower by a fault
        for fault, strength in faults:
            hits = binomial(prompt if fault.kind in {"latency", "hang"} else n, strength, rng)
            if not hits:
                continue
            on_source = calls.get(fault.source or "cf")
            if fault.kind == "errors":
                failed = min(n, failed + hits)
                if on_source:
                    on_source[1] += hits
            elif fault.kind == "coverage":
                short += round(1000 * fault.lost * hits)
            elif fault.kind == "cache":
                missed = min(n, missed + hits)
            elif fault.kind == "latency":
                prompt -= hits
                self._lateness(counts, hits, self._slower[fault.add_ms])
                if on_source:
                    on_source[2] += hits
            else:
                prompt -= hits
                for column in range(LATE, LATE + len(self._targets)):
                    counts[column] += hits
                heappush(self._hanging, (at + fault.hang_s, key, fault.source or "cf", hits))
            harmed += hits if fault.kind != "cache" else 0
        self._lateness(counts, prompt, self._late)
        short = min(1000 * n, short)
        counts[REQUESTS] += n
        counts[FAILED] += failed
        counts[SLOTS] += n * k
        counts[FILLED] += n * k - round(short * k / 1000)
        counts[SHORT] += short
        counts[READS] += n
        counts[HITS] += n - missed
        return min(n, harmed)

    def _lateness(self, counts: list[int], n: int, chain: Sequence[float]) -> None:
        """Who is later than the second target is later than the first, too."""
        for column, share in enumerate(chain, LATE):
            n = binomial(n, share, self._rng)
            if not n:
                return
            counts[column] += n

    def _ended(self, until: float, cells: dict[Key, list[int]], calls: dict[str, list[int]]) -> None:
        """Calls that have hung long enough fail; their requests were counted when they became late."""
        while self._hanging and self._hanging[0][0] <= until:
            _, key, source, hits = heappop(self._hanging)
            cells.setdefault(key, [0] * self._width)[FAILED] += hits
            calls.setdefault(source, [0, 0, 0])[1] += hits


def _chain(shares: Iterator[float]) -> tuple[float, ...]:
    """Of those later than one target, the share later than the next."""
    known = list(shares)
    return tuple(
        share / before if before else 0.0 for before, share in zip([1.0, *known], known, strict=False)
    )
