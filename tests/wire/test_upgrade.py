"""Upgrade: only where the route allows it, only to what was asked, only on 101."""

import asyncio

import orjson
import pytest
from harness import Wire, echo, reply, turn
from rig import sidecar

ALLOWED = {"upgrade": ("websocket",)}
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n"
)
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"


def asking(protocols: bytes = b"websocket", connection: bytes = b"Upgrade", method: bytes = b"GET") -> bytes:
    head = b"%s /ws HTTP/1.1\r\nHost: x\r\nConnection: %s\r\nUpgrade: %s\r\n%s\r\n"
    return head % (method, connection, protocols, KEY)


async def test_a_tunnel_carries_both_ways_and_ends_with_either() -> None:
    async def script(wire: Wire) -> None:
        request = await wire.request()
        assert request.get("upgrade") == b"websocket"
        assert request.has_token("connection", b"upgrade")
        assert request.get("sec-websocket-key")
        wire.send(SWITCH + b"welcome")
        await wire.until(lambda: wire.data.endswith(b"\x81\x00\r\n\r\nPOST nothing"), "the client's bytes")
        wire.send(b"bye")
        wire.close()

    async with sidecar(script, route=ALLOWED) as rig:
        wire = await rig.client()
        wire.send(asking())
        head = await wire.response_head()
        assert head.status == 101
        assert head.get("upgrade") == b"websocket"
        assert head.has_token("connection", b"upgrade")
        assert head.get("sec-websocket-accept") == b"a"
        await wire.until(lambda: wire.data.endswith(b"welcome"), "what came with the 101")
        wire.send(b"\x81\x00\r\n\r\nPOST nothing")
        assert await wire.ended() == b"welcomebye"


async def test_a_client_that_leaves_ends_the_tunnel() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(SWITCH)
        await wire.ended()
        wire.close()

    async with sidecar(script, route=ALLOWED) as rig:
        wire = await rig.client()
        wire.send(asking())
        assert (await wire.response_head()).status == 101
        wire.reset()
        await rig.upstream.wires[0].ended()


async def test_a_tunnel_holds_back_a_fast_sender() -> None:
    """64 MiB towards a client that does not read stay at their source."""
    sent = 0

    async def script(wire: Wire) -> None:
        nonlocal sent
        await wire.request()
        wire.send(SWITCH)
        while sent < 64 * 1024 * 1024:
            await wire.pour(bytes(65_536))
            sent += 65_536

    async with sidecar(script, route=ALLOWED) as rig:
        wire = await rig.client()
        wire.send(asking())
        assert (await wire.response_head()).status == 101
        wire.transport.pause_reading()
        seen = -1
        while seen != (seen := sent):
            for _ in range(200):
                await turn()
        assert sent < 32 * 1024 * 1024


async def test_client_bytes_are_held_until_101() -> None:
    release = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await release.wait()
        wire.send(SWITCH)
        await wire.until(lambda: wire.data.endswith(b"early"), "the held bytes")
        wire.close()

    async with sidecar(script, route=ALLOWED) as rig:
        wire = await rig.client()
        wire.send(asking() + b"early")
        await rig.upstream.until_requests(1)
        await turn()
        assert not rig.upstream.data.endswith(b"early")
        release.set()
        assert (await wire.response_head()).status == 101
        await wire.ended()
        assert not rig.upstream.faults


async def test_a_declined_upgrade_is_a_plain_answer() -> None:
    """Without 101 the connection stays HTTP, and what was held is the next request."""
    async with sidecar(echo, route=ALLOWED) as rig:
        wire = await rig.client()
        wire.send(asking() + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.response()).status == 200
        assert (await wire.response()).status == 200
        assert [r.target for r in rig.upstream.requests] == [b"/ws", b"/next"]


@pytest.mark.parametrize(
    ("route", "raw"),
    [
        ({}, asking()),
        (
            ALLOWED,
            asking(b"h2c", b"Upgrade, HTTP2-Settings").replace(
                b"\r\n\r\n", b"\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
            ),
        ),
        (ALLOWED, asking(b"made-up/1.0")),
        (ALLOWED, asking(connection=b"keep-alive")),
        (ALLOWED, asking().replace(b"HTTP/1.1", b"HTTP/1.0")),
        (ALLOWED, asking().replace(b"Connection: Upgrade\r\n", b"")),
    ],
    ids=["route", "h2c", "unknown", "not-in-connection", "http10", "no-connection"],
)
async def test_an_upgrade_that_is_not_allowed_is_not_asked(route: dict[str, object], raw: bytes) -> None:
    async with sidecar(route=route) as rig:
        answer = await rig.ask(raw)
        assert answer.status in (200, 400, 426, 501)
        for request in rig.upstream.requests:
            assert request.get("upgrade") is None
            assert request.get("http2-settings") is None
            assert not request.has_token("connection", b"upgrade")


@pytest.mark.parametrize("protocols", [b"h2c, websocket", b"websocket, h2c", b"WebSocket"])
async def test_only_the_allowed_of_several_is_asked(protocols: bytes) -> None:
    async with sidecar(route=ALLOWED) as rig:
        await rig.ask(asking(protocols))
        for request in rig.upstream.requests:
            assert (request.get("upgrade") or b"").lower() in (b"", b"websocket")


@pytest.mark.parametrize("body", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_an_upgrade_with_a_body_is_no_tunnel(body: bytes) -> None:
    """A body and a tunnel on one request is where h2c smuggling lives."""
    async with sidecar(route=ALLOWED) as rig:
        payload = b"hello" if body.startswith(b"Content") else b"5\r\nhello\r\n0\r\n\r\n"
        answer = await rig.ask(asking(method=b"POST")[:-2] + body + b"\r\n\r\n" + payload)
        assert answer.status in (200, 400)
        assert all(request.get("upgrade") is None for request in rig.upstream.requests)


@pytest.mark.parametrize("named", [b"h2c", b"other", b"", b"websocket, h2c"])
async def test_101_to_something_else_is_invalid(named: bytes) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(
            b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: " + named + b"\r\n\r\n" + reply(b"evil")
        )
        await wire.ended()

    async with sidecar(script, echo, route=ALLOWED) as rig:
        answer = await rig.ask(asking())
        assert answer.status == 502
        assert orjson.loads(answer.body)["code"] == "upstream_invalid"
        await rig.upstream.wires[0].ended()
