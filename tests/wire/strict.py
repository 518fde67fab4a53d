"""The oracle: a small HTTP/1.1 parser that accepts exactly the grammar and nothing beside it.

It shares no code with the data plane. Both ends of every test read through it, so a byte that
Fusebox lets through although the grammar forbids it fails the test that saw it.
Sections are those of RFC 9112.
"""

import re
from dataclasses import dataclass, field

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) HTTP/(1\.[01])")
_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-5]\d\d) ([\t \x21-\x7e\x80-\xff]*)")
_FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*([\t \x21-\x7e\x80-\xff]*)")
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb"|" + _QUOTED + rb"))?"
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)")

Fields = list[tuple[str, bytes]]


class MalformedError(AssertionError):
    """Bytes that are no HTTP/1.1. An assertion: whoever sent them is the one under test."""


@dataclass(kw_only=True)
class Message:
    """What requests and responses share. Names of fields are lower case, values are trimmed."""

    version: bytes
    fields: Fields
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    framing: str = "none"  # none, length, chunked, close

    def get(self, name: str) -> bytes | None:
        """The value of the field `name`; lines of the same name joined by a comma, or None."""
        values = [value for key, value in self.fields if key == name]
        return b", ".join(values) if values else None

    def has_token(self, name: str, token: bytes) -> bool:
        """Whether the list in `name` holds `token`, compared without case."""
        listed = self.get(name) or b""
        return token.lower() in (part.strip().lower() for part in listed.split(b","))


@dataclass(kw_only=True)
class Request(Message):
    method: bytes
    target: bytes


@dataclass(kw_only=True)
class Response(Message):
    status: int
    reason: bytes


def request_head(data: bytes | bytearray, at: int = 0) -> tuple[Request, int] | None:
    """The head that begins at `at` and where it ends; None while incomplete."""
    found = _head(data, at)
    if found is None:
        return None
    line, fields, end = found
    matched = _REQUEST_LINE.fullmatch(line)
    if matched is None:
        raise MalformedError(f"request line {line!r}")
    method, target, version = matched.groups()
    request = Request(method=method, target=target, version=version, fields=fields)
    hosts = [value for name, value in fields if name == "host"]
    if len(hosts) > 1 or (version == b"1.1" and not hosts):
        raise MalformedError(f"Host fields: {hosts}")  # section 3.2
    request.framing = _framing(request)
    return request, end


def request(data: bytes | bytearray, at: int = 0) -> tuple[Request, int] | None:
    """A whole request from `at` and where it ends; None while incomplete."""
    found = request_head(data, at)
    if found is None:
        return None
    message, end = found
    after = _body(message, data, end)
    return None if after is None else (message, after)


def response(data: bytes | bytearray, at: int = 0, *, method: bytes = b"GET") -> tuple[Response, int] | None:
    """A whole response to `method` and where it ends; None while incomplete.

    One that ends with the connection (section 6.3, rule 8) never completes here: `framing` is
    then "close", and `response_head` reads it.
    """
    found = response_head(data, at, method=method)
    if found is None or found[0].framing == "close":
        return None
    message, end = found
    after = _body(message, data, end)
    return None if after is None else (message, after)


def response_head(
    data: bytes | bytearray, at: int = 0, *, method: bytes = b"GET"
) -> tuple[Response, int] | None:
    found = _head(data, at)
    if found is None:
        return None
    line, fields, end = found
    matched = _STATUS_LINE.fullmatch(line)
    if matched is None:
        raise MalformedError(f"status line {line!r}")
    version, status, reason = matched.groups()
    message = Response(version=version, status=int(status), reason=reason, fields=fields)
    framing = _framing(message)
    if message.status < 200 or message.status == 204:
        if framing != "none":
            raise MalformedError(f"{message.status} with {framing}")  # RFC 9110 8.6, RFC 9112 6.1
    elif message.status == 304 or method == b"HEAD":
        framing = "none"
    elif framing == "none":
        framing = "length" if message.get("content-length") else "close"
    message.framing = framing
    return message, end


def _head(data: bytes | bytearray, at: int) -> tuple[bytes, Fields, int] | None:
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        return None
    first, *lines = bytes(data[at:end]).split(b"\r\n")
    return first, [_line(line) for line in lines], end + 4


def _line(line: bytes) -> tuple[str, bytes]:
    matched = _FIELD.fullmatch(line)
    if matched is None:
        raise MalformedError(f"field line {line!r}")
    return matched[1].decode("ascii").lower(), matched[2].strip(b" \t")


def _framing(message: Message) -> str:
    """Section 6.3, without any of the leniencies it allows."""
    lengths = [value for name, value in message.fields if name == "content-length"]
    codings = [value for name, value in message.fields if name == "transfer-encoding"]
    if codings:
        if lengths or message.version == b"1.0" or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise MalformedError(f"framing: {codings} with {lengths} on {message.version!r}")
        return "chunked"
    if len(lengths) > 1 or (lengths and not re.fullmatch(rb"\d{1,19}", lengths[0])):
        raise MalformedError(f"Content-Length: {lengths}")
    return "length" if lengths and int(lengths[0]) else "none"


def _body(message: Message, data: bytes | bytearray, at: int) -> int | None:
    if message.framing == "none":
        return at
    if message.framing == "length":
        end = at + int(message.get("content-length") or b"0")
        message.body = bytes(data[at:end])
        return end if len(data) >= end else None
    return _chunks(message, data, at)


def _chunks(message: Message, data: bytes | bytearray, at: int) -> int | None:
    pieces = []
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        matched = _CHUNK.fullmatch(bytes(data[at:end]))
        if matched is None:
            raise MalformedError(f"chunk line {bytes(data[at:end])!r}")
        size, at = int(matched[1], 16), end + 2
        if size == 0:
            break
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise MalformedError(f"chunk of {size} not followed by CRLF")
        pieces.append(bytes(data[at : at + size]))
        at += size + 2
    message.body = b"".join(pieces)
    if data[at : at + 2] == b"\r\n":
        return at + 2
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        return None
    message.trailers = [_line(line) for line in bytes(data[at:end]).split(b"\r\n")]
    return end + 4
