"""Request heads: strict to read, cheap to pass on.

A head is validated whole by llhttp (through httptools, without a callback per header) and then
edited in place: the few fields that the sidecar manages are looked up, everything else
travels on as the bytes it came in. Nothing malformed is repaired (design rule 6).
"""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import httptools

from proxy.clock import Clock, monotonic
from proxy.core.policy import Limits
from proxy.dataplane.fields import (
    HOP_BY_HOP,
    MOST_CONNECTION_OPTIONS,
    NO_TOKENS,
    READ,
    REPLACED,
    USUAL_TOKENS,
    Names,
    Quiet,
    Sorter,
    Validator,
    list_members,
    spelled_as,
    without,
)
from proxy.dataplane.patterns import LENGTH, OFTEN, USUAL_CONNECTION, Grammar, Pattern, Patterns
from proxy.errors import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.binding import Bound
    from proxy.dataplane.overriding import Overridden
    from proxy.dataplane.recording import Pending

_VERSIONS = {b"HTTP/1.1\r\n": True, b"HTTP/1.0\r\n": False}  # whether it is 1.1
_A, _HASH = b"A#"
# End-to-end fields that a Connection header may name but not take away (wire, Framing).
_PROTECTED = READ | REPLACED | {b"authorization", b"cookie", b"cache-control", b"content-type", b"via"}
_OTHER_VERSION = re.compile(rb"[A-Z]+ [^ \r\n]+ HTTP/(?!1\.[01])[0-9]\.[0-9]\r\n")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)(.*)", re.DOTALL)
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?")
_ID = rb"[A-Za-z0-9._:/+=@~-]{1,128}+"
_TRACE = rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_is_request_id = re.compile(_ID).fullmatch
_is_traceparent = re.compile(_TRACE).fullmatch
_TRACE_LINE = b"traceparent: 00-%b-%b-00\r\n"
_BOTH_IDS = b"X-Request-Id: %b\r\n" + _TRACE_LINE
# What patterns fit of a request line and a host: less than is valid, and all that is usual.
_START = rb'(GET|POST|HEAD|PUT|DELETE|PATCH) (/[!"$-~]{0,%d}+) HTTP/1\.1\r\n'
_USUAL_HOST = rb"([A-Za-z0-9.-]{1,255}+(?::[1-5]?[0-9]{1,4})?)"
_UNUSUAL = frozenset((b"expect", b"proxy-connection", b"transfer-encoding", b"upgrade"))


def bad_request(detail: str, *, status: int = 400, code: str = "bad_request") -> Refusal:
    """A malformed request: the connection may be out of step, so it is closed after the answer."""
    return Refusal(code, status, "Bad Request", detail, close=True)


class RequestHead:
    """One request head. `fields` holds the managed fields only, by lower-case name.

    The last seven are what the plane decides about the request: one object serves it from its first
    byte to its line in the access log.
    """

    __slots__ = (
        "action",
        "bound",
        "bucket",
        "chunked",
        "claims",
        "connection",
        "content_length",
        "expects_continue",
        "fields",
        "http11",
        "id_lines",
        "keep_alive",
        "lines",
        "made_id",
        "method",
        "overridden",
        "path",
        "pattern",
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
    made_id: bool  # by the sidecar: the client gave no request id, or none that is well-formed
    traceparent: bytes  # the client's; empty: absent or not well-formed, it goes on with one of the sidecar's
    id_lines: bytes  # X-Request-Id and traceparent as far as they had to be made
    claims: bool  # it says something of earlier hops
    pattern: Pattern | None  # that may fit the next one of the same client
    bound: "Bound | None"
    overridden: "Overridden"  # there where the decision is aside for an override
    action: "Pending | None"  # recorded before its answer
    user: bytes
    bucket: int
    started: float  # monotonic

    def count_down(self, hops: int) -> None:
        """Say `Max-Forwards: hops` further on (RFC 9110 §7.6.2)."""
        self.lines = self._dropped(b"max-forwards") + b"Max-Forwards: %d\r\n" % hops

    def identify(self, new_id: Callable[[], bytes]) -> None:
        """What goes upstream goes with ids: make those that are missing."""
        if self.traceparent:
            self.id_lines = b"X-Request-Id: %b\r\n" % self.request_id if self.made_id else b""
        elif self.made_id:
            made = self.request_id
            self.id_lines = _BOTH_IDS % (made, made, made[16:])
        else:
            made = new_id()
            self.id_lines = _TRACE_LINE % (made, made[16:])

    def drop(self, name: bytes) -> None:
        """Pass `name` on no longer."""
        self.lines = self._dropped(name)

    def _dropped(self, name: bytes) -> bytes:
        return without(b"\r\n" + self.lines, spelled_as((name,), self.lines))[2:]


class RequestReader:
    """Reads request heads. One serves all connections: it holds no state between heads."""

    def __init__(
        self,
        limits: Limits,
        identity_fields: Iterable[bytes],
        *,
        clock: Clock = monotonic,
        often: int = OFTEN,
    ) -> None:
        """An order of names that came `often` gets a pattern, one of them in a second of `clock`."""
        self._head_limit = limits.head_bytes
        self._fields_limit = limits.head_fields
        self._target_limit = limits.target_bytes
        self._protected = _PROTECTED | frozenset(identity_fields)
        self._sorter = Sorter(READ | frozenset(identity_fields), HOP_BY_HOP | REPLACED | {b"http2-settings"})
        self._validator = Validator(httptools.HttpRequestParser)
        self._hosts: set[bytes] = set()  # values seen to be valid, bounded
        values = {
            b"host": _USUAL_HOST,
            b"connection": USUAL_CONNECTION,
            b"content-length": LENGTH,
            b"x-request-id": b"(%b)" % _ID,
            b"traceparent": b"(%b)" % _TRACE,
        }
        start = _START % (self._target_limit - 1)
        grammar = Grammar(start, 2, values, needed=frozenset((b"host",)), unfit=_UNUSUAL)
        self.patterns = Patterns(grammar, self, clock, often)

    def again(self, data: bytes, pattern: Pattern) -> tuple[RequestHead, bytes] | None:
        """The head that `data` begins with, as `read` would give it, and what is behind it.

        None where the `pattern`, one of this reader's, does not fit: then `read` has to say what it is.
        """
        match = pattern.match
        found = match(data)
        if found is None:
            return None
        groups = found.groups()
        rest = groups[-1]
        if len(data) > self._head_limit and len(data) - len(rest) > self._head_limit:
            return None
        out = RequestHead()
        out.pattern = pattern
        out.method = groups[0]
        out.target = target = groups[1]
        out.path, _, out.query = target.partition(b"?")
        runs = pattern.runs
        out.lines = groups[pattern.lines_at] if runs is None else b"".join(runs(groups))
        out.fields = fields = pattern.blank.copy()
        for name, at in pattern.values:
            fields[name] = groups[at]
        out.request_id = groups[pattern.request_id_at] if pattern.request_id_at else b""
        out.traceparent = groups[pattern.traceparent_at] if pattern.traceparent_at else b""
        out.content_length = int(groups[pattern.length_at]) if pattern.length_at else 0
        out.connection = pattern.connection
        out.claims = pattern.claims
        out.http11 = out.keep_alive = True
        out.chunked = out.expects_continue = False
        out.upgrade = b""
        return out, rest

    def read(self, head: bytes) -> RequestHead:
        """`head` runs to its first empty line, inclusive. Raises `Refusal`, or gives the parts."""
        line = head.split(b" ", 2)
        if len(line) != 3:
            raise self._bad_line(head)
        method, target, rest = line
        http11 = _VERSIONS.get(rest[:10])
        # Methods begin with a letter (llhttp knows which); llhttp itself would skip empty lines.
        if http11 is None or head[0] < _A or not target or _HASH in target:
            raise self._bad_line(head)
        count = head.count(b"\n") - 2
        if count > self._fields_limit:
            raise Refusal(
                "head_too_large", 431, "Request Header Fields Too Large", "too many header fields", close=True
            )
        try:
            asked_upgrade = self._validator.read(head)
        except httptools.HttpParserError as error:
            raise bad_request(str(error)) from None
        if len(target) > self._target_limit:
            raise Refusal("bad_request", 414, "URI Too Long", close=True)
        out = RequestHead()
        out.method = method
        out.http11 = http11
        order, out.fields = self._sorter.read(self._validator.fields, count, rest, 10)
        names = order.names
        self._fields(out, rest, names)
        self._target(out, target)
        out.chunked = out.expects_continue = False
        out.content_length = 0
        if names.framing:
            self._framing(out)
        out.upgrade = b""
        bodiless = not out.content_length and not out.chunked
        if asked_upgrade and bodiless and http11 and b"upgrade" in out.connection:
            out.upgrade = out.fields.get(b"upgrade", b"").lower()
        out.pattern = self.patterns.of(order)
        return out

    def _bad_line(self, head: bytes) -> Refusal:
        if head.find(b"\r\n") > self._target_limit + 32:
            return Refusal("bad_request", 414, "URI Too Long", close=True)
        if _OTHER_VERSION.match(head):
            return Refusal("bad_request", 505, "HTTP Version Not Supported", close=True)
        return bad_request("the request line is not METHOD SP target SP HTTP/1.1")

    def too_large(self, data: bytes) -> Refusal:
        """What an oversized, unfinished head is refused with."""
        if b"\r\n" not in data[: self._target_limit + 32]:
            return Refusal("bad_request", 414, "URI Too Long", close=True)
        return Refusal("head_too_large", 431, "Request Header Fields Too Large", close=True)

    def _fields(self, out: RequestHead, head: bytes, names: Names) -> None:
        """`head` begins with the version of the request line."""
        if names.alias:
            raise bad_request(f"the field name {names.alias.decode()} could be read as one with dashes")
        fields = out.fields
        cut = names.cut
        out.claims = names.claims
        request_id = fields.get(b"x-request-id")
        if request_id is not None and not _is_request_id(request_id):
            request_id = None
            cut = (*cut, *spelled_as((b"x-request-id",), head))
        out.request_id = request_id or b""
        trace = fields.get(b"traceparent")
        if trace is not None and not _is_traceparent(trace):
            trace = None
            cut = (*cut, *spelled_as((b"traceparent",), head))
        out.traceparent = trace or b""
        connection = fields.get(b"connection")
        if connection is None:
            out.connection = NO_TOKENS
            out.keep_alive = out.http11
        else:
            out.connection = tokens = list_members(connection)
            out.keep_alive = out.http11 and b"close" not in tokens
            if tokens - USUAL_TOKENS:
                if len(tokens) > MOST_CONNECTION_OPTIONS:
                    raise bad_request("too many options in the Connection field")
                cut = (*cut, *spelled_as(tokens - HOP_BY_HOP - self._protected, head))
        out.lines = without(head, cut)[10:-2] if cut else head[10:-2]

    def _target(self, out: RequestHead, target: bytes) -> None:
        if target[0] != 0x2F or out.method == b"CONNECT":  # "/"
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
        valid = HOST.fullmatch(host)
        if valid is None or int(valid[1] or 0) > 65535:
            raise bad_request("the Host field is not one host with an optional port")
        if len(self._hosts) < 1024 and len(host) < 256:
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
        if not HOST.fullmatch(authority):
            raise bad_request("the authority in the request target is not valid")
        host = out.fields.get(b"host")
        if host is not None and not HOST.fullmatch(host):
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
        if expect is not None:
            if expect.lower() != b"100-continue":
                raise Refusal("bad_request", 417, "Expectation Failed", close=True)
            if out.http11:
                out.expects_continue = True
            else:  # RFC 9110 §10.1.1: from HTTP/1.0 it is ignored
                out.drop(b"expect")


class HeadWatch:
    """Looks at a head that comes in pieces, so that what can become no request is refused at once."""

    __slots__ = ("_fed", "_parser")

    def __init__(self) -> None:
        self._fed = 0
        self._parser = httptools.HttpRequestParser(Quiet())

    def feed(self, data: bytes) -> None:
        """`data` is all there is so far. Raises `Refusal`."""
        try:
            self._parser.feed_data(data[self._fed :])
        except httptools.HttpParserError as error:
            raise bad_request(str(error)) from None
        self._fed = len(data)
