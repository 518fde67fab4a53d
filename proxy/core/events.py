"""The event log: its settings, the kinds of events, what the loop hands over and which columns it becomes.

An event crosses from the loop to the writer as a plain tuple whose first member is its kind; the aliases
below are the layouts that both sides hold on to. `now` is monotonic, durations are seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from annotated_types import Ge, Gt, Interval

from proxy.core.audit_settings import STRICT
from proxy.core.rollback.signals import Key, Side

Kind: TypeAlias = Literal["ranking", "error", "request", "effect", "transition", "aggregate"]
Severity: TypeAlias = Literal["warning", "error", "critical"]
Fsync: TypeAlias = Literal["never", "rotate", "batch"]

JUDGED: frozenset[Side] = frozenset({"exposed", "control", "staged", "recovered"})
"""The sides that triggers judge. Whatever is on another one is `shadow` in the log (facts 2.18)."""

# kind, now, request id, user, segment, seconds, body of the answer (b"": none), status, failed, stage, weight
RankingEvent: TypeAlias = tuple[
    Literal["ranking"], float, bytes, bytes, Key, float, bytes, int, bool, str, float
]
# kind, now, request id, segment, component, severity, code, message
ErrorEvent: TypeAlias = tuple[Literal["error"], float, bytes, Key, str, Severity, str, str]
# kind, now, request id, user, route, method, status, outcome, seconds, weight
RequestEvent: TypeAlias = tuple[Literal["request"], float, bytes, bytes, str, bytes, int, str, float, float]
# kind, now, request id, user, route, action, outcome, status, reason
EffectEvent: TypeAlias = tuple[Literal["effect"], float, bytes, bytes, str, str, str, int, str]
# kind, now, columns as in `COLUMNS`, without those of time
TransitionEvent: TypeAlias = tuple[Literal["transition"], float, Mapping[str, Any]]
Event: TypeAlias = RankingEvent | ErrorEvent | RequestEvent | EffectEvent | TransitionEvent

_TIME = {"event_date": "DATE", "timestamp_ms": "BIGINT"}
_REQUEST = {"request_id": "STRING", **_TIME}
_SEGMENT = {
    "shadow": "BOOLEAN",  # must not be judged
    "side": "STRING",
    "route": "STRING",
    "arm": "STRING",
    "region": "STRING",
    "cohort": "STRING",
    "client": "STRING",
}
COLUMNS: Mapping[Kind, Mapping[str, str]] = {
    "ranking": {
        **_REQUEST,
        "user_id": "STRING",  # a keyed hash
        **_SEGMENT,
        "bucket": "INT",
        "k": "INT",
        "k_returned": "INT",
        "coverage": "DOUBLE",  # slots filled without popularity ÷ k (facts 2.19)
        "latency_ms": "DOUBLE",
        "algorithm": "STRING",  # the policy that was carried out
        "alpha": "DOUBLE",
        "items": "ARRAY<STRING>",
        "level": "STRING",
        "cache": "STRING",
        "exposed": "BOOLEAN",
        "stage": "STRING",  # of a rollback; "" where none applied
        "toggles_version": "BIGINT",
        "status": "INT",
        "failed": "BOOLEAN",  # as the error trigger counts (facts 2.20)
        "weight": "DOUBLE",  # requests that this one stands for: 1 ÷ [events] sample
    },
    "error": {
        **_REQUEST,
        **_SEGMENT,
        "component": "STRING",  # the upstream, or "sidecar"
        "severity": "STRING",
        "error_code": "STRING",
        "message": "STRING",
    },
    "request": {
        **_REQUEST,
        "user_id": "STRING",
        "route": "STRING",
        "method": "STRING",
        "status": "INT",
        "outcome": "STRING",  # "" as answered by the upstream, else why not
        "latency_ms": "DOUBLE",
        "weight": "DOUBLE",
    },
    "effect": {
        **_REQUEST,
        "user_id": "STRING",
        "route": "STRING",
        "action": "STRING",
        "outcome": "STRING",
        "status": "INT",
        "reason": "STRING",
    },
    "transition": {
        **_TIME,
        "subject": "STRING",  # "rollback", or "breaker NAME"
        "state_before": "STRING",
        "state_after": "STRING",
        "event": "STRING",
        "stage": "STRING",
        "actor": "STRING",
        "reason": "STRING",
        "triggers": "ARRAY<STRING>",  # that caused it
        "evidence": "STRING",  # JSON: what they answered
        "layers_before": "STRING",  # JSON
        "layers_after": "STRING",
    },
    "aggregate": {
        **_TIME,  # when the hour begins
        **_SEGMENT,
        "requests": "BIGINT",
        "failed": "BIGINT",
        "answers": "BIGINT",  # … with a coverage
        "coverage_sum": "DOUBLE",
        "underfilled": "BIGINT",
        "late_75": "BIGINT",
        "late_200": "BIGINT",
        "p95_latency": "DOUBLE",  # of this segment and hour; never to be averaged
    },
}
"""Columns of each kind with their types in words of Spark SQL (facts 1, and what queries need beside)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsSettings:
    """`[events]`: the event log; without the section there is none."""

    __pydantic_config__: ClassVar[Any] = STRICT
    directory: str = ""  # relative to the settings file; empty: no event log
    sample: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Share of the ranking events that is kept, each with its weight; all others always are."""
    request_sample: Annotated[float, Interval(gt=0, le=1)] = 0.01
    """The same of the request events; those of 5xx always are."""
    buffer_events: Annotated[int, Ge(100)] = 10_000  # that wait for the writer; more are dropped, and counted
    rotate_bytes: Annotated[int, Ge(4096)] = 64 * 1024 * 1024
    rotate_s: Annotated[float, Gt(0)] = 300.0
    fsync: Fsync = "rotate"
    """When a file is flushed to the disk: `never`, when it is finished (`rotate`), or after each `batch` of
    0.1 s. It matters for the death of the machine only."""
    max_bytes: Annotated[int, Ge(1024 * 1024)] = 10 * 1024 * 1024 * 1024
    """Of all files together; then the oldest go first."""
    retention_days: Annotated[int, Ge(1)] = 90
    error_retention_days: Annotated[int, Ge(1)] = 30
    critical_retention_days: Annotated[int, Ge(1)] = 90  # of errors with the severity critical
    aggregate_retention_days: Annotated[int, Ge(1)] = 400
