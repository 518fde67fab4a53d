"""The proxy that one would write first: an aiohttp server that asks through an aiohttp client, on uvloop.

Called with the port to listen on and the port of the upstream. It carries headers and bodies both
ways and adds X-Forwarded-For and X-Request-Id; no breaker, no deadlines of its own, no metrics.
"""

import sys
import uuid
from collections.abc import AsyncIterator

import uvloop
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP = frozenset(
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"]
)
SESSION = web.AppKey("session", ClientSession)
UPSTREAM = web.AppKey("upstream", str)


def end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in HOP_BY_HOP)


async def forward(request: web.Request) -> web.Response:
    headers = end_to_end(request.headers)
    headers["X-Forwarded-For"] = request.remote or ""
    request_id = headers.setdefault("X-Request-Id", uuid.uuid4().hex)
    async with request.app[SESSION].request(
        request.method,
        request.app[UPSTREAM] + request.raw_path,
        headers=headers,
        data=request.content if request.body_exists else None,
        allow_redirects=False,
    ) as answer:
        back = end_to_end(answer.headers)
        back["X-Request-Id"] = request_id
        return web.Response(status=answer.status, headers=back, body=await answer.read())


async def session(app: web.Application) -> AsyncIterator[None]:
    connector = TCPConnector(limit=512)
    async with ClientSession(
        connector=connector, cookie_jar=DummyCookieJar(), auto_decompress=False
    ) as opened:
        app[SESSION] = opened
        yield


def main() -> None:
    port, upstream_port = map(int, sys.argv[1:])
    app = web.Application()
    app[UPSTREAM] = f"http://127.0.0.1:{upstream_port}"
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{tail:.*}", forward)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, loop=uvloop.new_event_loop(), print=None)


if __name__ == "__main__":
    main()
