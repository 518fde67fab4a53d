"""What requests bring along: the records that handlers name in their annotations."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from proxy.admin.shapes import ScopedRules, TogglesByName
from proxy.clock import rfc3339
from proxy.control.toggle_plans import MAX_TTL_S, MIN_TTL_S
from proxy.core.rollback.exercises import Clocks, Name
from proxy.core.toggles import BASELINES

STRICT = {"extra": "forbid"}
REASON_CHARACTERS = 500
_SEEN = r"[^\s\x00-\x20\x7f-\xa0]"  # at least one that can be; what `\s` alone means differs by language


def _digits(given: Any) -> Any:
    if isinstance(given, str) and not (given.isascii() and given.isdigit()):
        raise ValueError("should be a whole number")
    return given


def _whole(given: Any) -> Any:
    """7.0 is a whole number too (JSON Schema)."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


def _baseline(given: str) -> str:
    if given not in BASELINES:
        raise ValueError(f"should be one of {', '.join(BASELINES)}")
    return given


def _moment(given: str) -> str:
    try:
        moment = datetime.fromisoformat(given)
        if moment.tzinfo is None:
            raise ValueError  # noqa: TRY301 - as any other that is none
        return rfc3339(max(0.0, moment.astimezone(UTC).timestamp()))  # no entry is older than that
    except (ValueError, OverflowError):
        raise ValueError("should be a moment with its time zone, like 2026-01-31T12:00:00Z") from None


Cursor = Annotated[str, Field(pattern=r"^[0-9]{1,18}$", description="`next` of the page before.")]
PageSize = Annotated[int, Field(ge=1, le=500), BeforeValidator(_digits)]
Text = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
"""Something that is looked for; empty: anything."""
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"}), AfterValidator(_moment)]
"""RFC 3339, read into the form that the log sorts by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What every change brings."""

    __pydantic_config__: ClassVar[Any] = STRICT
    reason: Annotated[
        str,
        StringConstraints(
            strip_whitespace=True, min_length=1, max_length=REASON_CHARACTERS, pattern=_SEEN, strict=True
        ),
        Field(description="Why, for whoever reads the log."),
    ]


TimeLimit = Annotated[
    float,
    Field(ge=MIN_TTL_S, le=MAX_TTL_S, description="Returns to what was before after so many seconds."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TogglesChange(Reason):
    """Toggles by name, and all the rules if there are to be others. All at once or none."""

    toggles: TogglesByName = field(default_factory=dict)
    rules: ScopedRules | None = None
    ttl_s: TimeLimit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TogglesPreviewed:
    """One change: toggles by name and all the rules, or a baseline, or a version to revert to."""

    __pydantic_config__: ClassVar[Any] = STRICT
    toggles: TogglesByName = field(default_factory=dict)
    rules: ScopedRules | None = None
    baseline: str | None = None
    revert: Annotated[int, Field(ge=1, le=2**53), BeforeValidator(_whole)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagsChange(Reason):
    """Flags by name: true is on."""

    flags: dict[str, bool]
    ttl_s: TimeLimit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineChange(Reason):
    """Why, and for how long."""

    ttl_s: TimeLimit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineName:
    """Which baseline."""

    __pydantic_config__: ClassVar[Any] = STRICT
    name: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionNumber:
    """Which version."""

    __pydantic_config__: ClassVar[Any] = STRICT
    version: Annotated[int, Field(ge=1, le=2**53), BeforeValidator(_digits)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    """Which page of the history."""

    __pydantic_config__: ClassVar[Any] = STRICT
    cursor: Cursor = ""
    limit: PageSize = 50


Stage = Literal["1", "2", "3", "emergency"]
Baseline = Annotated[str, Field(json_schema_extra={"enum": list(BASELINES)}), AfterValidator(_baseline)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(max_length=100)]
"""Of a scope; empty: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackStart(Reason):
    """Which stage, and for whom: who is in all of region, cohort and client."""

    stage: Stage = "2"
    region: Names = ()
    cohort: Names = ()
    client: Names = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackOverride(Reason):
    """Which baseline."""

    baseline: Baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPreviewed:
    """An order: `start` with stage and scope, `override` with a baseline, or `release`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    action: Literal["start", "override", "release"]
    stage: Stage = "2"
    region: Names = ()
    cohort: Names = ()
    client: Names = ()
    baseline: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillStart(Reason):
    """Which drill, and its clocks in seconds."""

    name: Name
    clocks: Clocks = field(default_factory=Clocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerCommand:
    """Which breaker, by its upstream, and what it shall do."""

    __pydantic_config__: ClassVar[Any] = STRICT
    name: Annotated[str, Field(min_length=1)]
    action: Literal["open", "close", "auto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which entries; each field narrows it, and what is left out means any."""

    __pydantic_config__: ClassVar[Any] = STRICT
    action: Annotated[Text, Field(description='As written, or all that begin so: "breaker."')] = ""
    actor: Text = ""
    subject: Annotated[Text, Field(description="Found only until the subject is erased.")] = ""
    target: Text = ""
    outcome: Literal["", "accepted", "refused", "done", "failed", "unknown"] = ""
    request_id: Text = ""
    key_id: Text = ""
    since: Annotated[Moment, Field(description="At or after this moment.")] = ""
    until: Annotated[Moment, Field(description="Before this moment.")] = ""
    cursor: Cursor = ""
    limit: PageSize = 50
