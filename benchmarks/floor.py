"""The least that a server on uvloop and httptools can do: read a head whole, write a constant answer.

What `fallback.py` shows beside Fusebox, so that it can be seen what is left to save. Called with
`PORT BYTES`: where to listen on loopback, and how long the body is.
"""

import asyncio
import sys
from typing import cast

import httptools
import uvloop

_RECEIVE = memoryview(bytearray(64 * 1024))  # as Fusebox reads: all connections into one buffer


class Constant(asyncio.BufferedProtocol):
    """One connection. A head is taken to come in one piece, which is so with this load."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._fields: dict[bytes, bytes] = {}
        self.on_header = self._fields.__setitem__

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _RECEIVE

    def buffer_updated(self, nbytes: int) -> None:
        self._fields.clear()
        httptools.HttpRequestParser(self).feed_data(bytes(_RECEIVE[:nbytes]))
        self._transport.write(self._answer)


async def serve(port: int, size: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Constant(head + b"x" * size), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(*map(int, sys.argv[1:])))
