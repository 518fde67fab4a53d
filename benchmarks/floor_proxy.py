"""The least that a proxy on uvloop and httptools can do: both heads read, everything passed on as it came.

What `peers.py` shows beside Fusebox as the bound for plain Python: connections are kept on both sides, and
there is no policy, no header of its own, no deadline, no count and no answer when the upstream fails. Called
with `PORT UPSTREAM`: where to listen on loopback, and the port to ask.
"""

import asyncio
import gc
import sys
from typing import cast

import httptools
import uvloop

_idle: "list[Upstream]" = []


class _Side(asyncio.Protocol):
    """One connection, whose messages are read by a parser that lives as long as it does."""

    parser: httptools.HttpRequestParser | httptools.HttpResponseParser

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.on_header = self.fields.setdefault

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)


class Client(_Side):
    """Asks one thing at a time, which is so with this load."""

    def __init__(self, upstream: int) -> None:
        super().__init__()
        self.parser = httptools.HttpRequestParser(self)
        self._upstream = upstream
        self._request = b""

    def data_received(self, data: bytes) -> None:
        self._request += data
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        request, self._request = self._request, b""
        self.fields.clear()
        if _idle:
            _idle.pop().ask(self, request)
        else:
            self._connecting = asyncio.ensure_future(self._connect(request))  # noqa: TID251 - stands alone

    async def _connect(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(Upstream, "127.0.0.1", self._upstream)
        upstream.ask(self, request)


class Upstream(_Side):
    """Answers one client at a time."""

    client: Client

    def __init__(self) -> None:
        super().__init__()
        self.parser = httptools.HttpResponseParser(self)

    def ask(self, client: Client, request: bytes) -> None:
        self.client = client
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.client.transport.write(data)
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.fields.clear()
        _idle.append(self)


async def serve(port: int, upstream: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(upstream), "127.0.0.1", port, backlog=4096)
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(*map(int, sys.argv[1:])))
