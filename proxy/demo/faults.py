"""Misbehaviour on demand: what an example upstream does wrong, chosen from outside.

`POST /_fault {"mode": …}` chooses; `GET /_fault` shows the mode and how many requests have
arrived. Both exist in the demo only.

hang   requests are taken and not answered until the mode changes
error  500 at once, and no work is done
slow   the work is done `SLOW_S` late
reset  the work is done, and the connection cut instead of an answer: the lost answer that makes
       a write's outcome unknown to whoever asked
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum

import orjson
from aiohttp import web

SLOW_S = 0.4

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Mode(StrEnum):
    NONE = "none"
    HANG = "hang"
    ERROR = "error"
    SLOW = "slow"
    RESET = "reset"


class Faults:
    """The switch of one upstream. Handlers call `strike` where their work would begin."""

    def __init__(self) -> None:
        self.mode = Mode.NONE
        self.requests = 0
        self._changed = asyncio.Condition()

    async def change(self, mode: Mode) -> None:
        async with self._changed:
            self.mode = mode
            self._changed.notify_all()

    async def strike(self) -> None:
        """Nothing, a wait, or `HTTPInternalServerError`."""
        if self.mode is Mode.HANG:
            async with self._changed:
                await self._changed.wait_for(lambda: self.mode is not Mode.HANG)
        if self.mode is Mode.SLOW:
            await asyncio.sleep(SLOW_S)
        if self.mode is Mode.ERROR:
            raise problem(web.HTTPInternalServerError, "out of order, as the demo asked for")

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/_fault", self._show), web.post("/_fault", self._choose)]

    async def _show(self, _: web.Request) -> web.Response:
        return answer({"mode": self.mode, "requests": self.requests})

    async def _choose(self, request: web.Request) -> web.Response:
        try:
            mode = Mode((await request.json())["mode"])
        except (ValueError, KeyError, TypeError):
            raise problem(web.HTTPBadRequest, f'give {{"mode": …}}, one of {", ".join(Mode)}') from None
        await self.change(mode)
        return await self._show(request)


FAULTS: web.AppKey[Faults] = web.AppKey("faults", Faults)
ALWAYS_SOUND = ("/_fault", "/healthz", "/payment/ledger", "/email/outbox")
"""What the demo looks at: never counted, never at fault."""


@web.middleware
async def misbehave(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts what arrives, and under `reset` cuts the connection when the work is done."""
    if request.path in ALWAYS_SOUND:
        return await handler(request)
    faults = request.app[FAULTS]
    faults.requests += 1
    response = await handler(request)
    if faults.mode is Mode.RESET and request.transport is not None:
        request.transport.abort()
    return response


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), status=status, headers=headers, content_type="application/json"
    )


def problem(kind: type[web.HTTPError], detail: str) -> web.HTTPError:
    """An error answer in the form of RFC 9457, to be raised."""
    document = {"title": kind().reason, "status": kind.status_code, "detail": detail}
    return kind(text=orjson.dumps(document).decode(), content_type="application/problem+json")
