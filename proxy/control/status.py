"""What runs here, as one plain value that the API renders and the command line prints."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from proxy import __version__
from proxy.clock import Clock, monotonic
from proxy.control.breakers import BreakerControl, BreakerReport
from proxy.control.flaps import HeldStatus
from proxy.control.kill import KillStatus, KillSwitch
from proxy.control.rollback_shown import RollbackBrief
from proxy.control.toggles import ReturnStatus, ToggleControl
from proxy.core.policy import Shadow
from proxy.core.shadow import COMPARED
from proxy.core.toggles import BY_NAME
from proxy.ports import Plane, ShadowTraffic, Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamStatus:
    urls: tuple[str, ...]
    inflight: int
    queued: int
    max_inflight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteStatus:
    name: str
    path: str
    kind: str
    upstreams: tuple[str, ...]
    flag: str
    on: bool  # False: its flag is off
    priority: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowStatus:
    """What copies of one route's requests showed. Means are of compared answers; none: nothing to tell."""

    percent: float
    to: str  # an upstream; empty: a second plan
    compared: int
    same: int
    overlap: float | None
    rank_agreement: float | None
    real_ms: float | None
    shadow_ms: float | None
    results: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One worker process. While one is replaced, old and new stand here with the same number."""

    number: int
    pid: int  # 0 while waiting
    state: Literal["starting", "serving", "draining", "waiting"]  # waiting: failed, started again later
    for_s: float  # in this state
    connections: int
    restarts: int  # workers of this number that failed and were replaced
    failed: str  # how the last one did; empty: none has


@dataclass(frozen=True, slots=True, kw_only=True)
class ToggleStatus:
    """Which toggles are in force, whose, and what of them returns by itself."""

    version: int
    baseline: str | None
    by: str
    at: str  # RFC 3339
    reason: str
    changed: Mapping[str, Any]  # toggles that are not as by default; the kill switch stands for itself
    rules: int
    frozen: str | None  # the experiment that is; None: none is
    reverts: tuple[ReturnStatus, ...]
    troubles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """How the last reload of the settings ended. `at` is RFC 3339."""

    ok: bool
    at: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Contract, `GET /v1/status`. Times in seconds."""

    version: str
    uptime_s: float
    draining: bool
    policy_version: int
    policy_age_s: float
    kill: KillStatus
    toggles: ToggleStatus
    connections: int
    routes: tuple[RouteStatus, ...]
    upstreams: Mapping[str, UpstreamStatus]
    breakers: Mapping[str, BreakerReport]
    reload: Reload | None  # None: settings are as at the start
    workers: tuple[WorkerStatus, ...] = ()  # empty: one process does everything
    shadows: Mapping[str, ShadowStatus] = field(default_factory=dict)  # by route, of those that have one
    held: tuple[HeldStatus, ...] = ()  # users whom the flap budget keeps in control
    rollback: RollbackBrief | None = None  # None: it is off
    troubles: tuple[str, ...] = ()  # what is wrong and keeps no traffic away, such as the store


class StatusBoard:
    """Reads the status on request; `runtime` pins the outcome of a reload to it."""

    def __init__(
        self,
        plane: Plane,
        traffic: Traffic,
        *,
        kill: KillSwitch,
        breakers: BreakerControl,
        toggles: ToggleControl,
        workers: Callable[[], tuple[WorkerStatus, ...]] = tuple,
        troubles: Callable[[], Iterable[str]] = tuple,
        held: Callable[[], tuple[HeldStatus, ...]] = tuple,
        rollback: Callable[[], RollbackBrief | None] = lambda: None,
        monotonic: Clock = monotonic,
    ) -> None:
        self.reload: Reload | None = None
        self._plane = plane
        self._traffic = traffic
        self._kill = kill
        self._breakers = breakers
        self._toggles = toggles
        self._workers = workers
        self._troubles = troubles
        self._held = held
        self._rollback = rollback
        self._monotonic = monotonic
        self._started = monotonic()
        self._seen = (plane.policy, self._started)

    def policy_age_s(self) -> float:
        """Seconds since the policy in force was first seen here, which is at most one scrape late."""
        now = self._monotonic()
        if self._seen[0] is not self._plane.policy:
            self._seen = (self._plane.policy, now)
        return now - self._seen[1]

    def read(self) -> Status:
        return Status(
            version=__version__,
            uptime_s=round(self._monotonic() - self._started, 3),
            draining=self._plane.draining,
            policy_version=self._plane.policy.toggles.version,
            policy_age_s=round(self.policy_age_s(), 3),
            kill=self._kill.status,
            toggles=_toggles(self._toggles),
            connections=self._traffic.connections,
            routes=tuple(self._routes()),
            upstreams=self._upstreams(),
            breakers=self._breakers.read(),
            shadows={
                route.name: _shadow(route.shadow, self._traffic.shadows.get(route.name))
                for route in self._plane.policy.routes
                if route.shadow.percent
            },
            reload=self.reload,
            workers=self._workers(),
            held=self._held(),
            rollback=self._rollback(),
            troubles=tuple(self._troubles()),
        )

    def _routes(self) -> list[RouteStatus]:
        flags = self._plane.policy.toggles.flags
        return [
            RouteStatus(
                name=route.name,
                path=route.path,
                kind=route.kind,
                upstreams=tuple(
                    name
                    for name in (
                        route.upstream,
                        route.sources.cf,
                        route.sources.content,
                        route.sources.control,
                    )
                    if name
                ),
                flag=route.flag,
                on=not route.flag or flags.get(route.flag, True),
                priority=route.priority,
            )
            for route in self._plane.policy.routes
        ]

    def _upstreams(self) -> dict[str, UpstreamStatus]:
        traffic = self._traffic.upstreams
        rows = {}
        for name, upstream in self._plane.policy.upstreams.items():
            now = traffic.get(name)
            rows[name] = UpstreamStatus(
                urls=upstream.urls,
                inflight=now.inflight if now else 0,
                queued=now.queued if now else 0,
                max_inflight=upstream.max_inflight,
            )
        return rows


def _shadow(settings: Shadow, now: ShadowTraffic | None) -> ShadowStatus:
    results = now.results if now else {}
    compared = sum(results.get(result, 0) for result in COMPARED)

    def mean(total: float, n: int, digits: int = 4) -> float | None:
        return round(total / n, digits) if n else None

    ranked = sum(now.overlap) if now else 0
    return ShadowStatus(
        percent=settings.percent,
        to=settings.upstream,
        compared=compared,
        same=results.get("same", 0),
        overlap=mean(now.overlap_sum, ranked) if now else None,
        rank_agreement=mean(now.rank_sum, ranked) if now else None,
        real_ms=mean(now.real_seconds * 1000, compared, 3) if now else None,
        shadow_ms=mean(now.seconds * 1000, compared, 3) if now else None,
        results={result: count for result, count in results.items() if count},
    )


def _is_changed(name: str, value: Any) -> bool:
    return name != "kill_switch" and bool(value != BY_NAME[name].default)


def _toggles(toggles: ToggleControl) -> ToggleStatus:
    now = toggles.held
    frozen = now.document.experiment
    return ToggleStatus(
        version=toggles.version,
        baseline=toggles.baseline,
        by=now.actor,
        at=now.at,
        reason=now.reason,
        changed={name: value for name, value in toggles.read().toggles.items() if _is_changed(name, value)},
        rules=len(now.document.toggles.rules),
        frozen=None if frozen is None else frozen.name,
        reverts=toggles.reverts,
        troubles=tuple(toggles.troubles()),
    )
