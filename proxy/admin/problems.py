"""Every error of the admin face is a problem document (RFC 9457); nothing inside shows through."""

import logging
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.errors import Refusal
from proxy.ports import StoreError

_log = logging.getLogger("fusebox.admin")

REQUEST_ID = web.RequestKey("request_id", str)
"""Made here for each request; stands in `X-Request-Id`, in problem documents and in the log."""

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 417: "expectation_failed"}


def answer(value: Any, status: int = 200) -> web.Response:
    """A JSON answer; dataclasses are written as objects."""
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")


def refused(refusal: Refusal, request_id: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The problem document of a refusal."""
    document = {
        "type": f"urn:fusebox:problem:{refusal.code}",  # as the data plane writes it
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail or refusal.title,
        "code": refusal.code,
        "request_id": request_id,
    }
    response = web.Response(
        status=refusal.status, body=orjson.dumps(document), content_type="application/problem+json"
    )
    response.headers.update(headers or {})
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
    response: web.StreamResponse
    try:
        response = await handler(request)
    except Refusal as refusal:
        response = refused(refusal, request_id)
    except web.HTTPException as error:
        response = refused(_translated(error), request_id)
    except StoreError as error:
        extra = {"request_id": request_id, "path": request.path}
        _log.error("store unavailable: %s", error, extra=extra)
        response = refused(Refusal("store_unavailable", 503, "Store unavailable", str(error)), request_id)
    except Exception:  # noqa: BLE001 - the boundary: logged with its stack, shown without
        _log.exception("admin request failed", extra={"request_id": request_id, "path": request.path})
        text = "The sidecar made a mistake; its log tells more under this request id."
        response = refused(Refusal("internal_error", 500, "Internal error", text), request_id)
    response.headers["X-Request-Id"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    response.headers["Server"] = "fusebox"  # instead of the versions of Python and aiohttp
    return response


def _translated(error: web.HTTPException) -> Refusal:
    title = HTTPStatus(error.status).phrase
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Refusal("method_not_allowed", 405, title, f"Allowed here: {allowed}", allow=allowed)
    detail = error.text or title if error.status == 413 else title
    return Refusal(_CODES.get(error.status, "bad_request"), error.status, title, detail)
