"""An incident as it is described: traffic, what is usual, what breaks, and what is expected to come of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from annotated_types import Ge, Gt, Interval, Len

from proxy.core.audit_settings import STRICT
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.toggles import Mode, Scope

Share: TypeAlias = Annotated[float, Interval(ge=0, le=1)]
Seconds: TypeAlias = Annotated[float, Ge(0)]
Names: TypeAlias = Mapping[str, Annotated[float, Interval(gt=0, le=1e6)]]
DAY_S = 86_400.0
Source: TypeAlias = Literal["cf", "content", "control"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Who asks, and how often."""

    __pydantic_config__: ClassVar[Any] = STRICT
    per_s: Annotated[float, Interval(gt=0, le=1e6)] = 50.0  # requests a second, on average
    shape: Literal["flat", "diurnal"] = "flat"
    swing: Share = 0.6  # diurnal: so much more at noon and less at midnight, as a share of `per_s`
    day_s: Annotated[float, Gt(0)] = DAY_S  # the length of a day; it begins at midnight
    control_percent: Annotated[float, Interval(ge=0, lt=100)] = 0.0  # not exposed
    policy_mode: Mode | None = None  # what the operator's toggles say
    control_upstream: bool = False  # whether who is not exposed is served by one; else popularity
    regions: Names = field(default_factory=dict)  # weights; empty: nobody says where they are
    cohorts: Names = field(default_factory=dict)
    clients: Names = field(default_factory=dict)
    k: Annotated[int, Ge(1)] = 20  # slots asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What goes wrong on a good day, as shares of requests. Latency is lognormal."""

    __pydantic_config__: ClassVar[Any] = STRICT
    errors: Share = 0.000_2
    short: Annotated[float, Interval(ge=0, le=0.5)] = 0.005  # of the slots; a short answer lacks half
    misses: Share = 0.12
    median_ms: Annotated[float, Gt(0)] = 18.0
    p95_ms: Annotated[float, Gt(0)] = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What breaks, for whom, from when until when. Several may hold at a time."""

    __pydantic_config__: ClassVar[Any] = STRICT
    kind: Literal["errors", "latency", "hang", "coverage", "cache", "critical"]
    from_s: Seconds
    until_s: Annotated[float, Gt(0)] | None = None  # None: to the end
    share: Annotated[float, Interval(gt=0, le=1)] = 1.0  # of the requests it can hit, at its height
    shape: Literal["step", "ramp", "pulses"] = "step"
    rise_s: Annotated[float, Gt(0)] = 600.0  # ramp: from nothing to its height
    on_s: Annotated[float, Gt(0)] = 30.0  # pulses: so long there …
    off_s: Annotated[float, Gt(0)] = 30.0  # … and so long gone
    source: Source | Literal[""] = ""  # hits who asks this one; empty: who asks anybody
    side: Literal["", "exposed", "control"] = ""  # hits these only: a change does not touch control
    regions: tuple[str, ...] = ()  # empty: all
    cohorts: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    add_ms: Annotated[float, Gt(0)] = 300.0  # latency: slower by
    hang_s: Annotated[float, Gt(0)] = 5.0  # hang: until it has failed; late it is long before
    lost: Annotated[float, Interval(gt=0, le=1)] = 1.0  # coverage: of the slots of a request that is hit
    critical: Literal["breaker_open", "contract_broken", "crash_loop"] = "breaker_open"  # critical: what

    def strength(self, at: float) -> float:
        """The share of the requests it can hit that it does hit at `at`."""
        since = at - self.from_s
        if since < 0 or (self.until_s is not None and at >= self.until_s):
            return 0.0
        if self.shape == "ramp":
            return self.share * min(1.0, since / self.rise_s)
        if self.shape == "pulses" and since % (self.on_s + self.off_s) >= self.on_s:
            return 0.0
        return self.share

    def hits(self, region: str, cohort: str, client: str) -> bool:
        asked = (self.regions, region), (self.cohorts, cohort), (self.clients, client)
        return all(not names or name in names for names, name in asked)


State: TypeAlias = Literal[
    "NORMAL", "DEGRADED", "ROLLBACK_PENDING", "ROLLED_BACK", "RECOVERY_VERIFY", "MANUAL_OVERRIDE"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What has to come of it, whatever the seed."""

    __pydantic_config__: ClassVar[Any] = STRICT
    final: Annotated[tuple[State, ...], Len(1)]  # one of these at the end
    acts: bool  # whether it is rolled back
    within_s: Annotated[float, Gt(0)] | None = None  # … so long after the first fault began
    detected_within_s: Annotated[float, Gt(0)] | None = None
    recovered_within_s: Annotated[float, Gt(0)] | None = None  # NORMAL, so long after the last fault ended
    flaps_at_most: Annotated[int, Ge(0)] | None = None  # rollbacks after the first
    regions: tuple[str, ...] = ()  # the scope of the first rollback; empty: all
    cohorts: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()

    @property
    def scope(self) -> Scope:
        return Scope(self.regions, self.cohorts, self.clients)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A file of incidents, as a whole."""

    __pydantic_config__: ClassVar[Any] = STRICT
    title: Annotated[str, Len(1)]
    about: str = ""
    seconds: Annotated[float, Interval(gt=0, le=400 * DAY_S)]  # how long it is looked at
    capacity: Mapping[Source, Annotated[float, Gt(0)]] = field(default_factory=dict)
    """What each source can take, in requests a second; what it is asked beyond fails. Not named: all."""
    traffic: Traffic = field(default_factory=Traffic)
    usual: Usual = field(default_factory=Usual)
    faults: tuple[Fault, ...] = ()
    rollback: RollbackSettings = field(default_factory=lambda: RollbackSettings(mode="act"))
    expect: Expect | None = None

    @property
    def began(self) -> float | None:
        """When the first fault begins; None: nothing breaks."""
        return min((it.from_s for it in self.faults), default=None)

    @property
    def over(self) -> float | None:
        """When the last one has ended; None: one lasts to the end, or nothing breaks."""
        ends = [it.until_s for it in self.faults]
        known = [it for it in ends if it is not None and it < self.seconds]
        return max(known) if known and len(known) == len(ends) else None

    def broken(self, at: float) -> bool:
        """Whether anything is, at that moment; a pulse counts as broken throughout."""
        return any(it.from_s <= at and (it.until_s is None or at < it.until_s) for it in self.faults)
