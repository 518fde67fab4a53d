"""The values that go into a breaker and come out of it; `proxy.core.breaker` is their address."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, TypeAlias

from annotated_types import Ge, Gt, Interval

State: TypeAlias = Literal["closed", "open", "half_open"]
Rule: TypeAlias = Literal[
    "failure_rate",
    "consecutive_failures",
    "slow_rate",
    "cooldown",
    "probes_passed",
    "probes_failed",
    "lease_expired",
    "half_open_timeout",
    "manual",
]
CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"


class Outcome(IntEnum):
    """How a call ended. Neutral: client aborts, client-caused failures, answers made by the sidecar."""

    SUCCESS = 0
    FAILURE = 1
    NEUTRAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When a breaker trips, how it probes, how it lets traffic back. ValueError when two fields disagree."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    failure_rate: Annotated[float, Interval(gt=0, le=1)] = 0.5  # failures ÷ calls in the window that trip
    slow_rate: Annotated[float, Interval(gt=0, le=1)] = 0.8  # slow calls ÷ calls in the window that trip
    slow_call_ms: Annotated[float, Gt(0)] = 1_000.0  # admitted → response head; longer is slow
    minimum_calls: Annotated[int, Ge(1)] = 20  # in the window, before a rate is judged
    window_s: Annotated[float, Gt(0)] = 10.0
    consecutive_failures: Annotated[int, Ge(0)] = 5  # trip whatever the rates; 0: this rule is off
    cooldown_s: Annotated[float, Gt(0)] = 5.0  # open → half-open; doubles with each failed recovery
    cooldown_max_s: Annotated[float, Gt(0)] = 120.0  # before jitter; closed this long resets the doubling
    cooldown_jitter: Annotated[float, Interval(ge=0, lt=1)] = 0.1  # share of each cooldown, more or less
    probes: Annotated[int, Ge(1)] = 3  # M
    probe_successes: Annotated[int, Ge(1)] = 2  # N of M close it
    probe_concurrency: Annotated[int, Ge(1)] = 1  # probes in flight
    probe_lease_s: Annotated[float, Gt(0)] = 5.0  # a probe without a response head by then has failed
    half_open_s: Annotated[float, Gt(0)] = 60.0  # half-open ends by then, with what is known
    ramp_s: Annotated[float, Ge(0)] = 10.0  # 10 % → all users after closing; 0: all at once
    dry_run: bool = False  # decides and reports, refuses only what an operator holds open

    def __post_init__(self) -> None:
        problems = []
        if self.probe_successes > self.probes:
            problems.append(f"probe_successes ({self.probe_successes}) is more than probes ({self.probes})")
        if self.cooldown_max_s < self.cooldown_s:
            problems.append(
                f"cooldown_max_s ({self.cooldown_max_s:g}) is less than cooldown_s ({self.cooldown_s:g})"
            )
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change of state and what caused it. `observed` and `threshold` are in the rule's own unit:
    rates 0…1, counts of failures or probes, seconds for cooldown and half_open_timeout.
    """

    upstream: str
    before: State
    to: State
    rule: Rule
    observed: float
    n: int  # calls in the window, or verdicts of the trial
    threshold: float
    dry_run: bool
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a call was not admitted."""

    rule: Rule | Literal["half_open", "ramp"]
    retry_after_s: int  # at least 1
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatus:
    """A breaker at one moment, to be shown."""

    name: str
    state: State
    forced: Literal["open", "closed"] | None
    dry_run: bool
    generation: int  # changes of state so far
    n: int  # calls in the window
    failures: int
    slow: int
    failure_rate: float  # of the calls in the window; 0 without calls
    slow_rate: float
    consecutive: int  # failures since the last success
    opened_for_s: float  # since it last left closed; 0 while closed
    retry_after_s: int  # 0 while every call is admitted
    ramp_share: float  # share of users admitted: 1 when closed, 0 when open or half-open
    probes_inflight: int
    probes_passed: int
    probes_failed: int
    last: Transition | None


class Cause(NamedTuple):
    """What `Transition` says about why, in its units."""

    rule: Rule
    reason: str
    observed: float = 0.0
    n: int = 0
    threshold: float = 0.0
