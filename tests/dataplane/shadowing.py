"""A data plane with one forward route, an upstream and another one for shadows."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from harness import Script, Scripted, turn, until
from recommending import Complaints
from rig import DEADLINES, UPSTREAM, Rig

from proxy.core.policy import Policy, Route, Shadow
from proxy.dataplane.plane import DataPlane
from proxy.telemetry.counters import Counters, ShadowCell

ALL = Shadow(percent=100, upstream="new", timeout_ms=2_000)
ROUTE = Route(name="all", path="/", upstream="up", total_ms=10_000, shadow=ALL)
GET = b"GET /a?b=1 HTTP/1.1\r\nHost: x\r\n%b\r\n"


def results(counters: Counters, route: str = "all") -> dict[str, int]:
    """What is not zero."""
    return {key: n for key, n in counters.shadow(route).results.items() if n}


class Pair(Rig):
    """The running plane with both upstreams."""

    new: Scripted
    policy: Policy

    @property
    def cell(self) -> ShadowCell:
        return self.counters.shadow("all")

    @property
    def results(self) -> dict[str, int]:
        return results(self.counters)

    async def until_results(self, count: int) -> dict[str, int]:
        await until(lambda: sum(self.results.values()) >= count, f"{count} results")
        return self.results

    def change(self, **shadow: Any) -> None:
        """Reload with other settings of the shadow."""
        (route,) = self.policy.routes
        self.policy = replace(self.policy, routes=(replace(route, shadow=replace(route.shadow, **shadow)),))
        self.plane.apply(self.policy)

    @property
    def at_rest(self) -> bool:
        """No slot is taken, no deadline waits, no copy runs."""
        pools = [*self.plane._pools.values(), *self.plane._shadowing.pools.values()]
        return (
            not any(pool.cell.inflight or pool.cell.queued for pool in pools)
            and not any(self.plane.ticker.lane(seconds) for seconds in (2.0, 0.05))
            and not any(route._running for route in self.plane._shadowing._routes.values())
        )  # fmt: skip


@asynccontextmanager
async def pair(
    up: Script,
    new: Script,
    *,
    shadow: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
    upstreams: dict[str, dict[str, Any]] | None = None,
    **policy_more: Any,
) -> AsyncIterator[Pair]:
    """`upstreams`: settings of `up` and `new`. Nothing may be logged as an error, nor stay behind."""
    scripted = {"up": Scripted(up), "new": Scripted(new)}
    for one in scripted.values():
        await one.start()
    changed = upstreams or {}
    policy = Policy(
        routes=(replace(ROUTE, shadow=replace(ALL, **(shadow or {})), **(route or {})),),
        upstreams={
            name: replace(UPSTREAM, url=it.url, **changed.get(name, {})) for name, it in scripted.items()
        },
        deadlines=DEADLINES,
        **({"access_log_sample": 0.0} | policy_more),
    )
    counters = Counters()
    transitions: list[Any] = []
    plane = DataPlane(policy, counters, on_transition=transitions.append)
    rig = Pair(plane, scripted["up"], policy, counters)
    rig.transitions = transitions
    rig.new = scripted["new"]
    watch = Complaints(rig.complaints)
    logging.getLogger("fusebox").addHandler(watch)
    await plane.start("127.0.0.1:0")
    try:
        yield rig
        assert not rig.complaints, rig.complaints
        assert not [fault for one in scripted.values() for fault in one.faults]
    finally:
        rig.close_clients()
        plane.close()
        for one in scripted.values():
            await one.stop()
        await turn()
        logging.getLogger("fusebox").removeHandler(watch)
