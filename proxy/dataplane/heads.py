"""Message heads: strict to read, cheap to pass on.

A head is validated whole by llhttp (through httptools, without a callback per header) and then
edited in place: one regular expression finds the few fields the sidecar manages, everything else
travels on as the bytes it came in. Nothing malformed is repaired (design rule 6).
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import httptools

from proxy.core.policy import Limits
from proxy.errors import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.binding import Bound

# Not passed on: hop-by-hop (RFC 9110 §7.6.1), and what the sidecar says itself.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_REPLACED = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))
_READ = frozenset(
    (
        b"content-length",
        b"expect",
        b"host",
        b"http2-settings",
        b"idempotency-key",
        b"max-forwards",
        b"traceparent",
        b"x-request-id",
    )
)
_OWN = b"x-fusebox-"
# End-to-end fields that a Connection header may name but not take away (wire, Framing).
_PROTECTED = _READ | _REPLACED | {b"authorization", b"cookie", b"cache-control", b"content-type", b"via"}

_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([^ #\x00-\x20\x7f-\xff]+) HTTP/1\.([01])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\r\n")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)(.*)", re.DOTALL)
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]+)(?::([0-9]{0,5}))?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@~-]{1,128}")
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Span = tuple[int, int]


class _Quiet:
    """A receiver without callbacks: llhttp validates, nobody is told."""


def bad_request(detail: str, *, status: int = 400, code: str = "bad_request") -> Refusal:
    """A malformed request: the connection may be out of step, so it is closed after the answer."""
    return Refusal(code, status, "Bad Request", detail, close=True)


class RequestHead:
    """One request head. `fields` holds the managed fields only, by lower-case name.

    The last five are what the plane decides about the request: one object serves it from its first
    byte to its line in the access log.
    """

    __slots__ = (
        "bound",
        "bucket",
        "chunked",
        "connection",
        "content_length",
        "expects_continue",
        "fields",
        "http11",
        "id_lines",
        "keep_alive",
        "lines",
        "method",
        "path",
        "query",
        "request_id",
        "started",
        "target",
        "traceparent",
        "upgrade",
        "user",
    )

    method: bytes
    target: bytes  # origin-form, or *
    path: bytes
    query: bytes
    http11: bool
    keep_alive: bool
    fields: dict[bytes, bytes]
    lines: bytes  # the header lines that go on, each ended by CRLF
    connection: frozenset[bytes]
    content_length: int  # 0 when there is no body or it is chunked
    chunked: bool
    expects_continue: bool
    upgrade: bytes  # lower-case protocol asked for, when Connection names it
    request_id: bytes  # empty: absent or not well-formed
    traceparent: bytes
    id_lines: bytes  # X-Request-Id and traceparent as far as they had to be made
    bound: "Bound | None"
    user: bytes
    bucket: int
    started: float  # monotonic

    def count_down(self, hops: int) -> None:
        """Say `Max-Forwards: hops` further on (RFC 9110 §7.6.2)."""
        self.lines = self._dropped(b"max-forwards") + b"Max-Forwards: %d\r\n" % hops

    def drop(self, name: bytes) -> None:
        """Pass `name` on no longer."""
        self.lines = self._dropped(name)

    def _dropped(self, name: bytes) -> bytes:
        lines = b"\r\n" + self.lines
        return _without(lines + b"\r\n", 0, _spans_of(name, lines, 0))


class RequestReader:
    """Reads request heads. One serves all connections: it holds no state between heads."""

    def __init__(self, limits: Limits, identity_fields: Iterable[bytes]) -> None:
        self._fields_limit = limits.head_fields
        self._target_limit = limits.target_bytes
        self._protected = _PROTECTED | frozenset(identity_fields)
        self._scan = _scanner(HOP_BY_HOP | _REPLACED | _READ | frozenset(identity_fields)).finditer
        self._parser = httptools.HttpRequestParser(_Quiet())
        self._hosts: set[bytes] = set()  # values seen to be valid, bounded

    def read(self, head: bytes) -> RequestHead:
        """`head` runs to its first empty line, inclusive. Raises `Refusal`, or gives the parts."""
        line = _REQUEST_LINE.match(head)
        if line is None:
            raise self._bad_line(head)
        if head.count(b"\r\n") > self._fields_limit + 2:
            raise Refusal(
                "head_too_large", 431, "Request Header Fields Too Large", "too many header fields", close=True
            )
        asked_upgrade = False
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            asked_upgrade = True
            self._parser = httptools.HttpRequestParser(_Quiet())
        except httptools.HttpParserError as error:
            self._parser = httptools.HttpRequestParser(_Quiet())
            raise bad_request(str(error)) from None
        out = RequestHead()
        out.method, target, minor = line.groups()
        out.http11 = minor == b"1"
        if len(target) > self._target_limit:
            raise Refusal("bad_request", 414, "URI Too Long", close=True)
        self._fields(out, head, line.end() - 2)
        self._target(out, target)
        self._framing(out)
        self._persistence(out, asked_upgrade=asked_upgrade)
        return out

    def _bad_line(self, head: bytes) -> Refusal:
        if head.find(b"\r\n") > self._target_limit + 32:
            return Refusal("bad_request", 414, "URI Too Long", close=True)
        return bad_request("the request line is not METHOD SP target SP HTTP/1.1")

    def too_large(self, data: bytes) -> Refusal:
        """What an oversized, unfinished head is refused with."""
        if b"\r\n" not in data[: self._target_limit + 32]:
            return Refusal("bad_request", 414, "URI Too Long", close=True)
        return Refusal("head_too_large", 431, "Request Header Fields Too Large", close=True)

    def _fields(self, out: RequestHead, head: bytes, start: int) -> None:
        fields: dict[bytes, bytes] = {}
        cuts: list[Span] = []
        for found in self._scan(head.lower(), start):
            name: bytes = found[1]
            begin, end = found.span(2)
            if b"_" in name and not name.startswith((b"x_fusebox", b"x-fusebox")):
                raise bad_request(f"a field name that could be read as {name.replace(b'_', b'-').decode()}")
            value = head[begin:end].rstrip(b" \t")
            if name in fields:
                value = fields[name] + b", " + value
            fields[name] = value
            if name in HOP_BY_HOP or name in _REPLACED or name[:9] == b"x-fusebox" or b"_" in name:
                cuts.append((found.start(), end))
        out.request_id = fields.get(b"x-request-id", b"")
        if out.request_id and not _REQUEST_ID.fullmatch(out.request_id):
            out.request_id = b""
            cuts += _spans_of(b"x-request-id", head, start)
        out.traceparent = fields.get(b"traceparent", b"")
        if out.traceparent and not _TRACEPARENT.fullmatch(out.traceparent):
            out.traceparent = b""
            cuts += _spans_of(b"traceparent", head, start)
        out.fields = fields
        if b"connection" in fields:
            out.connection = _tokens(fields[b"connection"])
            for name in out.connection - HOP_BY_HOP - self._protected - {b"close"}:
                cuts += _spans_of(name, head, start)
        else:
            out.connection = _NO_TOKENS
        if b"http2-settings" in fields:
            cuts += _spans_of(b"http2-settings", head, start)
        out.lines = _without(head, start, cuts) if cuts else head[start + 2 : -2]

    def _target(self, out: RequestHead, target: bytes) -> None:
        if target[0] != 0x2F:  # "/"
            target = self._other_form(out, target)
        out.target = target
        out.path, _, out.query = target.partition(b"?")
        host = out.fields.get(b"host")
        if host in self._hosts:
            return
        if host is None:
            if out.http11:
                raise bad_request("no Host field")
            return
        valid = _HOST.fullmatch(host)
        if valid is None or int(valid[1] or 0) > 65535:
            raise bad_request("the Host field is not one host with an optional port")
        if len(self._hosts) < 1024:
            self._hosts.add(host)

    def _other_form(self, out: RequestHead, target: bytes) -> bytes:
        """Asterisk-form and absolute-form (RFC 9112 §3.2); authority-form is CONNECT's alone."""
        if out.method == b"CONNECT":
            raise Refusal("bad_request", 405, "Method Not Allowed", "no tunnels by CONNECT", close=True)
        if target == b"*" and out.method == b"OPTIONS":
            return target
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise bad_request("the request target is no path")
        authority, rest = absolute.groups()
        if not _HOST.fullmatch(authority):
            raise bad_request("the authority in the request target is not valid")
        host = out.fields.get(b"host")
        if host is not None and not _HOST.fullmatch(host):
            raise bad_request("the Host field is not one host with an optional port")
        if host is None and out.http11:
            raise bad_request("no Host field")
        # RFC 9112 §3.2.2: what Host says is ignored and replaced.
        if host is not None:
            out.drop(b"host")
        out.fields[b"host"] = authority
        out.lines = b"Host: " + authority + b"\r\n" + out.lines
        if not rest and out.method == b"OPTIONS":
            return b"*"
        return rest if rest.startswith(b"/") else b"/" + rest

    def _framing(self, out: RequestHead) -> None:
        coding = out.fields.get(b"transfer-encoding")
        length = out.fields.get(b"content-length")
        out.chunked = False
        out.content_length = 0
        if coding is not None:
            if length is not None or not out.http11:
                raise bad_request("Transfer-Encoding with Content-Length, or on HTTP/1.0")
            if coding.lower() != b"chunked":
                raise Refusal("bad_request", 501, "Not Implemented", "only chunked is understood", close=True)
            out.chunked = True
        elif length is not None:
            if not length.isdigit() or (length[0] == 0x30 and len(length) > 1) or len(length) > 18:
                raise bad_request("Content-Length is not a plain number")
            out.content_length = int(length)
        if out.method == b"TRACE" and (out.chunked or out.content_length):
            raise bad_request("TRACE has no body")
        expect = out.fields.get(b"expect")
        out.expects_continue = False
        if expect is not None:
            if expect.lower() != b"100-continue":
                raise Refusal("bad_request", 417, "Expectation Failed", close=True)
            if out.http11:
                out.expects_continue = True
            else:  # RFC 9110 §10.1.1: from HTTP/1.0 it is ignored
                out.drop(b"expect")

    def _persistence(self, out: RequestHead, *, asked_upgrade: bool) -> None:
        out.keep_alive = out.http11 and b"close" not in out.connection
        out.upgrade = b""
        if asked_upgrade and b"upgrade" in out.connection and out.http11:
            out.upgrade = out.fields.get(b"upgrade", b"").lower()
        if out.content_length or out.chunked:
            # llhttp now waits for a body that it will not be fed.
            self._parser = httptools.HttpRequestParser(_Quiet())


class HeadWatch:
    """Looks at a head that comes in pieces, so that what can become no request is refused at once."""

    __slots__ = ("_fed", "_parser")

    def __init__(self) -> None:
        self._fed = 0
        self._parser = httptools.HttpRequestParser(_Quiet())

    def feed(self, data: bytes) -> None:
        """`data` is all there is so far. Raises `Refusal`."""
        try:
            self._parser.feed_data(data[self._fed :])
        except httptools.HttpParserError as error:
            raise bad_request(str(error)) from None
        self._fed = len(data)


class ResponseHead:
    """One response head of an upstream."""

    __slots__ = ("chunked", "connection", "content_length", "fields", "http11", "lines", "reason", "status")

    status: int
    reason: bytes
    http11: bool
    fields: dict[bytes, bytes]
    lines: bytes
    connection: frozenset[bytes]
    content_length: int  # -1: not stated
    chunked: bool


class Malformed(Exception):  # noqa: N818 - it is what the upstream sent
    """An answer that is refused: 502 `upstream_invalid`."""


class ResponseReader:
    """Reads response heads; shared like `RequestReader`."""

    def __init__(self) -> None:
        managed = HOP_BY_HOP | {b"content-length", b"x-request-id"}
        self._scan = _scanner(managed).finditer
        self._parser = httptools.HttpResponseParser(_Quiet())

    def read(self, head: bytes) -> ResponseHead:
        """Raises `Malformed`."""
        line = _STATUS_LINE.match(head)
        if line is None:
            raise Malformed("the status line is not HTTP/1.x SP 3DIGIT SP reason")
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpResponseParser(_Quiet())
        except httptools.HttpParserError as error:
            self._parser = httptools.HttpResponseParser(_Quiet())
            raise Malformed(str(error)) from None
        out = ResponseHead()
        minor, status, out.reason = line.groups()
        out.http11 = minor == b"1"
        out.status = int(status)
        start = line.end() - 2
        fields: dict[bytes, bytes] = {}
        cuts: list[Span] = []
        for found in self._scan(head.lower(), start):
            name: bytes = found[1]
            begin, end = found.span(2)
            value = head[begin:end].rstrip(b" \t")
            fields[name] = fields[name] + b", " + value if name in fields else value
            if name != b"content-length":
                cuts.append((found.start(), end))
        out.fields = fields
        out.connection = _NO_TOKENS
        if b"connection" in fields:
            out.connection = _tokens(fields[b"connection"])
            for name in out.connection - HOP_BY_HOP - {b"close", b"content-length", b"content-type"}:
                cuts += _spans_of(name, head, start)
        out.lines = _without(head, start, cuts) if cuts else head[start + 2 : -2]
        self._framing(out)
        return out

    def _framing(self, out: ResponseHead) -> None:
        coding = out.fields.get(b"transfer-encoding")
        length = out.fields.get(b"content-length")
        out.chunked = False
        out.content_length = -1
        if coding is not None:
            if length is not None or not out.http11 or coding.lower() != b"chunked" or out.status in _BODILESS:
                raise Malformed("Transfer-Encoding that is not chunked alone, on HTTP/1.1, with a body")
            out.chunked = True
        elif length is not None:
            if not length.isdigit() or (length[0] == 0x30 and len(length) > 1) or len(length) > 18:
                raise Malformed("Content-Length is not a plain number")
            out.content_length = int(length)
        if out.content_length != 0:
            # llhttp waits for the body that it will not be fed.
            self._parser = httptools.HttpResponseParser(_Quiet())


_BODILESS = frozenset((100, 101, 102, 103, 204))
_NO_TOKENS: frozenset[bytes] = frozenset()


def _scanner(names: Iterable[bytes]) -> "re.Pattern[bytes]":
    """Finds the managed fields in a lower-cased head, in every spelling (`_` for `-`)."""
    spelled = sorted((re.escape(name).replace(rb"\-", b"[-_]") for name in names), reverse=True)
    return re.compile(rb"\r\n(x[-_]fusebox[-_][^:]*|" + b"|".join(spelled) + rb"):[ \t]*([^\r]*)")


def _spans_of(name: bytes, head: bytes, start: int) -> list[Span]:
    line = re.compile(rb"\r\n" + re.escape(name) + rb":[^\r]*", re.IGNORECASE)
    return [found.span() for found in line.finditer(head, start)]


def _without(head: bytes, start: int, cuts: list[Span]) -> bytes:
    """The header lines from `start` (at the CRLF before the first) without the spans cut out."""
    kept = []
    for begin, end in sorted(cuts):
        if begin < start:
            continue  # named twice
        kept.append(head[start:begin])
        start = end
    kept.append(head[start:-2])
    return b"".join(kept)[2:]


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip(b" \t") for token in value.lower().split(b",")) - {b""}
