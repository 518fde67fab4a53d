"""Chunked bodies (RFC 9112 §7.1), strictly: CRLF only, plain hex sizes, bounded extensions and trailers.

httptools tells neither where a chunk extension ends nor how long it is, so the framing is read here:
what comes out is payload, what goes on is framed anew. Extensions are checked and dropped (hop-by-hop).
"""

import re
from collections.abc import Iterable

# chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb"(?:[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*"
)
_TRAILER = re.compile(_TOKEN + rb":[\t \x21-\x7e\x80-\xff]*")

# Never taken over from a trailer (RFC 9110 §6.5.1): framing, routing, credentials, control, content.
_FORBIDDEN = (
    rb"content[-_].*|transfer[-_]encoding|host|connection|keep[-_]alive|te|trailer|upgrade|expect|range"
    rb"|max[-_]forwards|authorization|proxy[-_].*|www[-_]authenticate|set[-_]cookie|cookie|cache[-_]control"
    rb"|age|date|expires|location|retry[-_]after|vary|warning|pragma|if[-_].*|forwarded"
    rb"|x[-_]forwarded[-_].*|x[-_]fusebox[-_].*|x[-_]request[-_]id|traceparent|idempotency[-_]key|via"
    rb"|http2[-_]settings"
)


def forbidden_trailers(names: Iterable[bytes] = ()) -> "re.Pattern[bytes]":
    """Matches trailer lines that are dropped; `names` are further fields that decide something."""
    more = b"".join(b"|" + re.escape(name).replace(rb"\-", b"[-_]") for name in names)
    return re.compile(rb"(?i)(?:" + _FORBIDDEN + more + rb"):")


FORBIDDEN_TRAILERS = forbidden_trailers()

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class BadChunk(ValueError):
    """The chunked framing is broken; whose fault it is depends on who sent it."""


class ChunkedReader:
    """Feed bytes, get payload. After the last chunk `done` is set and `rest` holds what followed."""

    __slots__ = (
        "_extension_limit",
        "_fields_limit",
        "_forbidden",
        "_left",
        "_line",
        "_phase",
        "_trailer_bytes",
        "_trailer_limit",
        "done",
        "rest",
        "trailers",
    )

    def __init__(
        self,
        *,
        extension_limit: int,
        trailer_limit: int,
        fields_limit: int,
        forbidden: "re.Pattern[bytes]",
    ) -> None:
        self._forbidden = forbidden
        self._extension_limit = extension_limit
        self._trailer_limit = trailer_limit
        self._fields_limit = fields_limit
        self._phase = _SIZE
        self._line = b""  # an unfinished line
        self._left = 0
        self._trailer_bytes = 0  # of all trailer lines, those that are dropped too
        self.done = False
        self.rest = b""
        self.trailers = b""  # the lines that may go on, each ended by CRLF

    def feed(self, data: bytes) -> bytes:
        """The payload within `data`. Raises `BadChunk`."""
        payload: list[bytes] = []
        at = 0
        size = len(data)
        while at < size:
            if self._phase == _DATA:
                end = at + self._left
                piece = data[at:end]
                payload.append(piece)
                self._left -= len(piece)
                at += len(piece)
                if self._left == 0:
                    self._phase = _DATA_END
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._unfinished(data[at:])
                break
            line = self._line + data[at : end + 1]
            self._line = b""
            at = end + 1
            if not line.endswith(b"\r\n"):
                raise BadChunk("a line in a chunked body does not end with CRLF")
            self._take(line[:-2])
            if self._phase == _DONE:
                self.done = True
                self.rest = data[at:]
                break
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _unfinished(self, part: bytes) -> None:
        """Keep the start of a line, refusing early what can no longer become right."""
        line = self._line + part
        if self._phase == _DATA_END and line != b"\r":
            raise BadChunk("a chunk is longer than its size")
        if b"\r" in line[:-1]:
            raise BadChunk("a bare CR in a chunked body")
        if self._phase == _SIZE:
            if not line[:1].isalnum():
                raise BadChunk("a chunk size is not plain hex")
            if len(line) > self._extension_limit + 18:
                raise BadChunk("a chunk extension is too long")
        elif line != b"\r" and self._trailer_bytes + len(line) > self._trailer_limit:
            raise BadChunk("the trailers are too long")
        self._line = line

    def _take(self, line: bytes) -> None:
        if self._phase == _SIZE:
            found = _SIZE_LINE.fullmatch(line)
            if found is None or len(line) - len(found[1]) > self._extension_limit:
                raise BadChunk("a chunk size is not plain hex, or its extension is malformed or too long")
            self._left = int(found[1], 16)
            if self._left >> 62:
                raise BadChunk("a chunk size is beyond reason")
            self._phase = _DATA if self._left else _TRAILERS
            if not self._left:
                self._left = self._fields_limit  # counts trailer fields from here on
        elif self._phase == _DATA_END:
            if line:
                raise BadChunk("a chunk is longer than its size")
            self._phase = _SIZE
        elif not line:
            self._phase = _DONE
        else:
            self._left -= 1
            if not _TRAILER.fullmatch(line) or self._left < 0:
                raise BadChunk("a trailer field is malformed, or there are too many")
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > self._trailer_limit:
                raise BadChunk("the trailers are too long")
            if not self._forbidden.match(line):
                self.trailers += line + b"\r\n"


def framed(payload: bytes) -> bytes:
    """`payload` as one chunk; an empty payload is no chunk at all (it would end the body)."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


def last_chunk(trailers: bytes = b"") -> bytes:
    return b"0\r\n" + trailers + b"\r\n"
