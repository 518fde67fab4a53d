"""What goes on of a request head, and that one head is never read by another's light."""

import re

import pytest
from heads import IDENTITY, REFUSED, head, read, reader
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.policy import Limits
from proxy.dataplane.request_head import RequestHead, RequestReader
from proxy.errors import Refusal

REMOVED = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings", b"forwarded",
    b"x-real-ip",
}  # fmt: skip
OWN_PREFIXES = (b"x-forwarded-", b"x-fusebox-")
RELIED_ON = {
    b"host", b"content-length", b"content-type", b"authorization", b"cookie", b"cache-control", b"via",
    b"x-request-id", b"traceparent", b"idempotency-key", b"max-forwards", b"expect", *IDENTITY,
}  # fmt: skip


def goes_on(name: bytes, named: set[bytes]) -> bool:
    """The rule, said again: RFC 9110 §7.6.1 and wire/README, Trust."""
    name = name.lower()
    if name.replace(b"_", b"-").startswith(b"x-fusebox-"):
        return False
    return not (name in REMOVED or name.startswith(OWN_PREFIXES) or (name in named and name not in RELIED_ON))


def spelled(name: bytes) -> st.SearchStrategy[bytes]:
    """The name in any case."""
    return st.lists(st.booleans(), min_size=len(name), max_size=len(name)).map(
        lambda ups: bytes(c - 32 if up and 97 <= c <= 122 else c for c, up in zip(name, ups, strict=True))
    )


values = st.sampled_from([b"", b"a", b"a b", b"\x80\xff", b'a, b;c="d"', b"host: x", b"x" * 300, b":", b"1"])
around = st.sampled_from([b"", b" ", b"\t", b"  ", b" \t "])
other_names = st.sampled_from(
    [
        b"x-a",
        b"x-b",
        b"accept",
        b"authorization",
        b"cookie",
        b"content-type",
        b"via",
        b"x-forwarded",
        b"x-fusebox",
        b"hosts",
        b"te-x",
        b"xconnection",
        b"x_a",
        b"x-user-id",
        b"x-region",
        b"idempotency-key",
        b"cache-control",
    ]
)
own_names = st.sampled_from([b"x-fusebox-override", b"x_fusebox-explain", b"x-fusebox_any", b"x-fusebox-"])
taken_names = st.sampled_from(
    [
        *sorted(REMOVED - {b"connection", b"transfer-encoding", b"upgrade"}),
        b"x-forwarded-for",
        b"x-forwarded-any",
    ]
)
listed = st.lists(
    st.sampled_from(
        [b"x-a", b"X-B", b"accept", b"cookie", b"host", b"content-type", b"X-User-Id", b"te", b"keep-alive",
         b"x-fusebox-override", b"authorization", b"", b"via"]
    ), max_size=4,
).map(b" , ".join)  # fmt: skip


@st.composite
def field(draw) -> bytes:
    if draw(st.integers(0, 4)) == 0:
        return draw(spelled(b"connection")) + b":" + draw(around) + draw(listed) + draw(around)
    names = draw(st.sampled_from([other_names, other_names, own_names, taken_names]))
    name = draw(names.flatmap(spelled))
    return name + b":" + draw(around) + draw(values) + draw(around)


def members(lines: list[bytes]) -> set[bytes]:
    found = set()
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"connection":
            found |= {member.strip(b" \t").lower() for member in value.split(b",")}
    return found


@settings(max_examples=300, derandomize=True)
@given(st.lists(field(), max_size=12), st.integers(0, 12))
def test_what_goes_on_is_what_came_without_what_must_not(lines, at):
    """In order and byte for byte; whatever their spelling, no hop-by-hop and no own field survives."""
    lines.insert(min(at, len(lines)), b"Host: films.example")
    out = reader().read(head(*lines, host=b""))
    kept = [line for line in lines if goes_on(line.partition(b":")[0], members(lines))]
    assert out.lines == b"".join(line + b"\r\n" for line in kept)


@settings(max_examples=150, derandomize=True)
@given(st.lists(field(), max_size=8))
def test_managed_fields_are_read_in_their_order(lines):
    """Values of one name are joined as they came: who vouches for whom is read from the right."""
    out = reader().read(head(*lines))
    for name, separator in ((b"x-forwarded-for", b", "), (b"x-user-id", b", "), (b"forwarded", b", ")):
        came = [
            line.partition(b":")[2].strip(b" \t") for line in lines if line.lower().startswith(name + b":")
        ]
        assert out.fields.get(name) == (separator.join(came) if came else None)


def test_several_cookie_lines_are_one_cookie_list():
    """RFC 9113 §8.2.3 joins them by semicolon; identity may read one."""
    by = RequestReader(Limits(), {b"cookie"})
    out = by.read(head(b"Cookie: a=1", b"cookie: b=2", b"COOKIE: c=3"))
    assert out.fields[b"cookie"] == b"a=1; b=2; c=3"
    assert out.lines.count(b"=") == 3


@pytest.mark.parametrize("spelling", [b"x-request-id", b"X-Request-Id", b"X-REQUEST-ID"])
def test_an_id_that_is_none_does_not_go_on(spelling):
    """In no spelling, so that the made one is the only one."""
    out = read(spelling + b": a b", b"X-request-ID: c d", b"Traceparent: x", b"traceparent: y")
    out.made_id = True
    out.identify(lambda: b"")
    assert out.lines == b"Host: films.example\r\n"


def test_a_field_can_be_dropped_later_in_any_spelling():
    out = read(b"X-A: 1", b"x-a: 2", b"X-AB: 3")
    out.drop(b"x-a")
    assert out.lines == b"Host: films.example\r\nX-AB: 3\r\n"


def test_max_forwards_counts_down():
    out = read(b"MAX-Forwards: 7", b"X-A: 1", line=b"OPTIONS /p HTTP/1.1")
    out.count_down(6)
    assert sorted(out.lines.splitlines()) == [b"Host: films.example", b"Max-Forwards: 6", b"X-A: 1"]


# -- one reader for all connections

GOOD = (
    head(),
    head(b"X-A: b"),
    head(b"Connection: close"),
    head(b"connection: Close, x-a", b"x-a: 1"),
    head(b"Connection: keep-alive"),
    head(line=b"GET /p HTTP/1.0"),
    head(line=b"GET /p HTTP/1.0", host=b""),
    head(b"Proxy-Connection: close"),
    head(b"Proxy-Connection: keep-alive", line=b"GET /p HTTP/1.0"),
    head(b"Connection: x", b"Connection: close"),
    head(b'Connection: "close"'),
    head(b"Connection: x close"),
    head(b"Connection: keep-alive", line=b"GET /p HTTP/1.0"),
    head(b"Content-Length: 5", line=b"POST /p HTTP/1.1"),
    head(b"Content-Length: 5", b"Connection: close"),
    head(b"Content-Length: 0"),
    head(line=b"HEAD /p HTTP/1.1"),
    head(b"Content-Length: 5", line=b"PUT /p HTTP/1.0"),
    head(b"Transfer-Encoding: chunked"),
    head(b"Upgrade: websocket", b"Connection: upgrade"),
    head(b"Upgrade: websocket"),
    head(b"Connection: upgrade"),
    head(b"Upgrade: x", b"Connection: upgrade", b"Content-Length: 9"),
    head(b"Expect: 100-continue"),
    head(b"Upgrade: x", b"Connection: upgrade", b"Transfer-Encoding: chunked"),
    head(b"X-Request-Id: a b"),
    head(line=b"OPTIONS * HTTP/1.1"),
    head(line=b"OPTIONS * HTTP/1.1", host=b"Host: other"),
    head(line=b"PURGE /p HTTP/1.1"),
    head(b"x-user-id: 1", b"X-User-Id: 2"),
    head(b"X-User-Id: 2", b"x-user-id: 1"),
    head(b"x-user-id: 1", b"x-user-id: 2"),
    head(b"x-user-id: 3"),
    head(b"Cookie: a", b"Cookie: b"),
    head(b"Cookie: a; c"),
    head(line=b"GET http://h/p HTTP/1.1"),
    head(b"X-Request-Id: a", b"X-Region: r"),
)
MIXED = (*GOOD, *(raw for raw, _ in REFUSED.values()))


def verdict(by: RequestReader, raw: bytes) -> object:
    try:
        out = by.read(raw)
    except Refusal as refusal:
        return refusal.status, refusal.code, refusal.detail
    return {name: getattr(out, name, None) for name in RequestHead.__slots__}


@settings(max_examples=300, derandomize=True)
@given(st.lists(st.sampled_from(MIXED), min_size=2, max_size=6))
def test_no_head_influences_the_next(raws):
    """One reader serves all connections: good or bad, kept alive or not, the next head is read afresh."""
    shared = reader()
    for raw in raws:
        assert verdict(shared, raw) == verdict(reader(), raw)


@pytest.mark.parametrize("raw", GOOD)
def test_the_same_head_twice(raw):
    shared = reader()
    assert verdict(shared, raw) == verdict(shared, raw)


@settings(max_examples=200, derandomize=True)
@given(st.sampled_from(MIXED), st.integers(0, 200), st.binary(max_size=3))
def test_a_damaged_head_is_refused_or_read_as_written(raw, at, noise):
    """Nothing but `Refusal` comes out, and what passes holds no control character."""
    raw = raw[:at] + noise + raw[at:]
    raw = raw[: (raw + b"\r\n\r\n").index(b"\r\n\r\n") + 4]
    try:
        out = reader().read(raw)
    except Refusal:
        return
    assert not re.search(
        rb"[\x00-\x08\x0a\x0b\x0c\x0e-\x1f\x7f]", out.lines.replace(b"\r\n", b"") + out.target
    )
    assert all(
        line + b"\r\n" in raw for line in out.lines.split(b"\r\n")[:-1] if not line.startswith(b"Host: ")
    )
