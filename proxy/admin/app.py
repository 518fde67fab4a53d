"""The admin application, and the server that carries it on an address of its own.

No answer carries a CORS header and OPTIONS is refused like any method that is not offered: a page
in a browser cannot read this face, nor change anything without a token it cannot have.
"""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.admin.access import Access
from proxy.admin.bodies import BODY_BYTES
from proxy.admin.endpoints import CALLER, ENDPOINTS, SERVICES, Endpoint, Services
from proxy.admin.problems import problems
from proxy.clock import Clock, monotonic

IDLE_S = 30.0
"""Seconds an idle admin connection is kept; also the deadline for the first head on it."""

SHUTDOWN_S = 2.0
"""Seconds that requests under way are given when the server stops."""

# aiohttp logs a stack for every malformed head, which lets anybody fill the log. What handlers raise
# never gets that far: `problems` logs it.
_wire_log = logging.getLogger("fusebox.admin.wire")
_wire_log.setLevel(logging.CRITICAL)


def application(services: Services, *, clock: Clock = monotonic) -> web.Application:
    """Every endpoint of the table behind its role, HEAD beside each GET, errors as problem documents."""
    app = web.Application(middlewares=[problems], client_max_size=BODY_BYTES)
    app[SERVICES] = services
    access = Access(services.tokens, clock)
    for endpoint in ENDPOINTS:
        handle = _guarded(endpoint, access)
        app.router.add_route(endpoint.method, endpoint.path, handle)
        if endpoint.method == "GET":
            app.router.add_route("HEAD", endpoint.path, handle)
    return app


def _guarded(endpoint: Endpoint, access: Access) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    role = endpoint.role
    if role is None:
        return endpoint.handle

    async def handle(request: web.Request) -> web.StreamResponse:
        request[CALLER] = access.admit(request, role)
        return await endpoint.handle(request)

    return handle


class AdminServer:
    """Serves an application; `start` and `stop` once each."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_wire_log,
            keepalive_timeout=IDLE_S,
            shutdown_timeout=SHUTDOWN_S,
        )

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address bound. OSError when it cannot."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: tuple[str, int] = self._runner.addresses[0][:2]
        return bound

    async def stop(self) -> None:
        await self._runner.cleanup()
