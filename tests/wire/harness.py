"""Both ends of a test: a raw client and a scripted upstream.

Nothing here sleeps: every wait is for a condition on bytes that arrived or a connection that
ended, and `PATIENCE_S` only bounds how long a broken one is waited for.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar, cast

import strict

from proxy.tasks import spawn

PATIENCE_S = 8.0
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends RST

T = TypeVar("T")
Script = Callable[["Wire"], Awaitable[object]]


class GoneError(ConnectionError):
    """The other side ended the connection while more was wanted from it."""


class Wire(asyncio.Protocol):
    """One end of a TCP connection: every byte received, and what became of the connection."""

    patience = PATIENCE_S

    def __init__(self) -> None:
        self.data = bytearray()  # all that was ever received
        self.at = 0  # up to here it has been parsed
        self.eof = False  # the peer sends no more
        self.lost = False
        self.error: Exception | None = None
        self.interims: list[strict.Response] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self.transport: asyncio.Transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._wake()

    def eof_received(self) -> bool:
        self.eof = True
        self._wake()
        # TLS has no half-close
        return self.transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self.eof = self.lost = True
        self.error = exc
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # what scripts and tests do with it

    async def until(self, done: Callable[[], object], what: str, patience: float = 0.0) -> None:
        """Wait for `done()`; what is missing after `patience` seconds fails the test as `what`."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + (patience or self.patience)
        while not done():
            waiter = loop.create_future()
            self._waiting.append(waiter)
            try:
                async with asyncio.timeout_at(ends):
                    await waiter
            except TimeoutError:
                raise AssertionError(f"{what}: still waiting; received {bytes(self.data[-600:])!r}") from None

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def pour(self, data: bytes) -> None:
        """Send with backpressure; returns once the transport will take more."""
        self.transport.write(data)
        await self._writable.wait()

    async def pieces(self, data: bytes, size: int = 1) -> None:
        """Send in pieces that arrive one by one; stops quietly when the peer hangs up."""
        for start in range(0, len(data), size):
            if self.lost or self.transport.is_closing():
                return
            self.transport.write(data[start : start + size])
            await turn()

    async def request_head(self) -> strict.Request:
        return await self._parsed(lambda: strict.request_head(self.data, self.at), "a request head")

    async def request(self) -> strict.Request:
        return await self._parsed(lambda: strict.request(self.data, self.at), "a request")

    async def response_head(self, method: bytes = b"GET") -> strict.Response:
        """The next final head, its body unread; interim ones are kept in `interims`."""
        while True:
            head = await self._parsed(
                lambda: strict.response_head(self.data, self.at, method=method), "a response head"
            )
            if head.status >= 200 or head.status == 101:
                return head
            self.interims.append(head)

    async def response(self, method: bytes = b"GET") -> strict.Response:
        """The next final response with its body, strictly parsed."""
        head = await self.response_head(method)
        if head.framing == "none":
            return head
        if head.framing == "close":
            await self.until(lambda: self.eof, "the end of a body that ends with the connection")
            if isinstance(self.error, ConnectionResetError):
                raise GoneError("reset inside a body that ends with the connection")
            head.body, self.at = bytes(self.data[self.at :]), len(self.data)
            return head
        return await self._parsed(lambda: self._with_body(head), "a response body")

    def _with_body(self, head: strict.Response) -> tuple[strict.Response, int] | None:
        end = strict._body(head, self.data, self.at)
        return None if end is None else (head, end)

    async def _parsed(self, parse: Callable[[], tuple[T, int] | None], what: str) -> T:
        while (found := parse()) is None:
            if self.eof:
                raise GoneError(f"no {what}: ended after {bytes(self.data[self.at :][:600])!r}")
            seen = len(self.data)
            await self.until(lambda seen=seen: len(self.data) > seen or self.eof, what)  # type: ignore[misc]
        message, self.at = found
        return message

    async def ended(self) -> bytes:
        """Wait until the peer sends no more; returns what was never parsed."""
        await self.until(lambda: self.eof, "the end of the connection")
        return bytes(self.data[self.at :])

    def half_close(self) -> None:
        self.transport.write_eof()

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        with suppress(OSError, AttributeError):  # closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


async def turn() -> None:
    """Let the loop poll its sockets, so that bytes sent before and after arrive apart."""
    for _ in range(3):
        await asyncio.sleep(0)


async def until(done: Callable[[], object], what: str, patience: float = PATIENCE_S) -> None:
    """Wait for a condition that nobody announces."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + patience
    while not done():
        assert loop.time() < ends, f"{what}: still waiting"
        await asyncio.sleep(0.002)


def reply(body: bytes = b"ok", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """A plain response of known length."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def echo(wire: Wire) -> None:
    """Answers every request with its own body."""
    while True:
        request = await wire.request()
        wire.send(reply(b"" if request.method == b"HEAD" else request.body))


def answering(raw: bytes, *, then: Callable[[Wire], object] | None = None) -> Script:
    """Answers every request on a connection with `raw`, then does `then` to the connection."""

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            wire.send(raw)
            if then is not None:
                then(wire)

    return script


class Scripted:
    """An upstream: a listener whose connections each run a script, and a record of all of it.

    `scripts` are used one per connection in order of arrival; the last one goes on for the rest.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.scripts: list[Script] = list(scripts or (echo,))
        self.wires: list[Wire] = []
        self.faults: list[BaseException] = []
        self._running: list[asyncio.Task[None]] = []
        self._tls = tls
        self._server: asyncio.Server
        self.url = ""

    @property
    def data(self) -> bytes:
        """All bytes of all connections."""
        return b"".join(bytes(wire.data) for wire in self.wires)

    @property
    def requests(self) -> list[strict.Request]:
        """Every complete request that arrived, read again from the bytes, in order of connections.

        Raises when any connection carried something that is no HTTP/1.1.
        """
        found = []
        for wire in self.wires:
            at = 0
            while at < len(wire.data):
                whole = strict.request(wire.data, at)
                if whole is None:
                    break
                found.append(whole[0])
                at = whole[1]
        return found

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0, ssl=self._tls, backlog=4096)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"

    def _accept(self) -> Wire:
        return _Accepted(self)

    def run(self, wire: Wire) -> None:
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        self._running.append(spawn(self._scripted(script, wire), "scripted upstream"))

    async def _scripted(self, script: Script, wire: Wire) -> None:
        try:
            await script(wire)
        except GoneError:
            wire.close()
        except AssertionError as fault:
            self.faults.append(fault)
            wire.reset()

    async def until_requests(self, count: int) -> list[strict.Request]:
        await until(lambda: len(self.requests) >= count, f"{count} requests upstream")
        return self.requests

    async def stop(self) -> None:
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for wire in self.wires:
            wire.transport.abort()


class _Accepted(Wire):
    patience = 3_600.0  # an upstream waits; it is the client that finds out

    def __init__(self, owner: Scripted) -> None:
        super().__init__()
        self._owner = owner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.wires.append(self)  # not before: whoever closes all of them needs their transports
        self._owner.run(self)
