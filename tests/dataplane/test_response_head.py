"""Response heads of upstreams: what they mean, which are none, what goes on of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dataplane.response_head import Malformed, ResponseHead, ResponseReader


def head(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((line, *lines, b"", b""))


def read(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return ResponseReader().read(head(*lines, line=line))


@pytest.mark.parametrize(
    ("line", "status", "reason", "http11"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK", True),
        (b"HTTP/1.0 404 Not Found", 404, b"Not Found", False),
        (b"HTTP/1.1 599 caf\xe9\tbar", 599, b"caf\xe9\tbar", True),
        (b"HTTP/1.1 204 ", 204, b"", True),
        (b"HTTP/1.1 103 Early Hints", 103, b"Early Hints", True),
    ],
)
def test_the_status_line(line, status, reason, http11):
    out = read(line=line)
    assert (out.status, out.reason, out.http11) == (status, reason, http11)


@pytest.mark.parametrize(
    ("lines", "length", "chunked"),
    [
        ([], -1, False),
        ([b"Content-Length: 0"], 0, False),
        ([b"content-LENGTH: 7 "], 7, False),
        ([b"Transfer-Encoding: Chunked"], -1, True),
    ],
)
def test_the_framing(lines, length, chunked):
    out = read(*lines)
    assert (out.content_length, out.chunked) == (length, chunked)


REFUSED = {
    "version 2": head(line=b"HTTP/2.0 200 OK"),
    "version 1.2": head(line=b"HTTP/1.2 200 OK"),
    "lower case": head(line=b"http/1.1 200 OK"),
    "no reason's space": head(line=b"HTTP/1.1 200"),
    "two digits": head(line=b"HTTP/1.1 20 OK"),
    "four digits": head(line=b"HTTP/1.1 2000 OK"),
    "status 0": head(line=b"HTTP/1.1 000 OK"),
    "status 600": head(line=b"HTTP/1.1 600 OK"),
    "two spaces": head(line=b"HTTP/1.1  200 OK"),
    "control in the reason": head(line=b"HTTP/1.1 200 O\0K"),
    "bare CR in the reason": head(line=b"HTTP/1.1 200 O\rK"),
    "LF lines": b"HTTP/1.1 200 OK\nA: b\n\r\n\r\n",
    "folded": head(b"X-A: b", b" c"),
    "space before the colon": head(b"X-A : b"),
    "no name": head(b": b"),
    "NUL": head(b"X-A: \0"),
    "bare CR": head(b"X-A: a\rb"),
    "length and coding": head(b"Content-Length: 1", b"Transfer-Encoding: chunked"),
    "length twice": head(b"Content-Length: 1", b"Content-Length: 1"),
    "length in two spellings": head(b"Content-Length: 1", b"content-length: 2"),
    "length list": head(b"Content-Length: 1, 1"),
    "length signed": head(b"Content-Length: -1"),
    "length with zero in front": head(b"Content-Length: 01"),
    "length of 19 digits": head(b"Content-Length: 1000000000000000000"),
    "gzip": head(b"Transfer-Encoding: gzip"),
    "gzip, chunked": head(b"Transfer-Encoding: gzip, chunked"),
    "chunked twice": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "chunked on 1.0": head(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK"),
    "chunked 204": head(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 204 No Content"),
    "chunked 100": head(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 100 Continue"),
}  # fmt: skip


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_a_malformed_head_is_refused(raw):
    """wire/README, Framing: response 502."""
    with pytest.raises(Malformed):
        ResponseReader().read(raw)


@pytest.mark.parametrize("name", [b"Content-Length", b"Content-Type"])
def test_connection_cannot_take_away_what_is_relied_on(name):
    out = read(b"Connection: close, " + name, b"Content-Length: 5", b"Content-Type: a/b")
    assert out.lines == b"Content-Length: 5\r\nContent-Type: a/b\r\n"
    assert out.content_length == 5


REMOVED = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"x-request-id",
}  # fmt: skip
OTHERS = (
    b"x-a", b"x-b", b"set-cookie", b"vary", b"content-type", b"content-lengths", b"server-timing", b"date",
    b"trailers", b"x_a",
)  # fmt: skip


def goes_on(name: bytes, named: set[bytes]) -> bool:
    """RFC 9110 §7.6.1; the request id is the sidecar's to say; its own names are nobody else's."""
    name = name.lower()
    if name.replace(b"_", b"-").startswith(b"x-fusebox-"):
        return False
    return name not in REMOVED and (name not in named or name in (b"content-length", b"content-type"))


any_case = st.sampled_from([bytes.lower, bytes.upper, bytes.title])
names = st.sampled_from([*OTHERS, *OTHERS, *sorted(REMOVED - {b"connection", b"transfer-encoding"})])
values = st.sampled_from([b"", b"a", b"a b ", b"\xe9", b'a, b;c="d"', b"x-a: y"])
plain = st.builds(lambda name, case, value: case(name) + b": " + value, names, any_case, values)
listed = st.lists(
    st.sampled_from([b"x-a", b"X-B", b"vary", b"close", b"keep-alive", b"content-type", b"te"]), max_size=3
)
connection = st.builds(
    lambda case, members: case(b"connection") + b":" + b", ".join(members), any_case, listed
)


@settings(max_examples=250, derandomize=True)
@given(st.lists(st.one_of(plain, plain, plain, connection), max_size=10))
def test_what_goes_on_is_what_came_without_what_must_not(lines):
    """In order and byte for byte, whatever the spelling."""
    named = {
        member.strip().lower()
        for line in lines
        if line.lower().startswith(b"connection:")
        for member in line.partition(b":")[2].split(b",")
    }
    kept = [line for line in lines if goes_on(line.partition(b":")[0], named)]
    assert read(*lines).lines == b"".join(line + b"\r\n" for line in kept)


def test_an_upstream_does_not_speak_in_the_sidecars_name():
    """What the sidecar says of its decision and to whom it belongs is said once (contract, Headers)."""
    lines = [b"X-Fusebox-Decision: route=x", b"x_fusebox_decision: y", b"X-Request-ID: other"]
    assert read(*lines, b"X-A: b").lines == b"X-A: b\r\n"


GOOD = (
    head(), head(b"Content-Length: 0"), head(b"Content-Length: 5"), head(b"Transfer-Encoding: chunked"),
    head(b"Connection: close"), head(b"Connection: close", b"Content-Length: 0"), head(b"X-A: b", b"x-a: c"),
    head(b"Content-Length: 0", line=b"HTTP/1.0 200 OK"), head(line=b"HTTP/1.0 200 OK"),
    head(b"Content-Length: 0", b"Proxy-Connection: close"), head(line=b"HTTP/1.1 204 No Content"),
    head(line=b"HTTP/1.1 304 Not Modified"), head(b"Content-Length: 9", line=b"HTTP/1.1 304 Not Modified"),
    head(line=b"HTTP/1.1 100 Continue"), head(b"Link: a", line=b"HTTP/1.1 103 Early Hints"),
    head(b"Upgrade: websocket", b"Connection: upgrade", line=b"HTTP/1.1 101 Switching Protocols"),
    head(b"Upgrade: h2c", b"Connection: upgrade", b"Content-Length: 0"), head(b"Keep-Alive: timeout=5"),
    head(b"Connection: close", b"Content-Length: 0", line=b"HTTP/1.1 500 Oh"),
)  # fmt: skip
MIXED = (*GOOD, *REFUSED.values())


def verdict(by: ResponseReader, raw: bytes) -> object:
    try:
        out = by.read(raw)
    except Malformed as error:
        return str(error)
    return {name: getattr(out, name, None) for name in ResponseHead.__slots__}


@settings(max_examples=300, derandomize=True)
@given(st.lists(st.sampled_from(MIXED), min_size=2, max_size=6))
def test_no_head_influences_the_next(raws):
    """One reader serves all upstreams: whatever came before, the next head is read afresh."""
    shared = ResponseReader()
    for raw in raws:
        assert verdict(shared, raw) == verdict(ResponseReader(), raw)


def test_a_reader_never_wears_out():
    """Thousands of different heads, and of the same again: each is read as if it were the first."""
    shared = ResponseReader()
    for number in range(20_000):
        assert shared.read(head(b"Content-Length: %d" % number, b"X-N: %d" % number)).content_length == number
        if number % 100 == 0:
            assert verdict(shared, head(b"X-Same: 1")) == verdict(ResponseReader(), head(b"X-Same: 1"))


@settings(max_examples=200, derandomize=True)
@given(st.sampled_from(GOOD), st.integers(0, 90), st.binary(max_size=3))
def test_a_damaged_head_is_refused_or_read_as_written(raw, at, noise):
    """Nothing but `Malformed` comes out; what passes stands in the head as it goes on."""
    raw = raw[:at] + noise + raw[at:]
    raw = raw[: (raw + b"\r\n\r\n").index(b"\r\n\r\n") + 4]
    try:
        out = ResponseReader().read(raw)
    except Malformed:
        return
    assert all(line in raw.split(b"\r\n") for line in out.lines.split(b"\r\n")[:-1])
    assert all(byte >= 0x20 or byte == 9 for byte in out.lines.replace(b"\r\n", b"") + out.reason)
