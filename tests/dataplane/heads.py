"""Request heads, good and bad, and readers for them."""

import pytest

from proxy.core.policy import Limits
from proxy.dataplane.request_head import RequestHead, RequestReader
from proxy.errors import Refusal

IDENTITY = frozenset((b"x-user-id", b"x-region"))


def reader(**limits: int) -> RequestReader:
    return RequestReader(Limits(**limits), IDENTITY)


def head(*lines: bytes, line: bytes = b"GET /p?q=1 HTTP/1.1", host: bytes = b"Host: films.example") -> bytes:
    return b"\r\n".join((line, *([host] if host else []), *lines, b"", b""))


def read(*lines: bytes, **parts: bytes) -> RequestHead:
    return reader().read(head(*lines, **parts))


def refused(raw: bytes, by: RequestReader | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        (by or reader()).read(raw)
    return caught.value


REFUSED = {
    "no host": (head(host=b""), 400),
    "two hosts": (head(b"Host: films.example"), 400),
    "two hosts in other spellings": (head(b"hOST: b"), 400),
    "empty host": (head(host=b"Host:"), 400),
    "host with a path": (head(host=b"Host: a/b"), 400),
    "host with userinfo": (head(host=b"Host: u@a"), 400),
    "host list": (head(host=b"Host: a, b"), 400),
    "port too high": (head(host=b"Host: a:65536"), 400),
    "port no number": (head(host=b"Host: a:b"), 400),
    "absolute beside a bad host": (head(line=b"GET http://a/ HTTP/1.1", host=b"Host: a b"), 400),
    "absolute port too high": (head(line=b"GET http://a:65536/ HTTP/1.1"), 400),
    "ftp": (head(line=b"GET ftp://a/ HTTP/1.1"), 400),
    "no path": (head(line=b"GET p HTTP/1.1"), 400),
    "fragment": (head(line=b"GET /p#f HTTP/1.1"), 400),
    "asterisk": (head(line=b"GET * HTTP/1.1"), 400),
    "connect": (head(line=b"CONNECT a:443 HTTP/1.1"), 405),
    "empty line before": (b"\r\n" + head(), 400),
    "two spaces": (head(line=b"GET  /p HTTP/1.1"), 400),
    "no version": (head(line=b"GET /p"), 400),
    "version 2.0": (head(line=b"GET /p HTTP/2.0"), 505),
    "lower case version": (head(line=b"GET /p http/1.1"), 400),
    "LF for CRLF": (head().replace(b"\r\n", b"\n") + b"\r\n\r\n", 400),
    "folded": (head(b"X-A: b", b" c"), 400),
    "space before colon": (head(b"X-A : b"), 400),
    "no name": (head(b": b"), 400),
    "NUL": (head(b"X-A: \0"), 400),
    "bare CR": (head(b"X-A: a\rb"), 400),
    "length and coding": (head(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
    "length twice": (head(b"Content-Length: 1", b"Content-Length: 1"), 400),
    "length in two spellings": (head(b"Content-Length: 1", b"content-length: 2"), 400),
    "length list": (head(b"Content-Length: 1, 1"), 400),
    "length signed": (head(b"Content-Length: +1"), 400),
    "length with zero in front": (head(b"Content-Length: 01"), 400),
    "length empty": (head(b"Content-Length:"), 400),
    "length hex": (head(b"Content-Length: 0x1"), 400),
    "length 2⁶⁴": (head(b"Content-Length: 18446744073709551616"), 400),
    "length 19 digits": (head(b"Content-Length: 1000000000000000000"), 400),
    "other digits": (head(b"Content-Length: \xd9\xa5"), 400),
    "gzip": (head(b"Transfer-Encoding: gzip"), 501),
    "chunked not last": (head(b"Transfer-Encoding: chunked, gzip"), 501),
    "chunked twice": (head(b"Transfer-Encoding: chunked, chunked"), 501),
    "coding in two lines": (head(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"), 501),
    "coding on 1.0": (head(b"Transfer-Encoding: chunked", line=b"POST /p HTTP/1.0"), 400),
    "TRACE with a body": (head(b"Content-Length: 1", line=b"TRACE /p HTTP/1.1"), 400),
    "unknown expectation": (head(b"Expect: tea"), 417),
    "expectation twice": (head(b"Expect: 100-continue", b"expect: 100-continue"), 417),
    "underscore for dash": (head(b"Content_Length: 1"), 400),
    "underscore in an identity field": (head(b"X_User_Id: 7"), 400),
}  # fmt: skip
