"""What the admin face offers: each endpoint with the role it needs, in one table."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from proxy.admin.bodies import reason
from proxy.admin.problems import REQUEST_ID, answer
from proxy.control import (
    ACTIONS,
    BreakerControl,
    KillRefused,
    KillSwitch,
    StatusBoard,
    UnknownBreaker,
)
from proxy.core.roles import Principal, Role
from proxy.errors import Fault, Refusal
from proxy.ports import TokenStore
from proxy.telemetry.collector import Metrics

_log = logging.getLogger("fusebox.admin")


class Readiness(Protocol):
    """Whether traffic should be sent here."""

    def unready(self) -> list[str]:
        """Why not, in words; empty: ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All that the admin face needs from the rest."""

    tokens: TokenStore
    kill: KillSwitch
    breakers: BreakerControl
    board: StatusBoard
    readiness: Readiness
    metrics: Metrics


SERVICES = web.AppKey("services", Services)
CALLER = web.RequestKey("caller", Principal)
"""Whose token it is; set on every endpoint that needs a role."""


async def livez(_: web.Request) -> web.Response:
    """The loop turns; restarting would not help whatever else is wrong."""
    return answer({"live": True})


async def readyz(request: web.Request) -> web.Response:
    """200 while listening with a policy and not draining, whatever the upstreams do (contract)."""
    unready = request.app[SERVICES].readiness.unready()
    return answer({"ready": not unready, "reasons": unready}, 503 if unready else 200)


async def metrics(request: web.Request) -> web.Response:
    page, content_type = request.app[SERVICES].metrics.render(request.headers.get("Accept", ""))
    return web.Response(body=page, headers={"Content-Type": content_type})


async def status(request: web.Request) -> web.Response:
    return answer(request.app[SERVICES].board.read())


async def read_kill(request: web.Request) -> web.Response:
    return answer(request.app[SERVICES].kill.status)


async def throw_kill(request: web.Request) -> web.Response:
    return await _set_kill(request, on=True)


async def release_kill(request: web.Request) -> web.Response:
    return await _set_kill(request, on=False)


async def _set_kill(request: web.Request, *, on: bool) -> web.Response:
    why, who = await reason(request), request[CALLER]
    try:
        now = await request.app[SERVICES].kill.set(on, reason=why, by=who.name)
    except KillRefused as error:
        raise Refusal(
            "kill_not_released", 503, "Kill switch not released", str(error), fault=Fault.SIDECAR
        ) from error
    _changed(request, "kill on" if on else "kill off", why)
    return answer(now)


async def read_breakers(request: web.Request) -> web.Response:
    return answer(request.app[SERVICES].breakers.read())


async def command_breaker(request: web.Request) -> web.Response:
    name, action = request.match_info["name"], request.match_info["action"]
    why, who = await reason(request), request[CALLER]
    try:
        now = await request.app[SERVICES].breakers.command(name, action, reason=why, by=who.name)
    except UnknownBreaker as error:
        raise Refusal("unknown_breaker", 404, "No such breaker", str(error)) from error
    _changed(request, f"breaker {action}", why, upstream=name)
    return answer(now)


def _changed(request: web.Request, action: str, why: str, **more: str) -> None:
    who = request[CALLER]
    _log.info(
        "changed: %s",
        action,
        extra={
            "by": who.name,
            "role": who.role.label,
            "reason": why,
            "address": request.remote,
            "request_id": request[REQUEST_ID],
            **more,
        },
    )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of the table. Without a role nobody is asked for a token."""

    method: str
    path: str
    role: Role | None
    handle: Callable[[web.Request], Awaitable[web.Response]]


ENDPOINTS = (
    Endpoint("GET", "/livez", None, livez),
    Endpoint("GET", "/readyz", None, readyz),
    Endpoint("GET", "/metrics", None, metrics),
    Endpoint("GET", "/v1/status", Role.VIEWER, status),
    Endpoint("GET", "/v1/kill", Role.VIEWER, read_kill),
    Endpoint("PUT", "/v1/kill", Role.COMMANDER, throw_kill),
    Endpoint("DELETE", "/v1/kill", Role.COMMANDER, release_kill),
    Endpoint("GET", "/v1/breakers", Role.VIEWER, read_breakers),
    Endpoint("POST", f"/v1/breakers/{{name}}/{{action:{'|'.join(ACTIONS)}}}", Role.OPERATOR, command_breaker),
)
