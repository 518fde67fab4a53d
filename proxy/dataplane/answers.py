"""Answers that the sidecar makes itself: problem documents (RFC 9457) and their heads."""

from email.utils import formatdate
from http import HTTPStatus
from math import floor

import orjson

from proxy.clock import wall
from proxy.errors import Refusal

_STARTS = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


_TENTHS = tuple(b"%.1f" % (tenths / 10) for tenths in range(1000))


def milliseconds(seconds: float) -> bytes:
    """A duration as Server-Timing states it; mostly looked up, a third of the effort of a format."""
    try:
        return _TENTHS[floor(seconds * 10_000 + 0.5)]
    except IndexError:
        return b"%.1f" % (seconds * 1000)


class _Date:
    """The Date field, formatted once a second (RFC 9110 §6.6.1)."""

    second = -1.0
    line = b""


def date_line() -> bytes:
    now = wall()
    if not 0.0 <= now - _Date.second < 1.0:
        _Date.second = second = floor(now)
        _Date.line = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
    return _Date.line


def head(status: int, length: int, content_type: bytes, lines: bytes) -> bytes:
    """The head of an own answer. `lines` are complete header lines, each ended by CRLF."""
    return b"%b%bContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n" % (
        _STARTS[status],
        date_line(),
        content_type,
        length,
        lines,
    )


def empty(status: int, lines: bytes) -> bytes:
    """A whole answer without content; 204 carries no Content-Length (RFC 9110 §8.6)."""
    length = b"" if status == 204 else b"Content-Length: 0\r\n"
    return b"%b%b%b%b\r\n" % (_STARTS[status], date_line(), length, lines)


def problem(refusal: Refusal, request_id: bytes, lines: bytes, *, bodiless: bool) -> bytes:
    """A whole answer to a request that is not served, with `Proxy-Status` (RFC 9209)."""
    body = orjson.dumps(
        {
            "type": f"urn:fusebox:problem:{refusal.code}",
            "title": refusal.title,
            "status": refusal.status,
            "detail": refusal.detail,
            "code": refusal.code,
            "request_id": request_id.decode("ascii"),
        }
    )
    extra = [lines, b"Cache-Control: no-store\r\n", b"Proxy-Status: fusebox"]
    if refusal.proxy_error:
        extra.append(b"; error=" + refusal.proxy_error.encode())
    extra.append(b'; details="%b"\r\n' % refusal.code.encode())
    if refusal.retry_after_s is not None:
        extra.append(b"Retry-After: %d\r\n" % refusal.retry_after_s)
    if refusal.allow:
        extra.append(b"Allow: %b\r\n" % refusal.allow.encode())
    start = head(refusal.status, len(body), b"application/problem+json", b"".join(extra))
    return start if bodiless else start + body
