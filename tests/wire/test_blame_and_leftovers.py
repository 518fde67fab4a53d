"""Whose fault it was when a client is slow, and what must not stay behind."""

import asyncio
import gc
import time

import pytest
from harness import Wire, echo, reply, until
from rig import sidecar

from proxy.core.breaker import BreakerSettings
from proxy.dataplane.forward import Forward

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
TRIGGER_HAPPY = BreakerSettings(consecutive_failures=2, minimum_calls=1000)


async def test_slow_uploads_are_never_the_upstreams_fault() -> None:
    """The route's total time ends them with 408; the breaker and the next client notice nothing."""
    async with sidecar(echo, upstream={"breaker": TRIGGER_HAPPY}, route={"total_ms": 200}) as rig:
        slow = [await rig.client() for _ in range(4)]
        for wire in slow:
            wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx")
        assert [(await wire.response()).status for wire in slow] == [408] * 4
        assert rig.plane.breakers["up"].state == "closed"
        assert rig.counters.upstreams["up"].outcomes["aborted"] == 4
        assert (await rig.ask(GET)).status == 200


async def test_slow_readers_are_never_the_upstreams_fault() -> None:
    """The route's total time ends them; the breaker and the next client notice nothing."""

    async def pour(wire: Wire) -> None:
        request = await wire.request()
        if request.target == b"/short":
            wire.send(reply(b"short"))
            return
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not wire.lost:
            await wire.pour(bytes(65_536))

    async with sidecar(pour, upstream={"breaker": TRIGGER_HAPPY}, route={"total_ms": 300}) as rig:
        for _ in range(3):
            wire = await rig.client(receive_buffer=4096)
            wire.send(GET)
            await wire.response_head()
            wire.transport.pause_reading()
        cell = rig.counters.upstreams["up"]
        await until(lambda: cell.inflight == 0, "the end of the answers nobody reads")
        assert {name: count for name, count in cell.outcomes.items() if count} == {"aborted": 3}
        assert rig.plane.breakers["up"].state == "closed"
        assert (await rig.ask(GET.replace(b"/", b"/short", 1))).body == b"short"


async def test_an_idle_race_with_two_stale_connections_fails_no_get() -> None:
    """The one retry goes out on a new connection, not on the next stale one."""

    async def once(wire: Wire) -> None:
        await wire.request()
        wire.send(reply(b"1"))
        await wire.request()
        wire.close()

    async with sidecar(once) as rig:
        pair = [await rig.client(), await rig.client()]
        for wire in pair:
            wire.send(GET)
        for wire in pair:
            await wire.response()
        assert (await rig.ask(GET)).status == 200
        assert rig.counters.upstreams["up"].outcomes["reset"] == 0


async def test_a_refused_upload_leaves_nothing_behind() -> None:
    """Answered while the breaker is open, a request and its body are garbage at once."""
    async with sidecar(echo, route={"total_ms": 60_000}) as rig:
        rig.plane.breakers["up"].open(time.monotonic(), "test")
        wire = await rig.client()
        for _ in range(20):
            wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6000\r\n\r\n" + b"x" * 5000)
            assert (await wire.response()).status == 503
            wire.send(b"x" * 1000)
        gc.collect()
        assert not [found for found in gc.get_objects() if type(found) is Forward]


@pytest.mark.parametrize(
    "poison",
    [b"X_Request_Id: 1\r\nContent-Length: %d", b"Content-Length: 0%d", b"Expect: x\r\nContent-Length: %d"],
    ids=["alias", "leading zero", "expectation"],
)
async def test_a_refused_head_hides_nothing_of_the_next(poison: bytes) -> None:
    """What stands in the next head, on any connection, is validated from its first byte."""
    front = b"POST /x HTTP/1.1\r\nContent-Length : 44\r\nfoo bar\r\n"
    async with sidecar(echo) as rig:
        bad = await rig.ask(b"POST / HTTP/1.1\r\nHost: a\r\n" + poison % len(front) + b"\r\n\r\n")
        assert bad.status in {400, 417}
        assert (await rig.ask(front + GET)).status == 400
        assert rig.upstream.wires == []


async def test_a_crowd_of_connection_options_is_refused() -> None:
    """Each option is looked for in the head: there have to be few."""
    options = b", ".join(b"x-%d" % number for number in range(3000))
    async with sidecar(echo) as rig:
        answer = await rig.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + options + b"\r\n\r\n")
        assert answer.status == 400


async def test_a_tunnel_reads_on_after_an_early_flood() -> None:
    """Bytes that came before the 101 and filled the buffer do not stop the tunnel."""

    async def switch(wire: Wire) -> None:
        await wire.request_head()
        await until(lambda: conn._held, "the client held back")
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await wire.until(lambda: b"LATER" in wire.data, "what came after")
        wire.close()

    async with sidecar(switch, route={"upgrade": ("websocket",)}) as rig:
        client = await rig.client()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await until(lambda: len(rig.plane.clients.connections) == 1, "the connection")
        conn = next(iter(rig.plane.clients.connections))
        client.send(b"x" * 70_000)
        await client.response_head()
        client.send(b"LATER")
        await client.ended()
        await until(lambda: rig.counters.upstreams["up"].inflight == 0, "the slot")


async def test_a_drain_does_not_wait_for_a_client_that_got_its_answer() -> None:
    """An answer that began before the drain names no close; its connection is closed when it stays quiet."""
    async with sidecar(echo) as rig:
        wire = await rig.client()
        wire.send(GET)
        await wire.response()
        started = time.monotonic()
        async with asyncio.timeout(rig.plane.policy.deadlines.drain_s):
            await rig.plane.drain()
        assert time.monotonic() - started < rig.plane.policy.deadlines.drain_s
        assert rig.counters.connections == 0
