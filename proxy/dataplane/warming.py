"""The warm list, gone through in the background: what its users would ask is asked, and so remembered.

Slowly, and only where an upstream has headroom and its breaker is closed. It is traffic set aside: no
breaker, trigger or hit rate learns from it (facts 2.18).
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.core.cache import WarmList
from proxy.core.decision import Decision
from proxy.core.identity import IdentityReader, Who
from proxy.core.policy import Policy, Priority
from proxy.core.routing import SALT, bucket
from proxy.core.warm_list import NoWarmList, read_warm_list, reads_through, warm_ask
from proxy.dataplane.binding import Bound
from proxy.dataplane.fetch import Fetch
from proxy.errors import Refusal
from proxy.tasks import spawn

if TYPE_CHECKING:
    from proxy.dataplane.plane import DataPlane

_log = logging.getLogger("fusebox.cache")

WARM = "warm"
"""Why this traffic is set aside."""

_AT_ONCE = 8  # calls
_LOOKS = 200  # at entries in one tick: those that are there already cost no call
_LINES = b"Accept: application/json\r\nVia: 1.1 fusebox\r\nX-Fusebox-Warm: 1\r\nX-Request-Id: %b\r\n"


class Warming:
    """Goes through the list whenever there is a new reason to: see `apply`."""

    def __init__(self, plane: "DataPlane") -> None:
        self._plane = plane
        self._wanted: WarmList | None = None
        self._unread = False
        self._passes: list[_Pass] = []
        self._running: set[_Asking] = set()
        self._routes: Mapping[str, Bound] = {}
        self._bounds: dict[tuple[str, Decision], Bound] = {}
        self._calls = 0.0  # that may begin now
        self._ticked = 0.0

    def apply(self, policy: Policy, routes: Mapping[str, Bound], identity: IdentityReader) -> None:
        """Begin anew when there is a list and somebody reads through the cache, and one of them is new."""
        self._routes = routes
        self._identity = identity
        self._bounds.clear()
        wanted = policy.warm
        if wanted is not None and not (policy.cache.max_bytes and reads_through(policy)):
            wanted = None
        if wanted != self._wanted:
            self._wanted = wanted
            self._passes = []
            self._unread = wanted is not None
            self._plane.counters.warm_unreadable = 0

    def tick(self, now: float) -> None:
        """Ask as much as may be asked by now."""
        if self._unread and self._wanted is not None:
            self._unread = False
            spawn(self._read(self._wanted), "read the warm list")
        if not self._passes:
            self._ticked = now
            return
        per_s = self._plane.policy.cache.warm_per_s
        self._calls = min(self._calls + per_s * (now - self._ticked), max(1.0, per_s / 10))
        self._ticked = now
        if not (self._plane.killed or self._plane.draining):
            for one in self._passes:
                self._go_on(one, now)
        self._passes = [one for one in self._passes if one.left]
        self._plane.counters.warm_left = sum(one.left for one in self._passes)
        if not self._passes:
            _log.info("the cache is warm", extra={"calls": dict(self._plane.counters.warm)})

    def close(self) -> None:
        self._wanted = None
        self._passes = []

    async def _read(self, wanted: WarmList) -> None:
        try:
            raw = await asyncio.to_thread(Path(wanted.file).read_bytes)
            queries = read_warm_list(raw)
        except (OSError, NoWarmList) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            _log.error("the warm list cannot be used: %s: %s", wanted.file, why)
            self._plane.counters.warm_unreadable = 1
            return
        if wanted is self._wanted and queries:
            routes = [route for route in self._plane.policy.routes if route.kind == "recommend"]
            kinds = ("cf", "content", "control")
            self._passes = [_Pass(route.name, kind, queries) for route in routes for kind in kinds]
            _log.info("warming the cache", extra={"queries": len(queries), "file": wanted.file})

    def _go_on(self, one: "_Pass", now: float) -> None:
        looks = _LOOKS
        while one.left and self._calls >= 1.0 and len(self._running) < _AT_ONCE and looks:
            looks -= 1
            if not self._ask(one, now):
                return
            one.at += 1

    def _ask(self, one: "_Pass", now: float) -> bool:
        """See to the next entry. False: not now."""
        route = self._routes.get(one.route)
        if route is None or one.kind not in route.sources:
            one.at = len(one.queries) - 1  # a reload took it away
            return True
        pool = route.sources[one.kind]
        if pool.breaker.snapshot(now).ramp_share < 1 or not pool.has_headroom():
            return False
        try:
            user, ask = warm_ask(one.queries[one.at], route.route, self._identity)
        except Refusal:
            return True  # another route takes it
        place = bucket(user, SALT)
        choices = route.choices
        if choices.fixed is not None:
            decision = choices.fixed.decision
        else:
            decision = choices.decider.decide(Who(user, b"", b"", b""), user, place)
        if decision.cache_mode != "prewarm" or one.kind not in decision.calls:
            return True
        target = b"%b?%b" % (pool.candidates_path, ask.query)
        asking = _Asking(self, one.kind, target, self._bound(route, decision))
        self._running.add(asking)
        asking.fetch.begin(now, place)
        if asking.fetch.cache != "hit":
            self._calls -= 1.0
        return True

    def _bound(self, route: Bound, decision: Decision) -> Bound:
        found = self._bounds.get((route.name, decision))
        if found is None:
            found = route.under(replace(decision, aside=WARM), route.popular)
            self._bounds[route.name, decision] = found
            found.priority = int(Priority.LOW)
        return found

    # -- told by what was asked

    def source_lines(self) -> bytes:
        return _LINES % self._plane.new_id()

    def over(self, asking: "_Asking") -> None:
        self._running.discard(asking)
        fetch = asking.fetch
        fetch.bound.account.warmed()
        result = "had" if fetch.cache == "hit" else "failed" if fetch.failed else "asked"
        self._plane.counters.warm[result] += 1


class _Pass:
    """One source of one route asked through the list."""

    __slots__ = ("at", "kind", "queries", "route")

    def __init__(self, route: str, kind: str, queries: list[bytes]) -> None:
        self.route = route
        self.kind = kind
        self.queries = queries
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.queries) - self.at


class _Asking:
    """One call."""

    __slots__ = ("_warming", "fetch")

    def __init__(self, warming: Warming, kind: str, target: bytes, bound: Bound) -> None:
        self._warming = warming
        self.fetch = Fetch(self, kind, bound.sources[kind], target, bound)

    def source_lines(self) -> bytes:
        return self._warming.source_lines()

    def source_over(self, now: float) -> None:
        self._warming.over(self)
