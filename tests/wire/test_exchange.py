"""How one exchange runs: Expect, interim answers, HTTP/1.0, early answers, half-close, order."""

import asyncio

import pytest
from harness import GoneError, Wire, answering, echo, reply, turn
from rig import sidecar

HEAD = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
GET = b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"


# Expect and interim answers


async def test_expect_gets_one_100_and_then_the_answer() -> None:
    async def script(wire: Wire) -> None:
        head = await wire.request_head()
        if head.get("expect"):
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await wire.until(lambda: wire.data.endswith(b"hello"), "the body")
        wire.send(reply(b"done"))

    async with sidecar(script) as rig:
        wire = await rig.client()
        wire.send(HEAD)
        await wire.until(lambda: b"100 Continue\r\n" in wire.data, "100 Continue")
        wire.send(b"hello")
        assert (await wire.response()).body == b"done"
        assert [i.status for i in wire.interims] == [100]


async def test_expect_with_the_body_at_once() -> None:
    """A client need not wait (RFC 9110 10.1.1)."""
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(HEAD + b"hello" + GET)
        assert (await wire.response()).body == b"hello"
        assert (await wire.response()).status == 200
        assert len(wire.interims) <= 1


async def test_expect_refused_by_the_upstream() -> None:
    """A final answer instead of 100 reaches the client, which then never sends its body."""

    async def script(wire: Wire) -> None:
        await wire.request_head()
        wire.send(reply(b"no", b"Connection: close", status=b"401 Unauthorized"))

    async with sidecar(script) as rig:
        wire = await rig.client()
        wire.send(HEAD)
        assert (await wire.response()).status == 401
        assert await wire.ended() == b""


async def test_expect_on_10_gets_no_100() -> None:
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(HEAD.replace(b"1.1", b"1.0") + b"hello")
        assert (await wire.response()).body == b"hello"
        assert wire.interims == []


async def test_interim_answers_are_passed_on_at_once() -> None:
    release = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(HINTS)
        await release.wait()
        wire.send(HINTS + reply())

    async with sidecar(script) as rig:
        wire = await rig.client()
        wire.send(GET)
        await wire.until(lambda: b"103 Early Hints" in wire.data, "103")
        release.set()
        assert (await wire.response()).status == 200
        assert [(i.status, i.get("link")) for i in wire.interims] == [(103, b"</a>; rel=preload")] * 2


async def test_interim_answers_never_go_to_10() -> None:
    async with sidecar(answering(HINTS + reply())) as rig:
        wire = await rig.client()
        wire.send(GET.replace(b"1.1", b"1.0"))
        assert (await wire.response()).status == 200
        assert wire.interims == []


# HTTP/1.0 clients


@pytest.mark.parametrize("more", [b"", b"Connection: keep-alive\r\n"])
async def test_a_10_client_gets_a_plain_body_and_the_end(more: bytes) -> None:
    """No chunks, and not kept alive (RFC 9112 9.3, appendix C.2.2)."""
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nX-T: t\r\n\r\n"
    async with sidecar(answering(body)) as rig:
        wire = await rig.client()
        wire.send(b"GET /p HTTP/1.0\r\nHost: x\r\n" + more + b"\r\n")
        answer = await wire.response()
        assert answer.get("transfer-encoding") is None
        assert answer.body == b"hello!"
        assert await wire.ended() == b""


async def test_a_10_client_sees_a_cut_body() -> None:
    """Where the end of the connection ends the body, only a reset can say that it is not the end."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with sidecar(answering(raw, then=Wire.close)) as rig:
        wire = await rig.client()
        wire.send(b"GET /p HTTP/1.0\r\nHost: x\r\n\r\n")
        with pytest.raises(GoneError):
            await wire.response()


async def test_connection_close_is_honoured() -> None:
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(b"GET /p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET)
        answer = await wire.response()
        assert answer.has_token("connection", b"close")
        assert await wire.ended() == b""
        assert len(rig.upstream.requests) == 1


# both directions at once


async def test_an_upload_arrives_while_it_is_sent() -> None:
    """Nothing waits for a body to be complete, in either direction."""

    async def script(wire: Wire) -> None:
        head = await wire.request_head()
        assert head.framing == "chunked"
        await wire.until(lambda: b"one" in wire.data, "the first piece")
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nONE\r\n")
        await wire.until(lambda: b"two" in wire.data, "the second piece")
        wire.send(b"3\r\nTWO\r\n")
        await wire.until(lambda: wire.data.endswith(b"0\r\n\r\n"), "the last chunk")
        wire.send(b"0\r\n\r\n")

    async with sidecar(script) as rig:
        wire = await rig.client()
        wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await wire.until(lambda: b"ONE" in wire.data, "the first answer")
        wire.send(b"3\r\ntwo\r\n")
        await wire.until(lambda: b"TWO" in wire.data, "the second answer")
        wire.send(b"0\r\n\r\n")
        assert (await wire.response()).body == b"ONETWO"


async def upload(wire: Wire, total: int) -> None:
    """Send `total` bytes of body, unless the peer answers or hangs up before."""
    piece = bytes(65_536)
    for _ in range(total // len(piece)):
        if wire.data or wire.lost:
            return
        await wire.pour(piece)


@pytest.mark.parametrize("status", [b"413 Content Too Large", b"401 Unauthorized"])
@pytest.mark.parametrize("reads_on", [True, False])
async def test_an_early_answer_reaches_the_client(status: bytes, *, reads_on: bool) -> None:
    """An upstream that answers inside an upload is heard (wire/README, early answer)."""

    async def script(wire: Wire) -> None:
        await wire.request_head()
        if not reads_on:
            wire.transport.pause_reading()
        wire.send(reply(b"early", status=status))
        await wire.ended()

    total = 64 * 1024 * 1024
    async with sidecar(script, route={"max_body_bytes": 2 * total}) as rig:
        wire = await rig.client()
        wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % total)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(upload(wire, total))
            answer = await wire.response()
            sending.cancel()
        assert answer.status == int(status[:3])
        assert answer.body == b"early"
        assert len(rig.upstream.wires[0].data) < total


async def test_an_early_answer_and_a_close_reach_the_client() -> None:
    async def script(wire: Wire) -> None:
        await wire.request_head()
        wire.send(reply(b"early", b"Connection: close", status=b"413 Content Too Large"))
        wire.half_close()
        await wire.ended()

    total = 16 * 1024 * 1024
    async with sidecar(script, route={"max_body_bytes": 2 * total}) as rig:
        wire = await rig.client()
        wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % total)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(upload(wire, total))
            assert (await wire.response()).status == 413
            sending.cancel()


async def test_a_body_over_the_limit_is_answered_before_it_is_sent() -> None:
    """413 from the announced length alone, and readable although the client goes on sending."""
    async with sidecar(route={"max_body_bytes": 1000}) as rig:
        wire = await rig.client()
        wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n")
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(upload(wire, 5_000_000))
            answer = await wire.response()
            sending.cancel()
        assert answer.status == 413
        assert b"body_too_large" in answer.body
        assert rig.upstream.data == b""


async def test_a_chunked_body_over_the_limit_is_cut_off() -> None:
    """413 as soon as it is too much; the upstream never sees a whole request."""
    async with sidecar(route={"max_body_bytes": 1000}) as rig:
        wire = await rig.client()
        wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(b"1f4\r\n" + bytes(500) + b"\r\n1f5\r\n" + bytes(501) + b"\r\n")
        answer = await wire.response()
        assert answer.status == 413
        assert b"body_too_large" in answer.body
        assert await wire.ended() == b""
        assert rig.upstream.requests == []
        for upstream in rig.upstream.wires:
            await upstream.ended()


async def test_a_body_of_just_the_limit_passes() -> None:
    async with sidecar(route={"max_body_bytes": 1000}) as rig:
        whole = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)
        assert (await rig.ask(whole)).body == bytes(1000)
        coded = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await rig.ask(coded + b"3e8\r\n" + bytes(1000) + b"\r\n0\r\n\r\n")).body == bytes(1000)


async def test_half_close_after_a_request_is_no_abort() -> None:
    release = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await release.wait()
        wire.send(reply(b"late"))

    async with sidecar(script) as rig:
        wire = await rig.client()
        wire.send(GET)
        wire.half_close()
        await rig.upstream.until_requests(1)
        await turn()
        assert not rig.upstream.wires[0].eof
        release.set()
        assert (await wire.response()).body == b"late"
        assert await wire.ended() == b""


async def test_half_close_inside_a_body_is_an_abort() -> None:
    """A body that can never be complete reaches nobody as complete."""
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhello")
        wire.half_close()
        await wire.ended()
        assert rig.upstream.requests == []
        for upstream in rig.upstream.wires:
            if upstream.data:  # one that was never used may serve another request
                await upstream.ended()


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    running = most = 0

    async def script(wire: Wire) -> None:
        nonlocal running, most
        while True:
            request = await wire.request()
            running += 1
            most = max(most, running)
            await turn()
            running -= 1
            wire.send(reply(request.target))

    async with sidecar(script) as rig:
        wire = await rig.client()
        wire.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(60)))
        assert [(await wire.response()).body for _ in range(60)] == [b"/%d" % n for n in range(60)]
        assert most == 1


async def test_pipelined_requests_of_every_kind() -> None:
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(
            b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n"
            b"HEAD /2 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nthree" + GET
        )
        methods = (b"POST", b"HEAD", b"POST", b"GET")
        assert [(await wire.response(m)).body for m in methods] == [b"one", b"", b"three", b""]


async def test_an_endless_pipeline_waits_outside() -> None:
    """While one request runs, what is read of those behind it is bounded."""
    release = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await release.wait()
        wire.send(reply())
        await echo(wire)

    async with sidecar(script) as rig:
        wire = await rig.client()
        flood = GET * (24 * 1024 * 1024 // len(GET))
        wire.send(flood)
        left = -1
        while left != (left := wire.transport.get_write_buffer_size()):
            for _ in range(200):
                await turn()
        assert left > 8 * 1024 * 1024
        release.set()
        assert (await wire.response()).status == 200


@pytest.mark.parametrize("chunked", [True, False])
async def test_events_are_flushed_at_once(*, chunked: bool) -> None:
    """Server-sent events: each arrives before the next is made."""
    coding = b"Transfer-Encoding: chunked\r\n" if chunked else b""
    steps: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + coding + b"\r\n")
        while event := await steps.get():
            wire.send(b"%x\r\n%s\r\n" % (len(event), event) if chunked else event)
        wire.send(b"0\r\n\r\n" if chunked else b"")
        wire.close()

    async with sidecar(script, route={"total_ms": 0}) as rig:
        wire = await rig.client()
        wire.send(GET)
        await wire.until(lambda: b"text/event-stream" in wire.data, "the head")
        for event in (b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"):
            steps.put_nowait(event)
            await wire.until(lambda event=event: event in wire.data, repr(event))  # type: ignore[misc]
        steps.put_nowait(b"")
        assert (await wire.response()).body == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
