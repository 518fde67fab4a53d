"""What a change must bring along: a reason, and nothing that would be silently ignored."""

import asyncio

import orjson
from aiohttp import web

from proxy.errors import Refusal

BODY_BYTES = 64 * 1024
BODY_S = 10.0
REASON_CHARACTERS = 500


async def reason(request: web.Request) -> str:
    """The reason of a change, from the body `{"reason": "…"}` or, on DELETE, from the query.

    Refusal 400 when there is none or the body says more than that, 408 when the body takes more
    than `BODY_S` seconds, 413 (raised by aiohttp) when it is larger than `BODY_BYTES`.
    """
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except TimeoutError:
        raise Refusal("request_timeout", 408, "Body too slow", f"Not read after {BODY_S:g} s.") from None
    given = _fields(body) if body else {}
    if request.method == "DELETE" and "reason" in request.query:
        given.setdefault("reason", request.query["reason"])
    if unknown := sorted(given.keys() - {"reason"}):
        raise _bad(f"Unknown fields: {', '.join(unknown)}. Only 'reason' is known here.")
    text = given.get("reason")
    if not isinstance(text, str) or not text.strip():
        raise _bad("A change needs a 'reason': a text that says why, for whoever reads the log.")
    if len(text) > REASON_CHARACTERS:
        raise _bad(f"The 'reason' may have {REASON_CHARACTERS} characters; this one has {len(text)}.")
    return text.strip()


def _fields(body: bytes) -> dict[str, object]:
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _bad(f"The body is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise _bad("The body must be a JSON object.")
    return given


def _bad(detail: str) -> Refusal:
    return Refusal("bad_request", 400, "Bad request", detail)
