"""The policy: everything the data plane may know, as one immutable value (design, One loop).

The settings records stand here because core and data plane read them; `settings` only loads
and checks files into them. Fields carry their unit in the name. Constraints are checked by
`settings`; a record built in code is taken at its word.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Interval, Len

from proxy.core.audit_settings import STRICT, Action
from proxy.core.breaker import BreakerSettings
from proxy.core.cache import CacheSettings, WarmList
from proxy.core.candidates import Fields
from proxy.core.experiment import Experiment
from proxy.core.flaps import FlapBudget, Place, Ranges
from proxy.core.override import Overrides
from proxy.core.rollback.drills import Drill
from proxy.core.rollback.layers import NO_LAYERS, Layers
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.toggles import Toggles


class Priority(IntEnum):
    """What is shed last when an upstream is overloaded. Lower numbers go first."""

    LOW = 0
    NORMAL = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes on the wire (`wire/README`, Limits). What is larger is refused, never cut."""

    __pydantic_config__: ClassVar[Any] = STRICT
    head_bytes: Annotated[int, Ge(1024)] = 32 * 1024
    head_fields: Annotated[int, Ge(8)] = 100
    target_bytes: Annotated[int, Ge(256)] = 8 * 1024
    response_head_bytes: Annotated[int, Ge(1024)] = 64 * 1024
    chunk_extension_bytes: Annotated[int, Ge(0)] = 4 * 1024
    pipelined_bytes: Annotated[int, Ge(1024)] = 64 * 1024
    connections: Annotated[int, Ge(1)] = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each phase may take (design rule 5). Upstream phases stand in `Upstream`, `Route`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    head_s: Annotated[float, Gt(0)] = 10.0
    body_gap_s: Annotated[float, Gt(0)] = 30.0  # between two pieces of a body, either direction
    idle_client_s: Annotated[float, Gt(0)] = 75.0
    tunnel_idle_s: Annotated[float, Gt(0)] = 300.0
    linger_s: Annotated[float, Ge(0)] = 2.0  # reading on after an early answer, so that it arrives
    drain_s: Annotated[float, Ge(0)] = 30.0
    drain_notice_s: Annotated[float, Ge(0)] = 1.0  # between readiness failing and the listener closing


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One service behind the sidecar: its addresses, pool, deadlines and breaker."""

    __pydantic_config__: ClassVar[Any] = STRICT
    url: str | Annotated[list[str], Len(1)]
    timeout_ms: Annotated[int, Gt(0)] = 10_000  # request sent → first byte; a route may set its own
    connect_timeout_ms: Annotated[int, Gt(0)] = 2_000
    idle_s: Annotated[float, Gt(0)] = 4.0
    max_connection_age_s: Annotated[float, Ge(0)] = 300.0  # 0: no limit
    max_inflight: Annotated[int, Ge(1)] = 512
    max_queue: Annotated[int, Ge(0)] = 256
    queue_timeout_ms: Annotated[int, Gt(0)] = 1_000
    dns_refresh_s: Annotated[float, Gt(0)] = 30.0
    eject_after: Annotated[int, Ge(1)] = 5  # failures in a row of one address
    eject_s: Annotated[float, Gt(0)] = 5.0  # doubles with each ejection in a row
    eject_max_s: Annotated[float, Gt(0)] = 300.0
    retry_budget: Annotated[float, Interval(ge=0, le=1)] = 0.2  # retries ÷ requests
    retry_floor_per_s: Annotated[float, Ge(0)] = 3.0
    ca_file: str = ""  # https only; empty: the system's
    server_name: str = ""  # https only; empty: the url's host
    candidates_path: str = "/candidates"  # asked by recommend routes
    neighbours_path: str = ""  # asked for neighbours of seeds; empty: cannot be
    fields: Fields = field(default_factory=Fields)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    @property
    def urls(self) -> tuple[str, ...]:
        return (self.url,) if isinstance(self.url, str) else tuple(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The upstreams a recommend route asks; empty: that source does not exist."""

    __pydantic_config__: ClassVar[Any] = STRICT
    cf: str = ""
    content: str = ""
    control: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """Copies of a route's GET requests that nobody is answered with: how many, whereto, at what cost."""

    __pydantic_config__: ClassVar[Any] = STRICT
    percent: Annotated[float, Interval(ge=0, le=100)] = 0.0  # in steps of 0.01; 0: none
    upstream: str = ""  # the same GET goes there
    toggles: dict[str, Any] = field(default_factory=dict)  # recommend: a second plan, over those in force
    headers: tuple[str, ...] = ()  # of the client's, that `upstream` gets beside those it needs
    max_inflight: Annotated[int, Ge(1)] = 8  # copies at once; an answer that is waited for counts as one
    headroom: Annotated[float, Interval(gt=0, le=1)] = 0.5  # of an upstream's max_inflight: busier, no copies
    timeout_ms: Annotated[int, Gt(0)] = 1_000  # for all of the copy's answer
    max_answer_bytes: Annotated[int, Ge(1_024)] = 256 * 1_024  # larger ones are not compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path prefix and what happens to requests below it. The longest prefix wins."""

    __pydantic_config__: ClassVar[Any] = STRICT
    name: Annotated[str, Len(1)]
    path: str
    kind: Literal["forward", "recommend"] = "forward"
    upstream: str = ""  # forward
    sources: Sources = field(default_factory=Sources)  # recommend
    methods: tuple[str, ...] = ()  # empty: all
    flag: str = ""  # a feature flag; off: 503 flag_off
    priority: Literal["low", "normal", "critical"] = "normal"
    first_byte_ms: Annotated[int, Gt(0)] | None = None  # None: the upstream's timeout_ms
    total_ms: Annotated[int, Ge(0)] = 60_000  # 0: no limit (event streams)
    max_body_bytes: Annotated[int, Ge(0)] = 10 * 1024 * 1024
    upgrade: tuple[str, ...] = ()  # protocols that may be asked by Upgrade, e.g. "websocket"
    idempotency_key: bool = False  # the upstream honours Idempotency-Key: such writes may be retried
    guarded: bool = False  # refuse ambiguous paths; routes with flag or methods always do
    k_default: Annotated[int, Ge(1)] = 50
    k_max: Annotated[int, Ge(1)] = 200
    deadline_ms: Annotated[int, Gt(0)] | None = None  # None: the longest timeout_ms of the sources it asks
    alpha: Annotated[float, Interval(ge=0, le=1)] = 0.5  # weight of cf under hybrid_default (facts 2.1)
    shadow: Shadow = field(default_factory=Shadow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where who-is-asking is read, in order: `header:NAME`, `query:NAME` or `cookie:NAME`."""

    __pydantic_config__: ClassVar[Any] = STRICT
    user: tuple[str, ...] = ("header:x-user-id", "query:user_id")
    region: tuple[str, ...] = ("header:x-region",)
    cohort: tuple[str, ...] = ("header:x-cohort",)
    client: tuple[str, ...] = ("header:x-client",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One entry of the popularity list, best first."""

    id: str
    title: str
    year: int
    genres: tuple[str, ...]
    providers: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the control plane hands down. Swapped in whole; nobody edits it in place."""

    routes: tuple[Route, ...]
    upstreams: Mapping[str, Upstream]
    identity: Identity = field(default_factory=Identity)
    limits: Limits = field(default_factory=Limits)
    deadlines: Deadlines = field(default_factory=Deadlines)
    toggles: Toggles = field(default_factory=Toggles)
    experiment: Experiment = field(default_factory=Experiment)
    flaps: FlapBudget = field(default_factory=FlapBudget)
    held: Mapping[Place, Ranges] = field(default_factory=dict)  # buckets kept in control; empty: nobody's
    layers: Layers = NO_LAYERS  # what a rollback has laid over the toggles
    drill: Drill | None = None  # the one that is on
    rollback: RollbackSettings = field(default_factory=RollbackSettings)
    popularity: tuple[Film, ...] = ()
    cache: CacheSettings = field(default_factory=CacheSettings)
    warm: WarmList | None = None
    trusted_proxies: tuple[str, ...] = ()  # networks in CIDR form
    authorities: Mapping[str, str] = field(default_factory=dict)  # each `ca_file`: the PEM text in it
    actions: tuple[Action, ...] = ()  # `when_full` is set in each
    access_log_sample: float = 0.01  # of answered requests; failures of upstreams are always logged
    overrides: Overrides = field(default_factory=Overrides)
    signing_key: bytes = field(default=b"", repr=False)  # of overrides and cursors; empty: there is none
