"""What a client gets when its upstream fails, phase by phase, and what is never done twice."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import strict
from harness import GoneError, Script, Wire, answering, echo, reply, turn, until
from rig import DEADLINES, Rig, sidecar

from proxy.core.policy import Deadlines

GET = b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
FULL = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"


def code(answer: strict.Response) -> str:
    assert answer.get("content-type") == b"application/problem+json"
    return str(orjson.loads(answer.body)["code"])


def counted(rig: Rig) -> dict[str, int]:
    return {name: count for name, count in rig.counters.upstream("up").outcomes.items() if count}


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def until_counted(rig: Rig, expected: dict[str, int]) -> None:
    await until(lambda: counted(rig) == expected, f"{expected}, but there is {counted(rig)}")
    await until(lambda: rig.counters.upstream("up").inflight == 0, "nothing in flight")


async def test_nobody_listens() -> None:
    async with sidecar(url=f"http://127.0.0.1:{closed_port()}") as rig:
        for raw in (GET, POST):
            answer = await rig.ask(raw)
            assert (answer.status, code(answer)) == (502, "upstream_unreachable")
            assert b"connection_refused" in (answer.get("proxy-status") or b"")  # RFC 9209 2.3.6
        await until_counted(rig, {"unreachable": 2})


async def test_nobody_accepts() -> None:
    """A full backlog: the connect deadline answers."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with sidecar(url=url, upstream={"connect_timeout_ms": 150}) as rig:
            answer = await rig.ask(POST)
            assert (answer.status, code(answer)) in ((502, "upstream_unreachable"), (504, "upstream_timeout"))
        for sock in waiting:
            sock.close()


async def reset_on_accept(wire: Wire) -> None:
    wire.reset()


RESETS: dict[str, Script] = {
    "on-accept": reset_on_accept,
    "after-request": answering(b"", then=Wire.reset),
    "close-after-request": answering(b"", then=Wire.close),
    "in-status-line": answering(b"HTTP/1.1 20", then=Wire.close),
    "in-head": answering(b"HTTP/1.1 200 OK\r\nContent-", then=Wire.close),
}


@pytest.mark.parametrize("script", RESETS.values(), ids=RESETS.keys())
@pytest.mark.parametrize("raw", [GET, POST], ids=["GET", "POST"])
async def test_an_upstream_that_leaves_before_a_head(script: Script, raw: bytes) -> None:
    """502, and on a connection of its own nothing is sent twice."""
    async with sidecar(script) as rig:
        wire = await rig.client()
        wire.send(raw)
        answer = await wire.response()
        assert answer.status == 502
        assert code(answer) in ("upstream_unreachable", "upstream_invalid")
        assert len(rig.upstream.requests) <= 1
        assert len(rig.upstream.wires) == 1
        wire.send(raw)
        assert (await wire.response()).status == 502, "the client's connection goes on"


@pytest.mark.parametrize("end", [Wire.close, Wire.reset])
@pytest.mark.parametrize(
    "raw", [FULL, FULL.replace(b"Content-Length: 50\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n")]
)
async def test_an_upstream_that_leaves_inside_a_body(end: Callable[[Wire], None], raw: bytes) -> None:
    """The client sees the cut: no last chunk, no full length."""

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(raw)
        await turn()
        end(wire)

    async with sidecar(script) as rig:
        wire = await rig.client()
        wire.send(POST)
        with pytest.raises(GoneError):
            await wire.response()
        await until_counted(rig, {"reset": 1})


async def test_a_slow_first_byte_is_504() -> None:
    ways: tuple[dict[str, Any], ...] = ({"upstream": {"timeout_ms": 120}}, {"route": {"first_byte_ms": 120}})
    for settings in ways:
        async with sidecar(Wire.ended, **settings) as rig:
            wire = await rig.client()
            wire.send(POST + GET)
            for _ in range(2):
                answer = await wire.response()
                assert (answer.status, code(answer)) == (504, "upstream_timeout")
            for upstream in rig.upstream.wires:
                await upstream.ended()
            assert len(rig.upstream.requests) == 2
            await until_counted(rig, {"timeout": 2})


async def test_the_total_deadline_ends_an_endless_trickle() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not wire.eof:
            wire.send(b"1\r\nx\r\n")
            await turn()

    async with sidecar(script, route={"total_ms": 200}) as rig:
        wire = await rig.client()
        wire.send(GET)
        with pytest.raises(GoneError):
            await wire.response()
        await rig.upstream.wires[0].ended()


async def test_an_upstream_that_stalls_in_its_body_is_cut_off() -> None:
    deadlines = Deadlines(body_gap_s=0.2, linger_s=0.1)

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(FULL)
        await wire.ended()

    async with sidecar(script, deadlines=deadlines) as rig:
        wire = await rig.client()
        wire.send(GET)
        with pytest.raises(GoneError):
            await wire.response()
        await rig.upstream.wires[0].ended()


# clients that misbehave are no failure of the upstream


@pytest.mark.parametrize("raw", [b"GET /", b"GET /p HTTP/1.1\r\nHost: x\r\nX-A: "])
async def test_a_head_that_never_ends_is_408(raw: bytes) -> None:
    """The head's deadline is in total: a byte now and then does not move it."""
    async with sidecar(deadlines=Deadlines(head_s=0.25, linger_s=0.1)) as rig:
        wire = await rig.client()
        wire.send(raw)
        while not wire.data and not wire.lost:
            wire.send(b"a")
            for _ in range(10):
                await turn()
        answer = await wire.response()
        assert (answer.status, code(answer)) == (408, "request_timeout")
        assert await wire.ended() == b""
        assert rig.upstream.data == b""


async def test_a_second_head_has_its_deadline_too() -> None:
    async with sidecar(deadlines=Deadlines(head_s=0.25, linger_s=0.1)) as rig:
        wire = await rig.client()
        wire.send(GET + GET[:-1])
        assert (await wire.response()).status == 200
        assert (await wire.response()).status == 408


async def test_a_body_that_stalls_is_408() -> None:
    async with sidecar(deadlines=Deadlines(body_gap_s=0.2, linger_s=0.1)) as rig:
        wire = await rig.client()
        wire.send(POST[:-2])
        assert (await wire.response()).status == 408
        assert await wire.ended() == b""
        for upstream in rig.upstream.wires:
            await upstream.ended()
        assert rig.upstream.requests == []
        assert not counted(rig) or counted(rig) == {"aborted": 1}


async def test_an_idle_client_is_closed_without_a_word() -> None:
    async with sidecar(deadlines=Deadlines(idle_client_s=0.2)) as rig:
        wire = await rig.client()
        wire.send(GET)
        await wire.response()
        assert await wire.ended() == b""


@pytest.mark.parametrize("raw", [GET, POST, POST[:-2]], ids=["waiting", "after-body", "in-body"])
async def test_a_client_that_leaves_is_neutral(raw: bytes) -> None:
    """Its upstream request is given up and counted as aborted, as nothing else."""
    async with sidecar(Wire.ended, deadlines=DEADLINES) as rig:
        for count in range(1, 6):
            wire = await rig.client()
            wire.send(raw)
            await until(lambda count=count: len(rig.upstream.wires) == count, "the upstream's part")  # type: ignore[misc]
            upstream = rig.upstream.wires[-1]
            await upstream.until(lambda upstream=upstream: upstream.data, "the head")  # type: ignore[misc]
            wire.reset()
            await upstream.ended()
        await until_counted(rig, {"aborted": 5})


async def test_a_client_that_leaves_a_download_is_neutral() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not wire.lost:
            await wire.pour(bytes(65_536))

    async with sidecar(script) as rig:
        wire = await rig.client()
        wire.send(GET)
        await wire.until(lambda: len(wire.data) > 500_000, "some of the body")
        wire.reset()
        await rig.upstream.wires[0].ended()
        await until(lambda: rig.counters.upstream("up").inflight == 0, "nothing in flight")
        assert set(counted(rig)) <= {"aborted", "success"}


async def test_a_clients_bad_chunk_is_neutral() -> None:
    async with sidecar() as rig:
        for _ in range(5):
            head = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            assert (await rig.ask(head + b"zz\r\n")).status == 400
        assert set(counted(rig)) <= {"aborted"}


# idle connections


async def test_an_idle_upstream_connection_is_let_go() -> None:
    async with sidecar(upstream={"idle_s": 0.2}) as rig:
        assert (await rig.ask(GET)).status == 200
        await rig.upstream.wires[0].ended()
        assert (await rig.ask(GET)).status == 200


async def test_an_upstreams_own_keep_alive_is_kept_below() -> None:
    """`Keep-Alive: timeout=1` beats our 30 s."""
    async with sidecar(answering(reply(b"ok", b"Keep-Alive: timeout=1, max=100"))) as rig:
        assert (await rig.ask(GET)).status == 200
        await rig.upstream.wires[0].ended()


@pytest.mark.parametrize(
    "hint", [b"timeout=0", b"timeout=-1", b"timeout=1e400", b"timeout=\xb2", b",,=,timeout==5", b"x"]
)
async def test_a_nonsensical_keep_alive_does_no_harm(hint: bytes) -> None:
    async with sidecar(answering(reply(b"ok", b"Keep-Alive: " + hint))) as rig:
        assert [(await rig.ask(POST)).status for _ in range(3)] == [200] * 3


async def test_a_connection_has_an_age() -> None:
    async with sidecar(upstream={"max_connection_age_s": 0.05}) as rig:
        wire = await rig.client()

        async def another() -> None:
            wire.send(GET)
            assert (await wire.response()).status == 200

        async with asyncio.timeout(5):
            while len(rig.upstream.wires) < 3:
                await another()


async def test_connections_are_reused() -> None:
    async with sidecar() as rig:
        for _ in range(20):
            assert (await rig.ask(POST)).status == 200
        assert len(rig.upstream.wires) == 1


async def test_echo_is_itself_sound() -> None:
    """The harness alone, without the data plane: what it sends is what its oracle reads."""
    async with sidecar(echo) as rig:
        answer = await rig.ask(POST)
        assert answer.body == b"hello"
        assert strict.request(rig.upstream.wires[0].data) is not None
