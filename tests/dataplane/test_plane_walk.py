"""Random walks of clients and upstreams: each call is accounted for once, and nothing stays."""

import asyncio
import random
from dataclasses import replace

import pytest
from calling import serving
from harness import Wire, reply, turn, until
from rig import ROUTE, Rig, sidecar

ROUTES = tuple(
    replace(ROUTE, name=priority, path=f"/{priority}/", priority=priority)
    for priority in ("low", "normal", "critical")
)
MOODS = ["answer", "answer", "hang", "reset", "close", "cut", "junk", "early", "last"]
STEPS = ["come", "ask", "ask", "ask", "upload", "dawdle", "leave", "reset", "finish", "turn"]
LIMITS = {"max_inflight": 3, "max_queue": 4, "queue_timeout_ms": 60_000}


class Moody:
    """Upstream connections that do something else each time; what hangs answers when all is `over`."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.over = asyncio.Event()

    async def __call__(self, wire: Wire) -> None:
        while True:
            mood = self.rng.choice(
                ("answer", "answer", "hang", "reset", "close", "cut", "junk", "early", "last")
            )
            await (wire.request_head() if mood == "early" else wire.request())
            if self.over.is_set() and mood != "early":  # maybe since the mood was chosen
                mood = "answer"
            if mood == "hang":
                await self.over.wait()
                mood = "answer"
            if mood in ("answer", "early"):
                wire.send(reply())
            elif mood == "last":
                wire.send(reply(b"last", b"Connection: close"))
            elif mood == "cut":
                wire.send(reply(b"x" * 100)[:-50])
            elif mood == "junk":
                wire.send(b"HTTP/1.1 junk\r\n\r\n")
            if mood == "reset":
                wire.reset()
            if mood not in ("answer", "last"):
                wire.close()
                return


class Clients:
    """They come, ask, dawdle, and leave whenever they like."""

    def __init__(self, rig: Rig, rng: random.Random) -> None:
        self.rig = rig
        self.rng = rng
        self.wires: list[Wire] = []

    async def step(self) -> None:
        what = self.rng.choice(
            ("come", "ask", "ask", "ask", "upload", "dawdle", "leave", "reset", "finish", "turn")
        )
        if what == "come" or not self.wires:
            self.wires.append(await self.rig.client())
        wire = self.rng.choice(self.wires)
        if wire.lost or wire.transport.is_closing():
            self.wires.remove(wire)
            return
        path = self.rng.choice((b"/low/", b"/normal/", b"/critical/"))
        if what == "ask":
            wire.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        elif what == "upload":
            wire.send(b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        elif what == "dawdle":
            wire.send(b"PUT " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
        elif what == "leave":
            wire.close()
        elif what == "reset":
            wire.reset()
        elif what == "finish":
            wire.send(b"cde\r\n0\r\n\r\n")  # of an upload; elsewhere it is no request
        await turn()

    def leave(self) -> None:
        for wire in self.wires:
            if not wire.transport.is_closing():
                wire.reset()


def limits_hold(rig: Rig) -> None:
    cell = rig.counters.upstreams["up"]
    assert 0 <= cell.inflight <= LIMITS["max_inflight"]
    assert 0 <= cell.queued <= LIMITS["max_queue"]


def left_behind(rig: Rig) -> dict[str, int]:
    """What has to be nothing once all clients are gone."""
    cell = rig.counters.upstreams["up"]
    pool = rig.plane._pools["up"]
    addresses = {pool.addresses.pick(0.0) for _ in range(50)}
    breaker = rig.plane.breakers["up"]
    counts = {
        "in flight": cell.inflight,
        "queued": cell.queued,
        "in flight by address": sum(address.inflight for address in addresses),
        "connections": rig.counters.connections,
        "permits": len(breaker._waiting) + len(breaker._settled),
    }
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_every_call_is_accounted_for_once_and_nothing_stays(seed):
    """Success, reset, truncated, invalid, shed, retried, left while connecting, queued or answered."""
    rng = random.Random(seed)
    moody = Moody(rng)
    async with serving(moody) as second, sidecar(moody, routes=ROUTES, upstream=LIMITS) as rig:
        urls = [rig.upstream.url, second.url]
        upstream = replace(rig.policy.upstreams["up"], url=urls)
        rig.plane.apply(replace(rig.policy, upstreams={"up": upstream}))
        clients = Clients(rig, rng)
        for _ in range(400):
            await clients.step()
            limits_hold(rig)
        moody.over.set()
        clients.leave()
        await until(lambda: not left_behind(rig), "rest")
        outcomes = sum(rig.counters.upstreams["up"].outcomes.values())
        answered = sum(sum(rig.counters.cell(route.name, "none").status) for route in ROUTES)
        assert outcomes == answered > 30
        assert not second.faults
        wire = await rig.client()  # and it still serves
        wire.send(b"GET /critical/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.response()).status == 200


async def test_patient_clients_get_an_answer_each():
    """Nobody waits forever, and no slot stays unused: what is not shed is answered by the upstream."""
    async with sidecar(routes=ROUTES, upstream=LIMITS) as rig:
        wires = [await rig.client() for _ in range(12)]
        statuses = []
        for _ in range(10):
            for number, wire in enumerate(wires):
                path = ("low", "normal", "critical")[number % 3]
                wire.send(f"GET /{path}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            statuses += [(await wire.response()).status for wire in wires]
            limits_hold(rig)
        assert set(statuses) <= {200, 503}
        outcomes = rig.counters.upstreams["up"].outcomes
        assert outcomes["success"] == statuses.count(200) >= 70  # three in flight and four waiting each time
        assert outcomes["overloaded"] == statuses.count(503)
        assert not left_behind(rig) or set(left_behind(rig)) == {"connections"}


async def test_half_a_request_and_no_more_to_come_is_over_at_once():
    """The end of the connection was seen while the request before it was answered; it holds no slot."""
    opened = asyncio.Event()

    async def gate(wire: Wire) -> None:
        await wire.request()
        await opened.wait()
        wire.send(reply())
        await wire.request_head()

    async with sidecar(gate) as rig:
        wire = await rig.client()
        wire.send(b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n")
        await rig.upstream.until_requests(1)
        wire.send(b"PUT /p HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        wire.half_close()
        await turn()
        opened.set()
        assert (await wire.response()).status == 200
        assert (await wire.response()).status == 400
        await until(lambda: not rig.counters.upstreams["up"].inflight, "rest", patience=2.0)
        assert rig.counters.upstreams["up"].outcomes["aborted"] <= 1
