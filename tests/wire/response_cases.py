"""Responses on the edge of the grammar, each with the verdict that the rules give it.

`Broken` means: 502 `upstream_invalid` while nothing was sent to the client yet, else a body
that ends visibly too early. In both cases the upstream connection is given up.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Broken:
    codes: frozenset[str] = frozenset({"upstream_invalid"})


@dataclass(frozen=True, slots=True)
class Passed:
    """The client gets this; `reused` says whether the upstream connection may serve on."""

    body: bytes = b"hello"
    status: int = 200
    reused: bool = True


@dataclass(frozen=True, slots=True)
class Either:
    passed: Passed


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    raw: bytes
    verdict: Broken | Passed | Either
    method: bytes = b"GET"
    end: str = "stay"  # or close, reset: what the upstream does after sending


BROKEN = Broken()
CUT = Broken(frozenset({"upstream_invalid", "upstream_unreachable"}))  # ended before a whole head
HELLO = Passed()
ONCE = Passed(reused=False)
NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def status(line: bytes) -> bytes:
    return line + b"\r\nContent-Length: 5\r\n\r\nhello"


def fields(*lines: bytes, body: bytes = b"hello") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def extra(*lines: bytes) -> bytes:
    """A sound response, but for these fields."""
    return fields(b"Content-Length: 5", *lines)


def chunked(body: bytes) -> bytes:
    return fields(b"Transfer-Encoding: chunked", body=body)


WHOLE = b"5\r\nhello\r\n0\r\n\r\n"

STATUS_LINE = (
    Case("plain", status(b"HTTP/1.1 200 OK"), HELLO),
    Case("reason-empty", status(b"HTTP/1.1 200 "), HELLO),
    Case("reason-tab-and-latin1", status(b"HTTP/1.1 200 O\tK \xe9"), HELLO),
    Case("status-999", status(b"HTTP/1.1 999 X"), BROKEN),
    Case("status-no-space", status(b"HTTP/1.1 200"), Either(HELLO)),
    Case("version-1.2", status(b"HTTP/1.2 200 OK"), Either(HELLO)),
    Case("version-1.0", status(b"HTTP/1.0 200 OK"), ONCE),
    Case("lead-crlf", b"\r\n" + status(b"HTTP/1.1 200 OK"), Either(HELLO)),
    *(
        Case(f"status-{name}", status(line), BROKEN)
        for name, line in {
            "http2": b"HTTP/2.0 200 OK",
            "http2-short": b"HTTP/2 200 OK",
            "http09": b"HTTP/0.9 200 OK",
            "http99": b"HTTP/9.9 200 OK",
            "lower-case": b"http/1.1 200 OK",
            "two-digits": b"HTTP/1.1 20 OK",
            "four-digits": b"HTTP/1.1 2000 OK",
            "word": b"HTTP/1.1 abc OK",
            "zero": b"HTTP/1.1 000 OK",
            "under-100": b"HTTP/1.1 099 OK",
            "minus": b"HTTP/1.1 -20 OK",
            "plus": b"HTTP/1.1 +20 OK",
            "glued-reason": b"HTTP/1.1 200OK",
            "two-spaces": b"HTTP/1.1  200 OK",
            "tab": b"HTTP/1.1\t200 OK",
            "icy": b"ICY 200 OK",
            "no-version": b"HTTP 200 OK",
            "leading-space": b" HTTP/1.1 200 OK",
            "leading-lf": b"\nHTTP/1.1 200 OK",
            "leading-nul": b"\0HTTP/1.1 200 OK",
            "reason-nul": b"HTTP/1.1 200 O\0K",
            "reason-control": b"HTTP/1.1 200 O\x01K",
            "reason-escape": b"HTTP/1.1 200 \x1b[31mOK",
            "reason-del": b"HTTP/1.1 200 O\x7fK",
            "reason-cr": b"HTTP/1.1 200 O\rK",
            "reason-lf": b"HTTP/1.1 200 O\nK",
            "cr-cr-lf": b"HTTP/1.1 200 OK\r",
            "a-request": b"GET / HTTP/1.1\r\nHost: x",
        }.items()
    ),
    Case("garbage-text", b"SSH-2.0-OpenSSH_9.2\r\n", CUT, end="close"),
    Case("garbage-tls-alert", b"\x15\x03\x01\x00\x02\x02\x28", CUT, end="close"),
    Case("garbage-binary", bytes(range(256)) * 4, BROKEN),
    Case("garbage-body-only", b"hello", CUT, end="close"),
    Case("garbage-empty-lines", b"\r\n" * 1000, BROKEN),
)

FIELDS = (
    Case("field-latin1-value", extra(b"X-A: caf\xe9"), HELLO),
    Case("field-tab", extra(b"X-A: a\tb"), HELLO),
    *(
        Case(f"field-{name}", extra(line), BROKEN)
        for name, line in {
            "fold-space": b"X-A: a\r\n b",
            "fold-tab": b"X-A: a\r\n\tb",
            "fold-empty": b"X-A: a\r\n ",
            "space-before-colon": b"X-A : a",
            "empty-name": b": a",
            "no-colon": b"XA",
            "bracket": b"X[A: a",
            "space-in-name": b"X A: a",
            "latin1-name": b"X\xe9: a",
            "nul-in-name": b"X\0A: a",
            "nul": b"X-A: a\0b",
            "control": b"X-A: a\x01b",
            "bell": b"X-A: \x07",
            "escape": b"X-A: a\x1b[31m",
            "del": b"X-A: a\x7fb",
            "bare-cr": b"X-A: a\rb",
            "bare-cr-injection": b"X-A: a\rSet-Cookie: evil=1",
            "bare-lf": b"X-A: a\nX-B: b",
            "cr-at-end": b"X-A: a\r",
        }.items()
    ),
    Case("fold-first", b"HTTP/1.1 200 OK\r\n X-A: a\r\nContent-Length: 5\r\n\r\nhello", BROKEN),
    Case("head-all-lf", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", BROKEN),
    Case("head-ends-lf-lf", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello", BROKEN),
    Case("head-value-70k", extra(b"X-A: " + b"a" * 70_000), BROKEN),
    Case("head-value-60k", extra(b"X-A: " + b"a" * 60_000), HELLO),
    Case("head-many-fields", extra(*(b"X-%d: aaaaaaaa" % n for n in range(6_000))), BROKEN),
    Case("head-endless", b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 500_000, BROKEN),
    Case("head-endless-line", b"HTTP/1.1 200 " + b"a" * 500_000, BROKEN),
)

FRAMING = (
    Case(
        "length-and-coding", fields(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=WHOLE), BROKEN
    ),
    Case(
        "coding-and-length", fields(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=WHOLE), BROKEN
    ),
    Case("length-twice-same", fields(b"Content-Length: 5", b"Content-Length: 5"), BROKEN),
    Case("length-twice-different", fields(b"Content-Length: 5", b"content-length: 0"), BROKEN),
    *(
        Case(f"length-{name}", fields(b"Content-Length:" + value), BROKEN)
        for name, value in {
            "list": b" 5, 5",
            "plus": b" +5",
            "minus": b" -5",
            "hex": b" 0x5",
            "word": b" abc",
            "empty": b"",
            "inner-space": b" 5 5",
            "semicolon": b" 5;",
            "underscore": b" 0_5",
            "two-to-the-64": b" 18446744073709551616",
        }.items()
    ),
    *(
        Case(f"coding-{name}", fields(*lines, body=WHOLE), BROKEN, end="close")
        for name, lines in {
            "gzip": (b"Transfer-Encoding: gzip",),
            "identity": (b"Transfer-Encoding: identity",),
            "unknown": (b"Transfer-Encoding: xchunked",),
            "gzip-chunked": (b"Transfer-Encoding: gzip, chunked",),
            "chunked-gzip": (b"Transfer-Encoding: chunked, gzip",),
            "chunked-twice": (b"Transfer-Encoding: chunked, chunked",),
            "two-lines": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
            "two-lines-identity": (b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
            "empty": (b"Transfer-Encoding:",),
            "parameter": (b"Transfer-Encoding: chunked;q=1",),
            "vtab": (b"Transfer-Encoding: \x0bchunked",),
        }.items()
    ),
    Case(
        "coding-on-10", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + WHOLE, BROKEN, end="close"
    ),
    Case("chunked", chunked(WHOLE), HELLO),
    Case("chunked-caps", fields(b"TRANSFER-ENCODING: CHUNKED", body=WHOLE), HELLO),
    Case("chunked-extension", chunked(b'5;a="b"\r\nhello\r\n0;c\r\n\r\n'), HELLO),
    Case("chunked-trailer", chunked(b"5\r\nhello\r\n0\r\nX-T: t\r\n\r\n"), HELLO),
    Case("chunked-trailer-length", chunked(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"), Either(HELLO)),
    Case("chunked-trailer-cookie", chunked(b"5\r\nhello\r\n0\r\nSet-Cookie: evil=1\r\n\r\n"), Either(HELLO)),
    Case("chunked-empty", chunked(b"0\r\n\r\n"), Passed(b"")),
    *(
        Case(f"chunked-{name}", chunked(body), BROKEN)
        for name, body in {
            "not-hex": b"g\r\nhello\r\n0\r\n\r\n",
            "hex-prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
            "minus": b"-5\r\nhello\r\n0\r\n\r\n",
            "no-size": b"\r\nhello\r\n0\r\n\r\n",
            "space-before": b" 5\r\nhello\r\n0\r\n\r\n",
            "space-after": b"5 \r\nhello\r\n0\r\n\r\n",
            "size-lf": b"5\nhello\r\n0\r\n\r\n",
            "size-cr": b"5\rhello\r\n0\r\n\r\n",
            "overflow": b"FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n",
            "spills": b"5\r\nhello!!\r\n0\r\n\r\n",
            "data-lf": b"5\r\nhello\n0\r\n\r\n",
            "data-glued": b"5\r\nhello0\r\n\r\n",
            "extension-cr": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
            "extension-nul": b"5;a\0b\r\nhello\r\n0\r\n\r\n",
            "extension-lf": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
            "extension-64k": b"5;a=" + b"b" * 65_536 + b"\r\nhello\r\n0\r\n\r\n",
            "last-lf": b"5\r\nhello\r\n0\n\r\n",
            "trailer-nul": b"5\r\nhello\r\n0\r\nX-T: a\0b\r\n\r\n",
            "trailer-fold": b"5\r\nhello\r\n0\r\nX-T: a\r\n b\r\n\r\n",
            "trailer-no-colon": b"5\r\nhello\r\n0\r\nXT\r\n\r\n",
            "trailer-bare-lf": b"5\r\nhello\r\n0\r\nX-T: a\nX: b\r\n\r\n",
            "trailer-200k": b"5\r\nhello\r\n0\r\nX-T: " + b"a" * 200_000 + b"\r\n\r\n",
        }.items()
    ),
)

ENDS = (
    Case("close-delimited", fields(), ONCE, end="close"),
    Case("close-delimited-10", b"HTTP/1.0 200 OK\r\n\r\nhello", ONCE, end="close"),
    Case("close-delimited-empty", fields(body=b""), Passed(b"", reused=False), end="close"),
    Case("close-delimited-reset", fields(), BROKEN, end="reset"),
    Case("connection-close", extra(b"Connection: close"), ONCE),
    Case(
        "keep-alive-10", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", HELLO
    ),
    Case("length-cut", fields(b"Content-Length: 50"), BROKEN, end="close"),
    Case("length-cut-reset", fields(b"Content-Length: 50"), BROKEN, end="reset"),
    Case("length-cut-no-byte", fields(b"Content-Length: 50", body=b""), BROKEN, end="close"),
    Case("chunked-cut-in-data", chunked(b"50\r\nhello"), BROKEN, end="close"),
    Case("chunked-cut-in-size", chunked(b"5\r\nhello\r\n5"), BROKEN, end="close"),
    Case("chunked-cut-before-last", chunked(b"5\r\nhello\r\n"), BROKEN, end="close"),
    Case("chunked-cut-in-last", chunked(b"5\r\nhello\r\n0\r\n"), BROKEN, end="close"),
    Case("chunked-cut-reset", chunked(b"5\r\nhello\r\n"), BROKEN, end="reset"),
    Case("chunked-cut-in-trailer", chunked(b"5\r\nhello\r\n0\r\nX-T: "), BROKEN, end="close"),
    Case("head-cut", b"HTTP/1.1 200 OK\r\nContent-Le", CUT, end="close"),
    Case("head-cut-reset", b"HTTP/1.1 200 OK\r\nContent-Le", CUT, end="reset"),
    Case("head-cut-in-status", b"HTTP/1.1 2", CUT, end="close"),
    Case("nothing", b"", CUT, end="close"),
    Case("nothing-reset", b"", CUT, end="reset"),
    Case("interim-only", b"HTTP/1.1 100 Continue\r\n\r\n", CUT, end="close"),
    Case("interim-100", b"HTTP/1.1 100 Continue\r\n\r\n" + extra(), HELLO),
    Case("interim-103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + extra(), HELLO),
    Case("interim-several", b"HTTP/1.1 102 P\r\n\r\n" * 5 + extra(), HELLO),
    Case("interim-with-length", b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n" + extra(), Either(HELLO)),
    Case(
        "interim-with-coding",
        b"HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n" + extra(),
        Either(HELLO),
    ),
    Case("interim-malformed", b"HTTP/1.1 103 E\r\nX : y\r\n\r\n" + extra(), BROKEN),
    Case("interim-flood", b"HTTP/1.1 103 E\r\nX-A: aaaaaaaa\r\n\r\n" * 30_000 + extra(), BROKEN),
    Case(
        "101-unasked",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + NEXT,
        BROKEN,
    ),
    Case("101-bare", b"HTTP/1.1 101 X\r\n\r\n", BROKEN),
    Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", Passed(b"", 204)),
    Case("204-length", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Either(Passed(b"", 204))),
    Case("204-body", b"HTTP/1.1 204 No Content\r\n\r\n" + NEXT, Passed(b"", 204, reused=False)),
    Case(
        "204-length-body",
        b"HTTP/1.1 204 N\r\nContent-Length: 41\r\n\r\n" + NEXT,
        Either(Passed(b"", 204, reused=False)),
    ),
    Case(
        "204-chunked-body",
        b"HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n" + WHOLE,
        Either(Passed(b"", 204, reused=False)),
    ),
    Case("304-length", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Passed(b"", 304)),
    Case("304-body", b"HTTP/1.1 304 N\r\nContent-Length: 41\r\n\r\n" + NEXT, Passed(b"", 304, reused=False)),
    Case("head-length", extra()[:-5], Passed(b""), method=b"HEAD"),
    Case("head-body", fields(b"Content-Length: 41", body=NEXT), Passed(b"", reused=False), method=b"HEAD"),
    Case("head-chunked", fields(b"Transfer-Encoding: chunked", body=b""), Passed(b""), method=b"HEAD"),
    Case("head-chunked-body", chunked(WHOLE), Passed(b"", reused=False), method=b"HEAD"),
    Case("extra-crlf", extra() + b"\r\n", ONCE),
    Case("extra-garbage", extra() + b"garbage", ONCE),
    Case("extra-response", extra() + NEXT, ONCE),
    Case("extra-responses", extra() + NEXT * 2_000, ONCE),
    Case(
        "extra-after-empty", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + NEXT, Passed(b"", reused=False)
    ),
    Case("extra-after-chunked", chunked(WHOLE) + NEXT, ONCE),
    Case("extra-interim", extra() + b"HTTP/1.1 100 Continue\r\n\r\n", ONCE),
)

CASES = STATUS_LINE + FIELDS + FRAMING + ENDS
