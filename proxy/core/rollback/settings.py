"""The settings of triggers and rollback, each with its unit and default."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Interval, Len

from proxy.core.audit_settings import STRICT
from proxy.core.rollback.verdicts import Metric, Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One trigger: more than `share` of the requests went wrong."""

    __pydantic_config__: ClassVar[Any] = STRICT
    name: Annotated[str, Len(1)]
    metric: Metric
    priority: Priority
    share: Annotated[float, Interval(gt=0, lt=1)]  # that is still allowed
    target_ms: Annotated[float, Gt(0)] | None = None  # latency: later than this


DEFAULT_TRIGGERS: tuple[Trigger, ...] = (
    Trigger(name="coverage_p1", metric="coverage", priority="P1", share=0.05),
    Trigger(name="latency_p1", metric="latency", priority="P1", share=0.05, target_ms=200),
    Trigger(name="error_p1", metric="error", priority="P1", share=0.001),
    Trigger(name="coverage_p2", metric="coverage", priority="P2", share=0.02),
    Trigger(name="latency_p2", metric="latency", priority="P2", share=0.05, target_ms=75),
    Trigger(name="error_p2", metric="error", priority="P2", share=0.0005),
    Trigger(name="cache_p2", metric="cache", priority="P2", share=0.30),
)
"""The source's thresholds, as facts 2.3 and 2.5 read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackSettings:
    """`[rollback]`. Times in seconds."""

    __pydantic_config__: ClassVar[Any] = STRICT
    mode: Literal["act", "watch", "off"] = "watch"
    """`act`: takes bad changes back; `watch`: judges and tells, changes nothing; `off`: judges nothing."""
    triggers: tuple[Trigger, ...] = DEFAULT_TRIGGERS
    critical_upstreams: tuple[str, ...] = ()  # whose open breaker is a critical failure
    false_alarm_days: Annotated[float, Gt(0)] = 3_650.0
    """How long, on average, traffic exactly at a threshold goes on before its trigger breaches by chance."""
    minimum_requests: Annotated[int, Ge(1)] = 20  # fewest in the window before a trigger answers
    window_s: Annotated[float, Ge(60)] = 600.0
    confirm_s: Annotated[float, Ge(0)] = 3.0  # in ROLLBACK_PENDING, unless the breach is seen to have passed
    degraded_green_s: Annotated[float, Ge(0)] = 120.0  # of green, until DEGRADED goes back to NORMAL
    escalate_s: Annotated[float, Gt(0)] = 30.0  # of P1 going on, until the next stage
    hold_s: Annotated[float, Ge(0)] = 300.0  # in ROLLED_BACK before recovery is tried
    hold_factor: Annotated[float, Ge(1)] = 2.0  # longer with each recovery that failed ...
    hold_max_s: Annotated[float, Gt(0)] = 3_600.0  # … up to so long
    recovery_steps: tuple[Annotated[float, Interval(gt=0, le=100)], ...] = (
        1.0,
        5.0,
        25.0,
        50.0,
        100.0,
    )  # percent
    recovery_step_s: Annotated[float, Gt(0)] = 120.0  # of green, each step
    flaps: Annotated[int, Ge(1)] = 3  # rollbacks within `flaps_s`; then it stays back until released
    flaps_s: Annotated[float, Gt(0)] = 3_600.0

    @property
    def targets(self) -> tuple[float, ...]:
        """What requests are later than, as `signals` counts it: seconds, ascending."""
        return tuple(sorted({it.target_ms / 1000 for it in self.triggers if it.target_ms is not None}))
