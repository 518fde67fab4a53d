"""From a request to its handler and back: let in, read, carried out, answered."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from aiohttp import web
from multidict import MultiDict

from proxy.admin.access import Access
from proxy.admin.calls import NOBODY, Answer, Call, Change, Recording, Services, Text, Thrown
from proxy.admin.changes import carry_out
from proxy.admin.endpoints import Endpoint
from proxy.admin.idempotency import Kept, Replays, fingerprint
from proxy.admin.limits import Limits
from proxy.admin.problems import REQUEST_ID, Problem, json_answer
from proxy.clock import Clock
from proxy.core.roles import Principal
from proxy.errors import Refusal
from proxy.ports import StoreError

BODY_S = 10.0

_NOTHING: MultiDict[str] = MultiDict()

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Dispatch:
    """Serves endpoints over `services`; one per application, since limits and replays are counted in it."""

    def __init__(self, services: Services, document: Mapping[str, Any], clock: Clock) -> None:
        self._services = services
        self._document = document
        self.access = Access(services, clock)
        self._limits = Limits(clock)
        self._replays = Replays(clock)
        self._changing: dict[str, asyncio.Lock] = {}
        # So that changes of one thing take effect in the order in which they are recorded.

    def handle(self, endpoint: Endpoint) -> Handle:
        """What aiohttp calls for this endpoint."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if endpoint.role is None:
                return await self._answered(endpoint, request, self._call(request), b"")
            who = await self.access.admit(request, endpoint.role)
            with self._limits.admitted(who.name) if endpoint.limited else nullcontext():
                body = await _body(request, endpoint.body_bytes) if endpoint.signature.body else b""
                return await self._once(endpoint, request, self._call(request, who), body)

        return guarded

    def _call(self, request: web.Request, who: Principal | None = None) -> Call:
        return Call(
            services=self._services,
            address=request.remote or "",
            request_id=request[REQUEST_ID],
            accept=request.headers.get("Accept", ""),
            document=self._document,
            who=who or NOBODY,
        )

    async def _once(
        self, endpoint: Endpoint, request: web.Request, call: Call, body: bytes
    ) -> web.StreamResponse:
        """The answer, or for an `Idempotency-Key` known already the one there was."""
        key = request.headers.get("Idempotency-Key")
        if key is None or not endpoint.signature.change:
            return await self._answered(endpoint, request, call, body)
        name = call.who.name
        kept = self._replays.begin(name, key, fingerprint(request.method, request.raw_path, body))
        if kept is not None:
            headers = dict(kept.headers) | {"Idempotency-Replayed": "true"}
            return web.Response(status=kept.status, body=kept.body, headers=headers)
        answer = None
        try:
            answer = await self._answered(endpoint, request, call, body)
        finally:
            self._replays.finish(name, key, _kept(answer))
        return answer

    async def _answered(
        self, endpoint: Endpoint, request: web.Request, call: Call, body: bytes
    ) -> web.Response:
        arguments = endpoint.signature.read(
            path=request.match_info,
            query=request.query if endpoint.role else _NOTHING,  # probes may ask as they like
            body=body,
            or_query=request.method == "DELETE",
        )
        headers = {}
        if endpoint.signature.change:
            value, changed = await self._changed(endpoint, request, call, arguments)
            headers["X-Fusebox-Changed"] = "true" if changed else "false"
        else:
            value = await endpoint.handle(call, **arguments)
        response = _written(value)
        if endpoint.version is not None:
            headers["ETag"] = f'"{endpoint.version(self._services)}"'
        response.headers.update(headers)
        return response

    async def _changed(
        self, endpoint: Endpoint, request: web.Request, call: Call, arguments: dict[str, Any]
    ) -> tuple[Any, bool]:
        waits = endpoint.recording is not Recording.AFTERWARDS
        looked_at = endpoint.version(self._services) if endpoint.version else None
        thrown = await endpoint.first(call, **arguments) if endpoint.first else None
        if thrown is not None:
            if thrown.answer is not None:
                return thrown.answer, True
            call = replace(call, thrown=thrown.version)
        subject = endpoint.subject or endpoint.path
        try:
            async with self._changing.setdefault(subject, asyncio.Lock()) if waits else nullcontext():
                if endpoint.version is not None:
                    now = endpoint.version(self._services)
                    # The kill switch that this very request has thrown is no change by somebody else.
                    own = thrown is not None and thrown.version == now
                    if _match(request, looked_at if own else now, required=endpoint.required):
                        call = replace(call, version=now)
                change: Change[Any] = await endpoint.handle(call, **arguments)
                return await self._carried_out(endpoint, change, call), change.changed
        except (Refusal, StoreError) as error:
            if thrown is None:
                raise
            raise _although_killed(error, thrown) from error

    async def _carried_out(self, endpoint: Endpoint, change: Change[Any], call: Call) -> Any:
        try:
            return await carry_out(change, call, endpoint.recording)
        except StoreError as error:
            if endpoint.recording is Recording.STORED or "kill_not_released" not in endpoint.codes:
                raise
            raise Problem("kill_not_released", f"not released: {error}") from error


async def _body(request: web.Request, limit: int) -> bytes:
    """Problem 408 when it takes more than `BODY_S` seconds; 413 over `limit` bytes."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > limit:
                    raise web.HTTPRequestEntityTooLarge(limit, len(body))
    except TimeoutError:
        raise Problem("request_timeout", f"Not read after {BODY_S:g} s.") from None
    return bytes(body)


def _although_killed(error: Refusal | StoreError, thrown: Thrown) -> Problem:
    """The refusal of all but the kill switch, which has been thrown."""
    said = error.detail or error.title if isinstance(error, Refusal) else str(error)
    detail = f"The kill switch is ON, as version {thrown.version}; the rest was refused: {said}"
    code = error.code if isinstance(error, Refusal) else "store_unavailable"
    errors, version = getattr(error, "errors", None), getattr(error, "version", None)
    return Problem(code, detail, errors=errors or (), version=version)


def _match(request: web.Request, version: int | None, *, required: bool) -> bool:
    """Whether this very version was asked for. RFC 9110, 13.1.1, by strong comparison."""
    lines = request.headers.getall("If-Match", ())  # several are one list (5.3)
    asked = ", ".join(lines) if lines else None
    if asked is None and required:
        detail = f'Say which version the change was decided on: If-Match: "{version}" is the present one.'
        raise Problem("precondition_required", detail, version=version)
    if asked is None or asked.strip() == "*":
        return False
    if f'"{version}"' not in [tag.strip() for tag in asked.split(",")]:
        detail = f"If-Match asks for {asked[:100]}, but the version is {version}: look again, then decide."
        raise Problem("version_mismatch", detail, version=version)
    return True


def _written(value: Any) -> web.Response:
    if isinstance(value, Text):
        return web.Response(body=value.body, headers={"Content-Type": value.content_type})
    if isinstance(value, Answer):
        return json_answer(value.value, value.status)
    return json_answer(value)


def _kept(answer: web.StreamResponse | None) -> Kept | None:
    if not isinstance(answer, web.Response):  # refused or failed
        return None
    headers = tuple((name, answer.headers[name]) for name in _REPLAYED if name in answer.headers)
    return Kept(answer.status, headers, bytes(answer.body or b""))  # type: ignore[arg-type]  # ours are bytes


_REPLAYED = ("Content-Type", "ETag", "X-Fusebox-Changed")
