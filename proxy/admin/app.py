"""The admin application, and the server that carries it on an address of its own.

No answer carries a CORS header and OPTIONS is refused like any method that is not offered: a page
in a browser cannot read this face, nor change anything without a token it cannot have.
"""

import asyncio
import logging
from collections import Counter

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from proxy.admin.calls import Services
from proxy.admin.dispatch import Dispatch
from proxy.admin.endpoints import ENDPOINTS
from proxy.admin.openapi import document
from proxy.admin.problems import expectation, problems
from proxy.clock import Clock, monotonic

IDLE_S = 30.0
"""Seconds an idle admin connection is kept; also the deadline for the first head on it."""

CONNECTIONS = 128
"""At a time. One more, and the oldest idle one is closed, of the address with the most of them: a connection
needs no token, and must keep neither a commander from the kill switch nor traffic from its descriptors."""

_LOOK_S = 0.05

SHUTDOWN_S = 2.0
"""Seconds that requests under way are given when the server stops."""

# aiohttp logs a stack for every malformed head, which lets anybody fill the log. What handlers raise
# never gets that far: `problems` logs it.
_wire_log = logging.getLogger("fusebox.admin.wire")
_wire_log.setLevel(logging.CRITICAL)


def application(services: Services, *, clock: Clock = monotonic) -> web.Application:
    """Every endpoint of the table behind its role, HEAD beside each GET, errors as problem documents."""
    app = web.Application(middlewares=[problems])
    dispatch = Dispatch(services, document(ENDPOINTS), clock)
    for endpoint in ENDPOINTS:
        handle = dispatch.handle(endpoint)
        app.router.add_route(endpoint.method, endpoint.path, handle, expect_handler=expectation)
        if endpoint.method == "GET":
            app.router.add_route("HEAD", endpoint.path, handle, expect_handler=expectation)

    async def close(_: web.Application) -> None:
        dispatch.access.close()

    app.on_cleanup.append(close)
    return app


class AdminServer:
    """Serves an application; `start` and `stop` once each."""

    def __init__(self, app: web.Application) -> None:
        self._handling: set[asyncio.BaseProtocol] = set()  # connections whose request is at its handler
        app.middlewares.insert(0, self._noticing())
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_wire_log,
            keepalive_timeout=IDLE_S,
            shutdown_timeout=SHUTDOWN_S,
        )
        self._listening: asyncio.Server | None = None
        self._thinning: asyncio.Handle | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address bound. OSError when it cannot."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._connection, host, port, backlog=CONNECTIONS)
        bound: tuple[str, int] = self._listening.sockets[0].getsockname()[:2]
        return bound

    async def stop(self) -> None:
        if self._listening is not None:
            self._listening.close()
        if self._thinning is not None:
            self._thinning.cancel()
        await self._runner.cleanup()

    def _noticing(self) -> Middleware:
        @web.middleware
        async def noticing(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._handling.add(request.protocol)
            try:
                return await handler(request)
            finally:
                self._handling.discard(request.protocol)

        return noticing

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None  # noqa: S101 - for the type: there is one from `setup` on
        if self._thinning is None:
            self._thinning = asyncio.get_running_loop().call_soon(self._thin_out, server)
        return server()

    def _thin_out(self, server: web.Server) -> None:
        """Close those that are too many, and look again until they are gone."""
        self._thinning = None
        there = server.connections
        if (many := len(there) - CONNECTIONS) > 0:
            idle = [it for it in there if it not in self._handling]
            for most, _ in Counter(map(_address, idle)).most_common(1):
                for connection in [it for it in idle if _address(it) == most][:many]:
                    connection.force_close()
            self._thinning = asyncio.get_running_loop().call_later(_LOOK_S, self._thin_out, server)


def _address(connection: web.RequestHandler) -> str:
    peer = connection.transport and connection.transport.get_extra_info("peername")
    return peer[0] if peer else ""
