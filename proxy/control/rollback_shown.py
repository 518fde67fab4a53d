"""The rollback as it is shown: plain values that the API renders and the command line prints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from proxy.control.rollback_words import says as told
from proxy.control.rollback_words import segment_words
from proxy.core.flaps import BUCKETS
from proxy.core.rollback.judge import Share
from proxy.core.rollback.layers import Patch
from proxy.core.rollback.verdicts import Answer, Critical, Metric, Priority, Verdict

Mode: TypeAlias = Literal["act", "watch", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchStatus:
    """What is laid over the operator's toggles, and for whom."""

    stage: str  # 1, 2, 3, emergency, or the baseline of an override
    toggles: Mapping[str, Any]
    scope: Mapping[str, tuple[str, ...]]
    percent: float  # of the users in the scope
    low: int  # their buckets: from this one
    high: int  # … to below this one
    exact: bool  # False: of each toggle the stricter one holds, the operator's or this

    @classmethod
    def of(cls, patch: Patch) -> "PatchStatus":
        return cls(
            stage=patch.stage,
            toggles=dict(patch.toggles),
            scope=patch.scope._asdict(),
            percent=max(0, patch.high - patch.low) * 100 / BUCKETS,
            low=patch.low,
            high=patch.high,
            exact=patch.exact,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveStatus:
    """A transition. `was` and `now` say what lay over the operator's toggles."""

    at: str  # RFC 3339
    before: str
    to: str
    event: str
    stage: str  # the highest that lies there now, or the baseline of an override
    by: str
    reason: str
    causes: tuple[str, ...]  # what triggers said
    was: str
    now: str
    applied: bool  # False: it was only watched, and nothing changed


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackBrief:
    """Where the rollback stands. Times in seconds."""

    mode: Mode
    state: str
    since: str  # RFC 3339
    for_s: float
    stage: str  # the highest that lies there, or the baseline of an override; empty: none
    applied: bool  # False: `layers` are only what would be in force
    layers: tuple[PatchStatus, ...]
    by: str  # who made the last transition, why; empty: there was none
    reason: str
    began: str  # RFC 3339: when it last left NORMAL; empty: it is in it, or that is too long ago
    cause: str  # why it did
    wrong: tuple[str, ...]  # what is wrong now, the worst first
    next: str  # what comes then
    next_in_s: float | None  # None: at no certain time
    persisted: bool  # a restart would find this state


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackStatus(RollbackBrief):
    """Contract, `GET /v1/rollback`: where the rollback stands, and how it came there, the newest first."""

    learning: bool  # what is normal is being learned; outside NORMAL that stands still
    moves: tuple[MoveStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictStatus:
    """What one trigger answers about one segment. Shares are of what went wrong, 0…1."""

    side: str  # the traffic that was judged
    trigger: str
    metric: Metric
    priority: Priority
    segment: str
    answer: Answer
    threshold: float  # that is still allowed
    observed: float | None  # over the window; None: no data
    bound: float | None  # of it: the lower one over the threshold, else the upper one
    n: int
    needed: int | None  # requests, beyond n, until it could be told
    since: str | None  # RFC 3339: when what is wrong began
    by: Literal["", "window", "detector"]  # who concluded first
    baseline: float | None  # what is normal
    control: float | None  # the same in the control arm
    shared: bool  # the control arm has it as badly: it is not the change
    says: str

    @classmethod
    def of(cls, side: str, it: Verdict, since: str | None) -> "VerdictStatus":
        return cls(
            side=side,
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
            says=told(it),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalStatus:
    """A failure that needs no statistics."""

    kind: Literal["breaker_open", "contract_broken", "crash_loop"]
    name: str
    detail: str

    @classmethod
    def of(cls, it: Critical) -> "CriticalStatus":
        return cls(kind=it.kind, name=it.name, detail=it.detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareStatus:
    """How much of some traffic went wrong over the window, whatever triggers say of it. Shares 0…1."""

    side: str  # empty: the calls of an upstream, whoever they were for
    segment: str
    n: int
    wrong: Mapping[str, float]  # by trigger; of an upstream: failed, late

    @classmethod
    def of(cls, it: Share) -> "ShareStatus":
        return cls(side=it.side or "", segment=segment_words(it.segment), n=it.requests, wrong=it.wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggersStatus:
    """Contract, `GET /v1/triggers`: what each trigger answers now, about each side that is judged."""

    mode: Mode
    state: str
    verdicts: tuple[VerdictStatus, ...]
    criticals: tuple[CriticalStatus, ...]
    shares: tuple[ShareStatus, ...]  # of all traffic, of each part that is looked at by itself, of upstreams
    blamed: str  # the segment that explains the P1 breaches; `all`: none does by itself
    learning: bool
