"""The admin application, and the server that carries it on an address of its own.

No answer carries a CORS header and OPTIONS is refused like any method that is not offered: a page
in a browser cannot read this face, nor change anything without a token it cannot have.
"""

import logging

from aiohttp import web

from proxy.admin.calls import Services
from proxy.admin.dispatch import BODY_BYTES, Dispatch
from proxy.admin.endpoints import ENDPOINTS
from proxy.admin.openapi import document
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
    dispatch = Dispatch(services, document(ENDPOINTS), clock)
    for endpoint in ENDPOINTS:
        handle = dispatch.handle(endpoint)
        app.router.add_route(endpoint.method, endpoint.path, handle)
        if endpoint.method == "GET":
            app.router.add_route("HEAD", endpoint.path, handle)

    async def close(_: web.Application) -> None:
        dispatch.access.close()

    app.on_cleanup.append(close)
    return app


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
