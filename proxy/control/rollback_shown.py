"""The rollback as it is shown: plain values that the API renders and the command line prints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from proxy.control.rollback_words import layers_words, scope_words, segment_words, verdict_words
from proxy.core.flaps import BUCKETS
from proxy.core.rollback.layers import Layers, Patch
from proxy.core.rollback.verdicts import Answer, Metric, Priority, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchStatus:
    """What is laid over the operator's toggles, and for whom."""

    stage: str  # 1, 2, 3, emergency, or the baseline of an override
    toggles: Mapping[str, Any]
    scope: Mapping[str, tuple[str, ...]]
    low: int  # buckets from here …
    high: int  # … to here
    percent: float  # of the users in the scope
    exact: bool  # False: of each toggle the stricter one holds, the operator's or this

    @classmethod
    def of(cls, patch: Patch) -> "PatchStatus":
        return cls(
            stage=patch.stage,
            toggles=dict(patch.toggles),
            scope=patch.scope._asdict(),
            low=patch.low,
            high=patch.high - 1,
            percent=(patch.high - patch.low) * 100 / BUCKETS,
            exact=patch.exact,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveStatus:
    """A transition. `at` is RFC 3339; `was` and `now` say what lay over the operator's toggles."""

    at: str
    before: str
    to: str
    event: str
    stage: str
    by: str
    reason: str
    causes: tuple[str, ...]
    was: str
    now: str
    applied: bool  # False: only watched, nothing changed


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackStatus:
    """Contract, `GET /v1/rollback`. Moments are RFC 3339, times in seconds."""

    mode: Literal["act", "watch", "off"]
    state: str
    since: str
    for_s: float
    stage: str  # that holds, or would; empty: none
    by: str  # of the last transition, as is the reason; empty: there was none
    reason: str
    causes: tuple[str, ...]  # what the last transition was caused by
    wrong: tuple[str, ...]  # all that is wrong now
    next: str  # what comes, as far as it comes by itself
    next_in_s: float | None  # None: at no certain time
    layers: tuple[PatchStatus, ...]  # in force
    wanted: tuple[PatchStatus, ...]  # … if it were not only watched
    applied: bool  # False: this mode changes nothing by itself
    persisted: bool  # a restart would find this state
    learning: bool  # what is normal is being learned; outside NORMAL it stands still
    moves: tuple[MoveStatus, ...]  # the last ones, the newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictStatus:
    """One trigger about one segment. Shares are of what went wrong, 0…1."""

    trigger: str
    metric: Metric
    priority: Priority
    segment: str
    answer: Answer
    threshold: float
    observed: float | None
    bound: float | None
    n: int
    needed: int | None  # requests, beyond n, until it could be told
    since: str | None
    by: Literal["", "window", "detector"]  # who concluded first
    baseline: float | None
    control: float | None
    shared: bool  # the control arm has it as badly
    says: str

    @classmethod
    def of(cls, it: Verdict, since: str | None) -> "VerdictStatus":
        return cls(
            trigger=it.trigger,
            metric=it.metric,
            priority=it.priority,
            segment=segment_words(it.segment),
            answer=it.answer,
            threshold=it.threshold,
            observed=it.observed,
            bound=it.bound,
            n=it.n,
            needed=it.needed,
            since=since,
            by=it.by,
            baseline=it.baseline,
            control=it.control,
            shared=it.shared,
            says=verdict_words(it),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalStatus:
    """A failure that needs no statistics."""

    kind: str
    name: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggersStatus:
    """Contract, `GET /v1/triggers`. `blamed`: the segment that explains the P1 breaches, or `all`."""

    mode: Literal["act", "watch", "off"]
    state: str
    side: str  # the traffic that was judged
    verdicts: tuple[VerdictStatus, ...]
    criticals: tuple[CriticalStatus, ...]
    blamed: str
    learning: bool
