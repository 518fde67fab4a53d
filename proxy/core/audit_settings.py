"""The settings of the audit log, and of the actions that it recognises on the wire."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Interval

STRICT: dict[str, str] = {"extra": "forbid"}
"""Read by the settings loader: an unknown key is an error."""

WhenFull = Literal["refuse", "count"]
"""What becomes of an action that cannot be recorded: it is refused, or it passes and is counted as lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Which requests are an action, and where what is recorded of it stands.

    A source is `header:NAME`, `query:NAME`, `cookie:NAME`, `path:NAME` (a `{NAME}` of `path`) or
    `answer:NAME` (a field of the answer's head). The first with a value counts; of `before` and `after`
    every one, under its NAME.
    """

    __pydantic_config__: ClassVar[Any] = STRICT
    action: str  # recorded as "user.ACTION"
    path: str  # "/account/{target}/plan"; a trailing "/*" is any rest
    route: str = ""  # empty: every forward route
    methods: tuple[str, ...] = ()  # empty: all
    status: tuple[str, ...] = ()  # of the answer: "2xx", "401"; empty: any
    actor: tuple[str, ...] = ()  # empty: as identity.user
    subject: tuple[str, ...] = ()  # empty: the actor
    target: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    reason: tuple[str, ...] = ()
    sample: Annotated[float, Interval(gt=0, le=1)] = 1.0  # share that is recorded
    when_full: WhenFull | None = None  # None: as [audit]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The log as such: what waits for it, its checkpoints, its segments."""

    __pydantic_config__: ClassVar[Any] = STRICT
    origin: str = "fusebox"  # first line of checkpoints: the name of this log, unique among yours
    spool_bytes: Annotated[int, Ge(1024 * 1024)] = 64 * 1024 * 1024
    spool_sync: bool = False  # user actions flushed to the disk one by one
    when_full: WhenFull = "refuse"
    checkpoint_entries: Annotated[int, Ge(1)] = 1_000
    checkpoint_s: Annotated[float, Gt(0)] = 60.0
    checkpoint_to: tuple[str, ...] = ()  # "file:PATH", "https://…", "stdout"
    segment_entries: Annotated[int, Interval(ge=2, le=2**20)] = 4096  # a power of two
    retention_days: Annotated[int, Ge(0)] = 0  # 0: for ever
    actions: tuple[Action, ...] = ()
