"""Every error of the admin face is a problem document (RFC 9457); nothing inside shows through."""

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from proxy.errors import Refusal
from proxy.ports import StoreError

_log = logging.getLogger("fusebox.admin")

REQUEST_ID = web.RequestKey("request_id", str)
"""Made here for each request; stands in `X-Request-Id`, in problem documents and in the log."""

PROBLEMS: Mapping[str, tuple[int, str]] = {
    "bad_request": (400, "Bad request"),
    "unauthorized": (401, "Token missing or unknown"),
    "forbidden": (403, "Role does not suffice"),
    "not_found": (404, "Not Found"),
    "unknown_breaker": (404, "No such breaker"),
    "unknown_baseline": (404, "No such baseline"),
    "unknown_version": (404, "No such version"),
    "no_checkpoint": (404, "No checkpoint yet"),
    "method_not_allowed": (405, "Method Not Allowed"),
    "request_timeout": (408, "Body too slow"),
    "verify_running": (409, "Already verifying"),
    "illegal_move": (409, "No such move from here"),
    "drill_refused": (409, "No drill now"),
    "rollback_off": (409, "Rollback is off"),
    "request_running": (409, "The same request is under way"),
    "version_mismatch": (412, "Not that version any more"),
    "body_too_large": (413, "Request Entity Too Large"),
    "expectation_failed": (417, "Expectation Failed"),
    "idempotency_key_reused": (422, "Idempotency-Key used before"),
    "toggles_refused": (422, "Toggles refused"),
    "precondition_required": (428, "If-Match is needed"),
    "too_many_attempts": (429, "Too many attempts"),
    "rate_limited": (429, "Too many requests"),
    "internal_error": (500, "Internal error"),
    "kill_not_released": (503, "Kill switch not released"),
    "overloaded": (503, "Too many requests at once"),
    "store_unavailable": (503, "Store unavailable"),
}
"""Every code that the admin face answers with, its status and title."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a request: where, as `body.reason`, and what."""

    at: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemDocument:
    """What an error looks like. `errors`: each fault of a bad request; `version`: the current one."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: tuple[Fault, ...] | None = None
    version: int | None = None


class Problem(Refusal):
    """A refusal by its code in `PROBLEMS`, with what only the admin face tells."""

    __slots__ = ("errors", "version")

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        version: int | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        status, title = PROBLEMS[code]
        super().__init__(code, status, title, detail, retry_after_s=retry_after_s)
        self.errors = tuple(errors) or None
        self.version = version


def refused(refusal: Refusal, request_id: str) -> web.Response:
    """The problem document of a refusal."""
    document = ProblemDocument(
        type=f"urn:fusebox:problem:{refusal.code}",  # as the data plane writes it
        title=refusal.title,
        status=refusal.status,
        detail=refusal.detail or refusal.title,
        code=refusal.code,
        request_id=request_id,
        errors=getattr(refusal, "errors", None),
        version=getattr(refusal, "version", None),
    )
    members = {name: getattr(document, name) for name in document.__slots__}
    body = orjson.dumps({name: value for name, value in members.items() if value is not None})
    response = web.Response(status=refusal.status, body=body, content_type="application/problem+json")
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.allow:
        response.headers["Allow"] = refusal.allow
    if refusal.status == 401:
        # RFC 9110, 11.6.1: a 401 names the way to be let in.
        response.headers["WWW-Authenticate"] = 'Bearer realm="fusebox"'
    return response


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into its problem document."""
    request_id = request[REQUEST_ID] = uuid.uuid4().hex
    extra = {"request_id": request_id, "path": request.path}
    response: web.StreamResponse
    try:
        response = await handler(request)
    except Refusal as refusal:
        response = refused(refusal, request_id)
    except web.HTTPException as error:
        response = refused(_translated(error), request_id)
    except StoreError as error:
        _log.error("store unavailable: %s", error, extra=extra)
        response = refused(Problem("store_unavailable", str(error)), request_id)
    except Exception:  # noqa: BLE001 - the boundary: logged with its stack, shown without
        _log.exception("admin request failed", extra=extra)
        text = "The sidecar made a mistake; its log tells more under this request id."
        response = refused(Problem("internal_error", text), request_id)
    response.headers["X-Request-Id"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    response.headers["Server"] = "fusebox"  # instead of the versions of Python and aiohttp
    return response


async def expectation(request: web.Request) -> web.StreamResponse | None:
    """`Expect`, which aiohttp asks about before any middleware; None: go on."""
    if request.headers["Expect"].lower() != "100-continue":
        return await problems(request, _unmet)
    if request.version >= HttpVersion11:  # of 1.0 it has to be ignored (RFC 9110, 10.1.1)
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # of the answer, nothing is out
    return None


async def _unmet(_: web.Request) -> web.StreamResponse:
    raise web.HTTPExpectationFailed


_BY_STATUS: Mapping[int, str] = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    417: "expectation_failed",
}


def _translated(error: web.HTTPException) -> Refusal:
    title = HTTPStatus(error.status).phrase
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Refusal("method_not_allowed", 405, title, f"Allowed here: {allowed}", allow=allowed)
    detail = error.text or title if error.status == 413 else title
    return Refusal(_BY_STATUS.get(error.status, "bad_request"), error.status, title, detail)


def json_answer(value: Any, status: int = 200) -> web.Response:
    """A JSON answer; dataclasses are written as objects."""
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
