"""Response heads of upstreams; read as strictly as requests (see `request_head`)."""

import re

import httptools

from proxy.clock import Clock, monotonic
from proxy.dataplane.fields import (
    HOP_BY_HOP,
    MOST_CONNECTION_OPTIONS,
    NO_TOKENS,
    USUAL_TOKENS,
    Sorter,
    Validator,
    list_members,
    spelled_as,
    without,
)
from proxy.dataplane.patterns import FIELD_TEXT, LENGTH, OFTEN, USUAL_CONNECTION, Grammar, Pattern, Patterns

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\r\n")
_CONTENT_TYPE = re.compile(rb"(?im)^content-type:[ \t]*([^;\r\n]*)")
_JSON = re.compile(rb"(?i)(?:(?:application|text)/(?:[\w.!#$&^-]+\+)?json[ \t]*)?").fullmatch
_NO_STORE = re.compile(rb"(?im)^cache-control:[^\r]*\bno-store\b").search
_BODILESS = frozenset((100, 101, 102, 103, 204))
# What patterns fit: final answers that are framed as nearly all are.
_GRAMMAR = Grammar(
    start=rb"(HTTP/1\.1 ([2-5][0-9][0-9]) (%b)\r\n)" % FIELD_TEXT,
    groups=3,
    values={
        b"connection": USUAL_CONNECTION,
        b"content-length": LENGTH,
        b"transfer-encoding": rb"([Cc]hunked)",
    },
    needed=frozenset(),
    unfit=frozenset((b"proxy-connection", b"upgrade")),
)

_MEMORABLE_BYTES = 1024
"""No limit of a head is below that, so one that is known was never too large."""


class ResponseHead:
    """One response head of an upstream. It may stand for the next one as well: nobody changes it."""

    __slots__ = (
        "chunked",
        "connection",
        "content_length",
        "fields",
        "http11",
        "json",
        "keeps",
        "lines",
        "no_store",
        "pattern",
        "raw",
        "reason",
        "start",
        "status",
    )

    status: int
    reason: bytes
    raw: bytes  # as it came, if it is worth looking whether it comes again
    http11: bool
    fields: dict[bytes, bytes]
    lines: bytes
    connection: frozenset[bytes]
    content_length: int  # -1: not stated
    chunked: bool
    keeps: bool  # the connection may be used again
    start: bytes  # status line and `lines`, as they go on
    json: bool | None  # None: nobody has asked
    no_store: bool | None
    pattern: Pattern | None  # that may fit the next one of the same upstream

    def is_json(self) -> bool:
        """Whether it says so, or says nothing; found out when first asked, since few are."""
        if self.json is None:
            self.json = all(map(_JSON, _CONTENT_TYPE.findall(self.lines)))
        return self.json

    def forbids_keeping(self) -> bool:
        """Whether it says `no-store` (RFC 9111 §5.2.2.5); found out when first asked."""
        if self.no_store is None:
            self.no_store = bool(_NO_STORE(self.lines))
        return self.no_store


class Malformed(Exception):
    """An answer that is refused: 502 `upstream_invalid`."""


class ResponseReader:
    """Reads response heads; shared like `RequestReader`."""

    def __init__(self, *, clock: Clock = monotonic, often: int = OFTEN) -> None:
        self._sorter = Sorter((b"content-length",), HOP_BY_HOP | {b"x-request-id"})
        self._validator = Validator(httptools.HttpResponseParser)
        self._patterns = Patterns(_GRAMMAR, self, clock, often)

    def read(self, head: bytes, last: ResponseHead | None = None) -> ResponseHead:
        """Raises `Malformed`. `last` is what the same upstream said before: its pattern is tried first."""
        pattern = last.pattern if last is not None else None
        out = self.again(head, pattern) if pattern is not None else None
        if out is None:
            out = self._read(head)
        out.raw = head if len(head) <= _MEMORABLE_BYTES else b""
        return out

    def again(self, head: bytes, pattern: Pattern) -> ResponseHead | None:
        """`head` as it is read in the general way; None where the pattern does not fit."""
        found = pattern.match(head)
        if found is None:
            return None
        groups = found.groups()
        status = int(groups[1])
        chunked = b"transfer-encoding" in pattern.blank
        if chunked and (status in _BODILESS or pattern.length_at):
            return None
        out = ResponseHead()
        out.pattern = pattern
        out.status = status
        out.chunked = chunked
        out.reason = groups[2]
        runs = pattern.runs
        out.lines = lines = groups[pattern.lines_at] if runs is None else b"".join(runs(groups))
        out.start = groups[0] + lines
        out.fields = fields = pattern.blank.copy()
        for name, at in pattern.values:
            fields[name] = groups[at]
        out.content_length = int(groups[pattern.length_at]) if pattern.length_at else -1
        out.connection = pattern.connection
        out.http11 = out.keeps = True
        out.json = out.no_store = None
        return out

    def _read(self, head: bytes) -> ResponseHead:
        line = _STATUS_LINE.match(head)
        if line is None:
            raise Malformed("the status line is not HTTP/1.x SP 3DIGIT SP reason")
        try:
            self._validator.read(head)
        except httptools.HttpParserError as error:
            raise Malformed(str(error)) from None
        out = ResponseHead()
        out.json = out.no_store = None
        minor, status, out.reason = line.groups()
        out.http11 = minor == b"1"
        out.status = int(status)
        count = head.count(b"\n") - 2
        order, out.fields = self._sorter.read(self._validator.fields, count, head, line.end())
        self._lines(out, head, line.end(), order.names.cut)
        self._framing(out)
        out.pattern = self._patterns.of(order)
        return out

    def _lines(self, out: ResponseHead, head: bytes, start: int, cut: tuple[bytes, ...]) -> None:
        """What goes on: `head` from `start` on without the fields to be cut, and what Connection names."""
        connection = out.fields.get(b"connection")
        if connection is None:
            out.connection = NO_TOKENS
        else:
            out.connection = tokens = list_members(connection)
            if tokens - USUAL_TOKENS:
                if len(tokens) > MOST_CONNECTION_OPTIONS:
                    raise Malformed("too many options in the Connection field")
                cut = (*cut, *spelled_as(tokens - HOP_BY_HOP - {b"content-length", b"content-type"}, head))
        out.keeps = out.http11 and b"close" not in out.connection
        out.lines = without(head, cut)[start:-2] if cut else head[start:-2]
        out.start = b"HTTP/1.1 %d %b\r\n%b" % (out.status, out.reason, out.lines)

    def _framing(self, out: ResponseHead) -> None:
        coding = out.fields.get(b"transfer-encoding")
        length = out.fields.get(b"content-length")
        out.chunked = False
        out.content_length = -1
        if coding is not None:
            if (
                length is not None
                or not out.http11
                or coding.lower() != b"chunked"
                or out.status in _BODILESS
            ):
                raise Malformed("Transfer-Encoding that is not chunked alone, on HTTP/1.1, with a body")
            out.chunked = True
        elif length is not None:
            if not length.isdigit() or (length[0] == 0x30 and len(length) > 1) or len(length) > 18:
                raise Malformed("Content-Length is not a plain number")
            out.content_length = int(length)
