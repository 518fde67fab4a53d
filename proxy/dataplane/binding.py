"""A route, bound to what it needs at run time: resolved once per policy, not once per request."""

from collections.abc import Iterable, Mapping
from copy import copy
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING

from proxy.core.actions import RouteRules
from proxy.core.decision import UNDECIDED, Decision, killed_by
from proxy.core.experiment import NO_ARM
from proxy.core.policy import Policy, Priority, Route
from proxy.core.recommend import PopularAnswers
from proxy.dataplane.accounts import Account, Books
from proxy.dataplane.deadlines import Lane, Ticker
from proxy.dataplane.memory import Memory
from proxy.dataplane.pool import Pool
from proxy.errors import Refusal
from proxy.telemetry.counters import Cell, Counters

if TYPE_CHECKING:
    from proxy.core.rollback.signals import Side
    from proxy.dataplane.deciding import Choices
    from proxy.dataplane.faults import Faults
    from proxy.dataplane.remembering import Remembering
    from proxy.dataplane.shadow import RouteShadow

_PRIORITIES = {"low": Priority.LOW, "normal": Priority.NORMAL, "critical": Priority.CRITICAL}
NEIGHBOURS = "neighbours"
"""The kind of the second round: the content source, asked for neighbours of what was offered."""

NO_STORE = b"Cache-Control: no-store\r\n"
_READING = frozenset((b"GET", b"HEAD"))


@lru_cache(maxsize=256)
def decided(tail: str, level: str, source: str) -> bytes:
    """The end of the decision's line: behind `Bound.decision_start` and the bucket; `Bound.decision_tail`."""
    return f";level={level};source={source};{tail}\r\n".encode()


class Bound:
    """One route under one policy; one decision of a recommend route has a copy of its own, by `under`."""

    # Of recommend routes alone; all but the first by `deciding`.
    account: Account
    popular: PopularAnswers
    popular_end: bytes
    choices: "Choices"

    __slots__ = (
        "account",
        "actions",
        "allow",
        "asks",
        "cache_results",
        "cell",
        "choices",
        "counters",
        "deadline",
        "decision",
        "decision_end",
        "decision_start",
        "decision_tail",
        "expansion",
        "faults",
        "first_byte",
        "flag_off",
        "guarded",
        "judged",
        "lines",
        "max_body",
        "memory",
        "methods",
        "name",
        "pool",
        "popular",
        "popular_end",
        "priority",
        "reads_cache",
        "recommends",
        "remembering",
        "route",
        "shadow",
        "source_lanes",
        "sources",
        "total_s",
        "upgrades",
        "version",
    )

    def __init__(
        self,
        route: Route,
        policy: Policy,
        pools: Mapping[str, Pool],
        counters: Counters,
        ticker: Ticker,
        books: Books,
        actions: RouteRules | None = None,
    ) -> None:
        self.route = route
        self.actions = actions
        self.name = route.name
        self.recommends = route.kind == "recommend"
        self.pool = None if self.recommends else pools[route.upstream]
        kinds = {kind: getattr(route.sources, kind) for kind in ("cf", "content", "control")}
        self.sources = {kind: pools[name] for kind, name in kinds.items() if name}
        self.expansion: Pool | None = None  # whom to ask for neighbours where slots stay open
        self.deadline: Lane | None = None  # when to answer with what is there; None: the sources' end it
        self.decision = UNDECIDED
        self.judged = False
        self.memory = Memory()  # one of its own, without a cache, unless it is given the data plane's
        self.reads_cache = False
        self.asks = True  # its sources; otherwise the cache alone
        self.shadow: RouteShadow | None = None
        self.faults: Faults | None = None  # of a drill, for its own requests
        self.remembering: Remembering | None = None  # told of the users it serves
        self.lines = b""  # on answers as they should be
        self.version = policy.toggles.version
        self.counters = counters
        self.cache_results = counters.cache
        self.cell: Cell = counters.cell(route.name, NO_ARM)
        if self.recommends:
            side: Side = "exposed" if killed_by(policy) is None else "decided"
            self.account = books.account(route.name, NO_ARM, side)
        methods = frozenset(method.encode() for method in route.methods)
        self.methods = methods or (_READING if self.recommends else None)  # None: all
        self.allow = ", ".join(sorted(method.decode() for method in self.methods or ()))
        self.flag_off = bool(route.flag) and not policy.toggles.flags.get(route.flag, True)
        self.guarded = self.flag_off or self.methods is not None or actions is not None
        self.priority = int(_PRIORITIES[route.priority])
        self.total_s = route.total_ms / 1000
        self.max_body = route.max_body_bytes
        self.upgrades = frozenset(protocol.lower().encode() for protocol in route.upgrade)
        if self.pool is not None:
            self.first_byte: Lane = self._lane(self.pool, ticker)
        self.source_lanes = {kind: self._lane(pool, ticker) for kind, pool in self.sources.items()}
        if "content" in self.sources:
            self.source_lanes[NEIGHBOURS] = self.source_lanes["content"]
        self.decision_start = self._decision_start(NO_ARM)
        self.decision_tail = f"v={self.version}"
        self.decision_end = decided(self.decision_tail, "none", route.upstream)

    def answers(self, popular: PopularAnswers) -> None:
        """What this route answers without its sources."""
        self.popular = popular
        stage = self.decision.stage
        self.decision_tail = f"v={self.version};stage={stage}" if stage else f"v={self.version}"
        self.popular_end = decided(self.decision_tail, "D", popular.source)

    def under(self, decision: Decision, popular: PopularAnswers) -> "Bound":
        """A copy that serves, counts and tells by this decision."""
        bound = copy(self)
        bound.decision = decision
        bound.judged = decision.judged
        bound.reads_cache = decision.cache_mode != "cold" and self.memory.cache is not None
        bound.asks = bool(decision.calls)
        if not decision.judged or decision.aside or not decision.enrols:
            bound.remembering = None
        if decision.killed:
            bound.shadow = None  # which would ask an upstream
        bound.sources = {kind: self.sources[kind] for kind in decision.sources}
        content = self.sources["content"] if decision.expands else None
        bound.expansion = content if content is not None and content.neighbours_path else None
        bound.deadline = self._deadline(bound)
        if decision.aside:
            bound.lines = NO_STORE  # a cache in front would give it to others
            bound.counters = self.counters.aside(decision.aside)
            bound.cache_results = bound.counters.cache
        bound.cell = bound.counters.cell(self.name, decision.arm)
        bound.account = self.account.under(decision)
        bound.answers(popular)
        bound.decision_start = self._decision_start(decision.arm)
        return bound

    @property
    def asked(self) -> Iterable[Pool]:
        """The upstreams that a recommend request may ask."""
        return {*self.sources.values(), *([] if self.expansion is None else [self.expansion])}

    def _decision_start(self, arm: str) -> bytes:
        return f"X-Fusebox-Decision: route={self.name};arm={arm};bucket=".encode()

    def too_large(self) -> Refusal:
        """What a body over the route's limit is refused with."""
        detail = f"at most {self.max_body} bytes"
        return Refusal("body_too_large", 413, "Content Too Large", detail, close=True)

    def _deadline(self, bound: "Bound") -> Lane | None:
        """From the request to its answer. None when no source may take that long, and none is asked after."""
        waits = [self.source_lanes[kind].seconds for kind in bound.sources]
        if not waits:
            return None
        seconds = longest = max(waits)
        if self.route.deadline_ms is not None:
            seconds = min(self.route.deadline_ms / 1000, self.total_s or inf)
        if seconds >= longest and bound.expansion is None:
            return None
        if self.faults is not None:
            seconds += self.faults.delay_s
        return next(iter(bound.sources.values())).ticker.lane(seconds)

    def _lane(self, pool: Pool, ticker: Ticker) -> Lane:
        """From sent to first byte: the route's or the upstream's time, never past the total."""
        seconds = (self.route.first_byte_ms or pool.settings.timeout_ms) / 1000
        return ticker.lane(min(seconds, self.total_s) if self.total_s else seconds)
