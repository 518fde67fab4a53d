"""A route, bound to what it needs at run time: resolved once per policy, not once per request."""

from collections.abc import Mapping

from proxy.core.actions import RouteRules
from proxy.core.policy import Policy, Priority, Route
from proxy.dataplane.deadlines import Lane, Ticker
from proxy.dataplane.pool import Pool
from proxy.errors import Refusal
from proxy.telemetry.counters import Cell, Counters

_PRIORITIES = {"low": Priority.LOW, "normal": Priority.NORMAL, "critical": Priority.CRITICAL}
_READING = frozenset((b"GET", b"HEAD"))


class Bound:
    """One route under one policy."""

    __slots__ = (
        "actions",
        "allow",
        "cell",
        "decision_end",
        "decision_start",
        "first_byte",
        "flag_off",
        "max_body",
        "methods",
        "name",
        "pool",
        "priority",
        "recommends",
        "route",
        "source_lanes",
        "sources",
        "total_s",
        "upgrades",
    )

    def __init__(
        self,
        route: Route,
        policy: Policy,
        pools: Mapping[str, Pool],
        counters: Counters,
        ticker: Ticker,
        actions: RouteRules | None = None,
    ) -> None:
        self.route = route
        self.actions = actions
        self.name = route.name
        self.recommends = route.kind == "recommend"
        self.pool = None if self.recommends else pools[route.upstream]
        named = (("cf", route.sources.cf), ("content", route.sources.content))
        self.sources = {kind: pools[name] for kind, name in named if name}
        self.cell: Cell = counters.cell(route.name, "none")
        methods = frozenset(method.encode() for method in route.methods)
        self.methods = methods or (_READING if self.recommends else None)  # None: all
        self.allow = ", ".join(sorted(method.decode() for method in self.methods or ()))
        self.flag_off = bool(route.flag) and not policy.toggles.flags.get(route.flag, True)
        self.priority = int(_PRIORITIES[route.priority])
        self.total_s = route.total_ms / 1000
        self.max_body = route.max_body_bytes
        self.upgrades = frozenset(protocol.lower().encode() for protocol in route.upgrade)
        if self.pool is not None:
            self.first_byte: Lane = self._lane(self.pool, ticker)
        self.source_lanes = {kind: self._lane(pool, ticker) for kind, pool in self.sources.items()}
        self.decision_start = f"X-Fusebox-Decision: route={route.name};arm=none;bucket=".encode()
        self.decision_end = f";level=none;source={route.upstream};v={policy.toggles.version}\r\n".encode()

    def too_large(self) -> Refusal:
        """What a body over the route's limit is refused with."""
        detail = f"at most {self.max_body} bytes"
        return Refusal("body_too_large", 413, "Content Too Large", detail, close=True)

    def _lane(self, pool: Pool, ticker: Ticker) -> Lane:
        """From sent to first byte: the route's or the upstream's time, never past the total."""
        seconds = (self.route.first_byte_ms or pool.settings.timeout_ms) / 1000
        return ticker.lane(min(seconds, self.total_s) if self.total_s else seconds)
