"""What a request case is: bytes on the edge of the grammar, and the verdict that the rules give.

Written from `wire/README` (Framing), RFC 9112 and RFC 9110. Where those leave a choice, the
verdict is `Either`: refuse it, or pass on exactly what was sent.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answered with one of `statuses`, then closed; no complete request reaches the upstream."""

    statuses: frozenset[int]
    head_seen: bool = False  # the fault is in the body: the upstream may have seen the head


@dataclass(frozen=True, slots=True)
class Forward:
    """One request with this target and body reaches the upstream, and its answer the client."""

    body: bytes = b""
    target: bytes = b"/p"


@dataclass(frozen=True, slots=True)
class Either:
    """Refused as a malformed one is, or forwarded so that `body` arrives."""

    refuse: Refuse
    forward: Forward


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    raw: bytes
    verdict: Refuse | Forward | Either
    absent: bytes = b""  # must never stand in what the upstream receives


BAD = Refuse(frozenset({400}))
BAD_BODY = Refuse(frozenset({400}), head_seen=True)
BAD_CODING = Refuse(frozenset({400, 501}))
BAD_VERSION = Refuse(frozenset({400, 505}))
BAD_METHOD = Refuse(frozenset({400, 405, 501}))
TOO_LONG = Refuse(frozenset({431}))
TOO_LONG_TARGET = Refuse(frozenset({414}))
TOO_LONG_LINE = Refuse(frozenset({400, 414, 431, 501}))
TOO_LARGE = Refuse(frozenset({400, 413}))
OK = Forward()
HELLO = Forward(b"hello")


def line(first: bytes) -> bytes:
    """A request with this request line."""
    return first + b"\r\nHost: x\r\n\r\n"


def get(*fields: bytes) -> bytes:
    return b"GET /p HTTP/1.1\r\nHost: x\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n"


def hosted(*hosts: bytes) -> bytes:
    return b"GET /p HTTP/1.1\r\n" + b"".join(b"Host:" + h + b"\r\n" for h in hosts) + b"\r\n"


def post(*fields: bytes, body: bytes = b"hello", version: bytes = b"1.1", method: bytes = b"POST") -> bytes:
    head = b"%s /p HTTP/%s\r\nHost: x\r\n" % (method, version)
    return head + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


def length(value: bytes, body: bytes = b"hello") -> bytes:
    return post(b"Content-Length:" + value, body=body)


WHOLE = b"5\r\nhello\r\n0\r\n\r\n"


def coding(*values: bytes, more: tuple[bytes, ...] = (), body: bytes = WHOLE) -> bytes:
    return post(*(b"Transfer-Encoding:" + v for v in values), *more, body=body)


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def trailed(*trailers: bytes) -> bytes:
    return chunked(b"5\r\nhello\r\n0\r\n" + b"".join(t + b"\r\n" for t in trailers) + b"\r\n")


def maybe(refuse: Refuse = BAD, body: bytes = b"", target: bytes = b"/p") -> Either:
    return Either(refuse, Forward(body, target))


def sibling(raw: bytes) -> bytes:
    """A good request with the names of fields of `raw`, as far as they may be names, in their order."""
    method = b"POST" if raw.startswith(b"POST") else b"GET"
    return b"%b /sibling HTTP/1.1\r\n%b" % (method, _alike(raw, {b"host": b"x", b"content-length": b"0"}))


def answer_sibling(raw: bytes) -> bytes:
    """The same of an answer, with its body."""
    fields = _alike(raw, {b"content-length": b"0", b"transfer-encoding": b"chunked"})
    return b"HTTP/1.1 200 OK\r\n" + fields + (b"0\r\n\r\n" if b"chunked" in fields else b"")


def _alike(raw: bytes, values: dict[bytes, bytes]) -> bytes:
    lines = raw.partition(b"\r\n\r\n")[0].replace(b"\n", b"\r").split(b"\r")[1:]
    names = dict.fromkeys(line.partition(b":")[0] for line in lines)
    values = {b"connection": b"keep-alive", **values}
    return (
        b"".join(b"%b: %b\r\n" % (name, values.get(name.lower(), b"a")) for name in names if name) + b"\r\n"
    )
