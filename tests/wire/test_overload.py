"""Too much at once: in-flight limit, queue, priority, breaker, drain and a new policy under load."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest
import strict
from harness import GoneError, Scripted, Wire, reply, turn, until
from rig import DEADLINES, ROUTE, Rig, policy, sidecar

from proxy.core.breaker import BreakerSettings

GET = b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"
LOW = replace(ROUTE, name="low", path="/low", priority="low")
HIGH = replace(ROUTE, name="high", path="/high", priority="critical")


def get(target: bytes) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"


def code(answer: strict.Response) -> str:
    return str(orjson.loads(answer.body)["code"])


class Gate:
    """An upstream that answers only when let, with the target as body; knows how many run."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.running = self.most = 0
        self.order: list[bytes] = []

    async def __call__(self, wire: Wire) -> None:
        while True:
            request = await wire.request()
            self.order.append(request.target)
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.open.wait()
            finally:
                self.running -= 1
            wire.send(reply(request.target))


async def asking(rig: Rig, *targets: bytes) -> list[Wire]:
    wires = []
    for target in targets:
        wire = await rig.client()
        wire.send(get(target))
        wires.append(wire)
    return wires


# in flight, queued, shed


async def test_the_in_flight_limit_holds_and_the_queue_is_bounded() -> None:
    """Two run, three wait, the rest hear 503 at once."""
    gate = Gate()
    limits = {"max_inflight": 2, "max_queue": 3, "queue_timeout_ms": 10_000}
    async with sidecar(gate, upstream=limits) as rig:
        wires = await asking(rig, *(b"/%d" % n for n in range(8)))
        await until(lambda: sum(bool(wire.data) for wire in wires) == 3, "three refusals")
        shed = [wire for wire in wires if wire.data]
        for wire in shed:
            answer = await wire.response()
            assert (answer.status, code(answer)) == (503, "overloaded")
            assert int(answer.get("retry-after") or b"0") >= 1
            assert answer.get("proxy-status")
        assert gate.running == 2
        cell = rig.counters.upstream("up")
        assert (cell.inflight, cell.queued) == (2, 3)
        gate.open.set()
        for wire in wires:
            if wire not in shed:
                assert (await wire.response()).status == 200
        assert gate.most == 2
        assert (cell.inflight, cell.queued) == (0, 0)
        assert cell.outcomes["overloaded"] == 3


async def test_what_matters_least_is_shed_first() -> None:
    """A critical request takes the place of a waiting low one, and is served before it."""
    gate = Gate()
    settings = {"max_inflight": 1, "max_queue": 2, "queue_timeout_ms": 10_000}
    async with sidecar(gate, upstream=settings, routes=(ROUTE, LOW, HIGH)) as rig:
        (first,) = await asking(rig, b"/first")
        await until(lambda: gate.running == 1, "the first to run")
        low = await asking(rig, b"/low/1", b"/low/2")
        await until(lambda: rig.counters.upstream("up").queued == 2, "a full queue")
        (high,) = await asking(rig, b"/high/1")
        await until(lambda: any(wire.data for wire in low), "a low one to be shed")
        shed = [wire for wire in low if wire.data]
        assert len(shed) == 1
        assert (await shed[0].response()).status == 503
        (more,) = await asking(rig, b"/low/3")
        assert (await more.response()).status == 503, "low does not displace what is there"
        gate.open.set()
        for wire in (first, high, *(wire for wire in low if wire not in shed)):
            assert (await wire.response()).status == 200
        assert gate.order[1].startswith(b"/high")


async def test_waiting_has_a_deadline() -> None:
    gate = Gate()
    async with sidecar(gate, upstream={"max_inflight": 1, "queue_timeout_ms": 120}) as rig:
        (first,) = await asking(rig, b"/1")
        await until(lambda: gate.running == 1, "the first to run")
        (second,) = await asking(rig, b"/2")
        answer = await second.response()
        assert (answer.status, code(answer)) == (503, "overloaded")
        gate.open.set()
        assert (await first.response()).status == 200


async def test_who_leaves_the_queue_is_never_sent() -> None:
    gate = Gate()
    async with sidecar(gate, upstream={"max_inflight": 1, "queue_timeout_ms": 10_000}) as rig:
        (first,) = await asking(rig, b"/1")
        await until(lambda: gate.running == 1, "the first to run")
        (second,) = await asking(rig, b"/2")
        await until(lambda: rig.counters.upstream("up").queued == 1, "one waiting")
        second.reset()
        await until(lambda: rig.counters.upstream("up").queued == 0, "nobody waiting")
        gate.open.set()
        assert (await first.response()).status == 200
        (third,) = await asking(rig, b"/3")
        assert (await third.response()).status == 200
        assert gate.order == [b"/1", b"/3"]


# the breaker


TRIPS_AT_3 = BreakerSettings(consecutive_failures=3, minimum_calls=1_000, cooldown_s=60.0, ramp_s=0.0)


async def failing(wire: Wire) -> None:
    while True:
        await wire.request()
        wire.send(reply(b"no", status=b"500 Internal Server Error"))


async def test_an_open_breaker_answers_itself() -> None:
    async with sidecar(failing, upstream={"breaker": TRIPS_AT_3}) as rig:
        for _ in range(3):
            answer = await rig.ask(GET)
            assert (answer.status, answer.body) == (500, b"no")
        for _ in range(10):
            answer = await rig.ask(GET)
            assert (answer.status, code(answer)) == (503, "breaker_open")
            assert 1 <= int(answer.get("retry-after") or b"0") <= 120
            assert b"fusebox" in (answer.get("proxy-status") or b"")
        assert len(rig.upstream.requests) == 3
        assert len(rig.transitions) == 1
        assert rig.counters.upstream("up").outcomes["breaker_open"] == 10


async def test_clients_cannot_open_a_breaker() -> None:
    """Aborts, bad bodies and 4xx are no failures of the upstream."""

    async def script(wire: Wire) -> None:
        while True:
            request = await wire.request()
            if request.target == b"/hang":
                await wire.ended()
            wire.send(reply(b"no", status=b"404 Not Found"))

    async with sidecar(script, upstream={"breaker": TRIPS_AT_3}) as rig:
        for count in range(1, 6):
            (wire,) = await asking(rig, b"/hang")
            await rig.upstream.until_requests(count)
            wire.reset()
            await until(lambda: rig.counters.upstream("up").inflight == 0, "the abort")
        bad = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        for _ in range(5):
            assert (await rig.ask(bad)).status == 400
            assert (await rig.ask(GET)).status == 404
        assert rig.transitions == []


@pytest.mark.parametrize("leave", [Wire.reset, Wire.close], ids=["reset", "close"])
async def test_an_upstream_that_breaks_off_opens_its_breaker(leave: Callable[[Wire], None]) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        await turn()
        leave(wire)

    async with sidecar(script, upstream={"breaker": TRIPS_AT_3}) as rig:
        for _ in range(3):
            with pytest.raises(GoneError):
                await rig.ask(GET)
        assert code(await rig.ask(GET)) == "breaker_open"


async def test_probes_go_one_at_a_time_and_close_it() -> None:
    """Whatever the concurrency, a half-open breaker lets through what its permits allow."""
    settings = replace(TRIPS_AT_3, cooldown_s=0.15, cooldown_jitter=0.0, probes=3, probe_successes=2)
    running = most = 0
    broken = True

    async def script(wire: Wire) -> None:
        nonlocal running, most
        while True:
            await wire.request()
            running += 1
            most = max(most, running)
            for _ in range(20):
                await turn()
            running -= 1
            wire.send(reply(status=b"500 X" if broken else b"200 OK"))

    async with sidecar(script, upstream={"breaker": settings}) as rig:
        for _ in range(3):
            assert (await rig.ask(GET)).status == 500
        broken, most = False, 0
        clients = [await rig.client() for _ in range(50)]
        opened = asyncio.get_running_loop().time()
        seen: set[int] = set()
        while len(rig.transitions) < 2:  # until it is half-open
            assert asyncio.get_running_loop().time() < opened + 5
            for wire in clients:
                wire.send(GET)
            for wire in clients:
                seen.add((await wire.response()).status)
        while len(rig.transitions) < 3:  # … and closed
            assert asyncio.get_running_loop().time() < opened + 5
            before = most
            for wire in clients:
                wire.send(GET)
            await turn()
            assert len(rig.transitions) >= 3 or most <= 1, before
            for wire in clients:
                seen.add((await wire.response()).status)
        assert seen == {200, 503}
        assert (await rig.ask(GET)).status == 200


# drain and apply


async def conversation(rig: Rig, statuses: list[int], *, until_told: bool, enough: asyncio.Event) -> None:
    """A client that asks and asks; it leaves only when told by `Connection: close`, or at `enough`."""
    wire = await rig.client()
    while until_told or not enough.is_set():
        wire.send(GET)
        answer = await wire.response()
        statuses.append(answer.status)
        if answer.has_token("connection", b"close"):
            assert await wire.ended() == b""
            return


async def slowly(wire: Wire) -> None:
    while True:
        await wire.request()
        await turn()
        wire.send(reply())


async def test_a_drain_under_load_fails_no_request() -> None:
    """Twenty busy clients each hear `Connection: close` with a good answer, and the drain is over."""
    async with sidecar(slowly) as rig:
        statuses: list[int] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(conversation(rig, statuses, until_told=True, enough=asyncio.Event()))
            await until(lambda: len(statuses) > 200, "some traffic")
            async with asyncio.timeout(DEADLINES.drain_s):
                await rig.plane.drain()
        assert set(statuses) == {200}
        with pytest.raises(ConnectionRefusedError):
            await rig.client()


async def test_a_drain_waits_for_what_runs() -> None:
    gate = Gate()
    async with sidecar(gate) as rig:
        (wire,) = await asking(rig, b"/late")
        await until(lambda: gate.running == 1, "the request to run")
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(rig.plane.drain())
            await turn()
            assert not draining.done()
            gate.open.set()
            answer = await wire.response()
            assert answer.body == b"/late"
            assert await wire.ended() == b""
        assert draining.done()


async def test_a_drain_has_a_deadline() -> None:
    """What still runs then is cut off by `close`."""
    async with sidecar(Gate(), deadlines=replace(DEADLINES, drain_s=0.2)) as rig:
        (wire,) = await asking(rig, b"/never")
        await rig.upstream.until_requests(1)
        async with asyncio.timeout(3):
            await rig.plane.drain()
        rig.plane.close()
        assert b"200 OK" not in await wire.ended()


async def test_own_answers_in_a_drain_end_their_connections() -> None:
    """A 504 or a refusal is a last answer too: the drain is over long before its deadline."""
    async with sidecar(Wire.ended, upstream={"timeout_ms": 200}) as rig:
        (wire,) = await asking(rig, b"/late")
        await rig.upstream.until_requests(1)
        async with asyncio.timeout(2):
            await rig.plane.drain()
        answer = await wire.response()
        assert answer.status == 504
        assert answer.has_token("connection", b"close")
        assert await wire.ended() == b""


async def test_new_policies_under_load_fail_no_request() -> None:
    """Other limits, another address, and back, fifty times, while twenty clients ask."""
    second = Scripted(slowly)
    await second.start()
    async with sidecar(slowly) as rig:
        statuses: list[int] = []
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(conversation(rig, statuses, until_told=False, enough=enough))
            for number in range(50):
                url = second.url if number % 2 else rig.upstream.url
                rig.plane.apply(policy(url, upstream={"max_inflight": 100 + number}))
                seen = len(statuses)
                await until(lambda seen=seen: len(statuses) > seen + 20, "traffic after it")  # type: ignore[misc]
            enough.set()
        assert set(statuses) == {200}
        assert len(second.requests) > 100
        assert len(rig.upstream.requests) > 100
    await second.stop()


async def test_a_request_under_way_ends_as_it_began() -> None:
    """Its route and its upstream may be gone from the policy; its answer still comes."""
    gate = Gate()
    second = Scripted()
    await second.start()
    async with sidecar(gate) as rig:
        (wire,) = await asking(rig, b"/old")
        await until(lambda: gate.running == 1, "the request to run")
        rig.plane.apply(policy(second.url, route={"path": "/new/", "name": "new"}))
        assert (await rig.ask(get(b"/old"))).status == 404
        assert (await rig.ask(get(b"/new/1"))).status == 200
        gate.open.set()
        assert (await wire.response()).body == b"/old"
    await second.stop()
