"""Shadows of routes: a share of their GET requests is copied, the answers are compared and dropped.

A copy begins after the real answer was written, and only where it disturbs nobody. It goes through
pools of its own, with connections, slots, breaker and counters of their own, so that whatever becomes
of it touches nothing that real traffic is served by or judged by.
"""

import asyncio
import logging
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from proxy.clock import monotonic
from proxy.core.breaker import Breaker
from proxy.core.decision import Laid
from proxy.core.experiment import NO_ARM
from proxy.core.identity import IdentityReader
from proxy.core.policy import Policy, Route
from proxy.core.shadow import Shown, compare, drawn
from proxy.dataplane.binding import Bound
from proxy.dataplane.deciding import Deciding
from proxy.dataplane.forward import Forward
from proxy.dataplane.memory import Memory
from proxy.dataplane.pool import Pool
from proxy.dataplane.request_head import RequestHead
from proxy.dataplane.response_head import ResponseReader
from proxy.dataplane.shadow_calls import Copied, Copy, Plan

if TYPE_CHECKING:
    from proxy.dataplane.client import ClientConnection
    from proxy.dataplane.plane import DataPlane

_log = logging.getLogger("fusebox.shadow")

ASIDE = "mirror"
"""Under this name the calls and the second plans of shadows count, apart from all that is judged."""

_SILENCE_S = 1.0

# Who asks for a part, or only for what has changed, gets something that nobody else gets.
_PARTIAL = re.compile(rb"(?im)^(?:range|if-[a-z-]+):").search
_WITHOUT_CACHE = {
    "cache_mode": "cold"
}  # what copies are told is not kept, and what users were told not taken
_CREDENTIALS = frozenset((b"authorization", b"cookie"))
_NEEDED = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"host",
        b"traceparent",
        b"user-agent",
        b"x-request-id",
    )
)


class Run(Protocol):
    """What takes one of the places that `max_inflight` grants."""

    def stop(self) -> None:
        """End at once, telling nobody."""


class _Start(Run, Protocol):
    def start(self, now: float) -> None: ...


class Shadowing:
    """The shadows of one data plane."""

    def __init__(self, plane: "DataPlane", responses: ResponseReader) -> None:
        self._plane = plane
        self._responses = responses
        self._routes: dict[str, RouteShadow] = {}
        self.pools: dict[str, Pool] = {}
        """Of the copies, for whoever lets time pass."""

    def apply(
        self, policy: Policy, pools: Mapping[str, Pool], bound: Mapping[str, Bound], deciding: Deciding
    ) -> None:
        """Go by `policy`; copies under way end as they began, those of a route without a shadow now."""
        routes: dict[str, RouteShadow] = {}
        kept: dict[str, Pool] = {}
        for route in policy.routes:
            if not route.shadow.percent:
                continue
            shadow = routes[route.name] = self._routes.get(route.name) or RouteShadow(self._plane, route.name)
            own = {name: self._pool(route, policy, pools[name]) for name in _asked(route)}
            kept.update((pool.name, pool) for pool in own.values())
            shadow.configure(route, policy, own, {pool: pools[name] for name, pool in own.items()}, deciding)
            bound[route.name].shadow = shadow
        for name in self._routes.keys() - routes.keys():
            self._routes[name].close()
        for name in self.pools.keys() - kept.keys():
            self.pools[name].close()
        self._routes, self.pools = routes, kept

    def close(self) -> None:
        """End every copy."""
        for route in self._routes.values():
            route.close()
        for pool in self.pools.values():
            pool.close()

    def _pool(self, route: Route, policy: Policy, real: Pool) -> Pool:
        name = f"{real.name} (shadow of {route.name})"
        settings = replace(
            real.settings,
            max_queue=0,
            retry_budget=0.0,
            retry_floor_per_s=0.0,
        )
        known = self.pools.get(name)
        if known is not None:
            known.reconfigure(settings, real.place, policy.limits)
            return known
        breaker = Breaker(
            name, settings.breaker, rng=random.random, on_transition=lambda _: None, now=monotonic()
        )
        cell = self._plane.counters.aside(ASIDE).upstream(real.name)
        return Pool(name, settings, real.place, breaker, cell, real.ticker, self._responses, policy.limits)


def _asked(route: Route) -> Iterable[str]:
    """The upstreams that copies of a route's requests may go to."""
    if route.shadow.upstream:
        return (route.shadow.upstream,)
    sources = route.sources.cf, route.sources.content, route.sources.control
    return tuple(dict.fromkeys(name for name in sources if name))


class RouteShadow:
    """The shadow of one route: which requests it copies, how many at a time, what came of it."""

    def __init__(self, plane: "DataPlane", name: str) -> None:
        self.plane = plane
        self._name = name
        self._cell = plane.counters.shadow(name)
        self._running: set[Run] = set()
        self._memory = Memory()  # of calls alone
        self._silent_until = 0.0

    def configure(
        self,
        route: Route,
        policy: Policy,
        pools: Mapping[str, Pool],
        real: Mapping[Pool, Pool],
        deciding: Deciding,
    ) -> None:
        """`pools`: of the copies, by upstream; `real`: for each the one of real requests."""
        self.settings = shadow = route.shadow
        self.identity = IdentityReader(policy.identity)
        self.lane = self.plane.ticker.lane(shadow.timeout_ms / 1000)
        self.passed = (
            _NEEDED
            | (self.identity.header_names - _CREDENTIALS)
            | {name.lower().encode() for name in shadow.headers}
        )
        self.pools = tuple(pools.values())
        self._real = real
        self._copies: type[Copy | Plan] = Copy
        if not shadow.upstream:
            self._copies = Plan
            counters = self.plane.counters.aside(ASIDE)
            self.plan = Bound(route, policy, pools, counters, self.plane.ticker, self.plane.books)
            self.plan.account = self.plane.books.account(route.name, NO_ARM, "mirror")
            remembering = self.plane.remembering
            Deciding(policy, self.plane.popularity, deciding, remembering, self._memory).bind(self.plan)
            self.laid = Laid(tuple(sorted({**shadow.toggles, **_WITHOUT_CACHE}.items())))

    # -- which

    def kind(self, head: RequestHead) -> type[Forward]:
        """How a request is forwarded: so that its answer is kept, if it is to be compared."""
        return Copied if self._draws(head) else Forward

    def answered(self, client: "ClientConnection", head: RequestHead, body: bytes) -> None:
        """A recommend request has its answer."""
        if not (head.bound and head.bound.decision.aside) and self._draws(head):
            self.copy(client, head, Shown(200, body))

    def _draws(self, head: RequestHead) -> bool:
        if not (
            head.method == b"GET"
            and drawn(head.request_id, self.settings.percent)
            and not (head.content_length or head.chunked or head.upgrade)
            and not self.plane.draining
            and _PARTIAL(head.lines) is None
        ):
            return False
        if self.plane.killed:
            self.count("skipped_killed")
            return False
        return True

    # -- how many

    def reserve(self, run: Run) -> bool:
        """A place for `run`, until it is `ended`."""
        if len(self._running) >= self.settings.max_inflight:
            self.count("skipped_busy")
            return False
        self._running.add(run)
        return True

    def free(self, run: Run) -> None:
        """It needs its place no longer, and that is no result."""
        self._running.discard(run)

    def copy(self, client: "ClientConnection", head: RequestHead, real: Shown) -> None:
        """The real answer is out: copy its request when the loop has nothing else to do now."""
        if len(real.body) > self.settings.max_answer_bytes:
            self.count("skipped_size")
            return
        run = self._copies(self, client, head, real, monotonic() - head.started)
        if self.reserve(run):
            asyncio.get_running_loop().call_soon(self._start, run)

    def _start(self, run: _Start) -> None:
        if run not in self._running:
            return  # stopped meanwhile
        try:
            run.start(monotonic())
        except Exception:  # noqa: BLE001 - a fault of ours must not keep a place for ever
            _log.exception("a shadow request failed")
            self.ended(run, "failed")

    def obstacle(self, pools: Iterable[Pool], now: float) -> str:
        """Why nothing should be asked of the upstreams of these pools of copies now."""
        if self.plane.killed:
            return "skipped_killed"
        for pool in pools:
            real = self._real[pool]
            if real.breaker.snapshot(now).ramp_share < 1:  # 0 unless closed
                return "skipped_breaker"
            busy = real.cell.inflight + pool.cell.inflight
            if real.cell.queued or busy >= self.settings.headroom * real.settings.max_inflight:
                return "skipped_no_headroom"
        return ""

    # -- what came of it

    def compared(
        self, run: Run, head: RequestHead, real: Shown, shadow: Shown, took: tuple[float, float]
    ) -> None:
        """Both answers are there; `took`: seconds of each."""
        found = compare(real, shadow, limit=self.settings.max_answer_bytes)
        cell = self._cell
        cell.real_seconds += took[0]
        cell.seconds += took[1]
        if found.overlap is not None and found.rank is not None:
            cell.agreed(found.overlap, found.rank)
        self.ended(run, found.verdict)
        now = monotonic()
        if found.verdict != "same" and now >= self._silent_until:
            self._silent_until = now + _SILENCE_S
            _log.info(
                "a shadow of %s differs: %s", self._name, found.verdict,
                extra={"route": self._name, "request_id": head.request_id.decode(), "status": real.status,
                       "shadow_status": shadow.status, "overlap": found.overlap, "rank": found.rank},
            )  # fmt: skip

    def ended(self, run: Run, result: str) -> None:
        """Once for each; of who was stopped there is nothing to say."""
        if run in self._running:
            self._running.discard(run)
            self.count(result)

    def count(self, result: str) -> None:
        self._cell.results[result] += 1

    def close(self) -> None:
        running, self._running = self._running, set()
        for run in running:
            run.stop()
        self._memory.close(monotonic())
