"""The floor with Fusebox's heads: read as strictly, rewritten as they have to be, and nothing beyond that.

Beside `floor_proxy.py` it shows what is left for everything else: there are no routes, breakers, deadlines,
budgets, counters and logs here, and a message that does not come in one piece is not understood. Called with
`PORT UPSTREAM`.
"""

import asyncio
import gc
import sys
from itertools import count
from pathlib import Path
from typing import cast

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from proxy.core.policy import Limits
from proxy.core.trust import TrustedProxies, direct
from proxy.dataplane import rewrite
from proxy.dataplane.request_head import RequestHead, RequestReader
from proxy.dataplane.response_head import ResponseHead, ResponseReader

_ids = count(1 << 120)
_idle: "list[Upstream]" = []
_requests = RequestReader(Limits(), {b"x-user-id", b"x-region", b"x-client"})
_responses = ResponseReader()


def _new_id() -> bytes:
    return b"%032x" % next(_ids)


class _Side(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)


class Client(_Side):
    peer = "127.0.0.1"
    hop_lines = rewrite.trust_lines(direct("127.0.0.1", tls=False))
    trusted = TrustedProxies(())
    head: RequestHead | None = None

    def __init__(self, upstream: int) -> None:
        self.plane = self  # what `rewrite` asks of one
        self._upstream = upstream

    def data_received(self, data: bytes) -> None:
        pattern = self.head.pattern if self.head is not None else None
        again = _requests.again(data, pattern) if pattern is not None else None
        head = self.head = _requests.read(data) if again is None else again[0]
        head.made_id = not head.request_id
        if head.made_id:
            head.request_id = _new_id()
        self.request_id = head.request_id
        head.identify(_new_id)
        request = rewrite.request(head, self, b"upstream") + b"\r\n"
        if _idle:
            _idle.pop().ask(self, request)
        else:
            self._connecting = asyncio.ensure_future(self._connect(request))  # noqa: TID251 - stands alone

    async def _connect(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(Upstream, "127.0.0.1", self._upstream)
        upstream.ask(self, request)


class Upstream(_Side):
    client: Client
    last: ResponseHead | None = None

    def ask(self, client: Client, request: bytes) -> None:
        self.client = client
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        last = self.last
        if last is not None and last.raw and data.startswith(last.raw):
            head, body = last, data[len(last.raw) :]
        else:
            lines, end, body = data.partition(b"\r\n\r\n")
            head = self.last = _responses.read(lines + end, last)
        if len(body) != head.content_length:
            raise NotImplementedError("an answer in pieces")
        client = self.client
        client.transport.write(
            b"%bVia: 1.1 fusebox\r\nX-Request-Id: %b\r\n\r\n%b" % (head.start, client.request_id, body)
        )
        _idle.append(self)


async def serve(port: int, upstream: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(upstream), "127.0.0.1", port, backlog=4096)
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(*map(int, sys.argv[1:])))
