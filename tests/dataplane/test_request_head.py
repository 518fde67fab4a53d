"""Request heads: what they mean, what goes on of them, and that one is never read by another's light."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.policy import Limits
from proxy.dataplane.request_head import HeadWatch, RequestHead, RequestReader
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


def test_the_parts_of_a_plain_head():
    out = read(b"Accept: a/b", line=b"GET /films/7?k=5&x=%20 HTTP/1.1")
    assert (out.method, out.target) == (b"GET", b"/films/7?k=5&x=%20")
    assert (out.path, out.query) == (b"/films/7", b"k=5&x=%20")
    assert (out.http11, out.keep_alive) == (True, True)
    assert (out.content_length, out.chunked, out.expects_continue, out.upgrade) == (0, False, False, b"")
    assert (out.request_id, out.traceparent) == (b"", b"")
    assert out.lines == b"Host: films.example\r\nAccept: a/b\r\n"


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ([b"Content-Length: 0"], {"content_length": 0, "chunked": False}),
        ([b"content-length:12"], {"content_length": 12}),
        ([b"Content-Length: 999999999999999999"], {"content_length": 10**18 - 1}),
        ([b"Transfer-Encoding: chunked"], {"chunked": True, "content_length": 0}),
        ([b"transfer-encoding:\tCHUNKED "], {"chunked": True}),
        ([b"Connection: close"], {"keep_alive": False}),
        ([b"Connection: x, Close"], {"keep_alive": False}),
        ([b"Connection: keep-alive"], {"keep_alive": True}),
        ([b"Connection: x-a", b"connection: close"], {"keep_alive": False, "connection": {b"x-a", b"close"}}),
        ([b"Expect: 100-Continue", b"Content-Length: 1"], {"expects_continue": True}),
        ([b"Upgrade: WebSocket", b"Connection: Upgrade"], {"upgrade": b"websocket"}),
        ([b"Upgrade: websocket"], {"upgrade": b""}),
        ([b"Connection: upgrade"], {"upgrade": b""}),
        ([b"Upgrade: websocket", b"Connection: upgrade", b"Content-Length: 3"], {"upgrade": b""}),
        ([b"X-Request-Id: abc.1:2/3+4=5@6~7_-"], {"request_id": b"abc.1:2/3+4=5@6~7_-"}),
        ([b"X-Request-Id: " + b"a" * 128], {"request_id": b"a" * 128}),
        ([b"X-Request-Id: " + b"a" * 129], {"request_id": b""}),
        ([b"X-Request-Id: a b"], {"request_id": b""}),
        ([b"X-Request-Id:"], {"request_id": b""}),
        ([b"X-Request-Id: a", b"x-request-id: b"], {"request_id": b""}),
        ([b"traceparent: 00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"],
         {"traceparent": b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"}),
        ([b"traceparent: 00-" + b"0" * 32 + b"-" + b"2" * 16 + b"-01"], {"traceparent": b""}),
        ([b"traceparent: ff-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"], {"traceparent": b""}),
    ],
)  # fmt: skip
def test_what_fields_mean(lines, wanted):
    out = read(*lines, line=b"POST /p HTTP/1.1")
    assert {name: getattr(out, name) for name in wanted} == wanted


@pytest.mark.parametrize("lines", [[], [b"Connection: keep-alive"], [b"Connection: close"]])
def test_a_10_client_is_not_kept(lines):
    """wire/README, HTTP/1.0 client; nor may it upgrade or expect anything."""
    out = read(*lines, b"Expect: 100-continue", line=b"POST /p HTTP/1.0")
    assert (out.http11, out.keep_alive, out.expects_continue, out.upgrade) == (False, False, False, b"")
    assert out.lines == b"Host: films.example\r\n"


def test_a_10_client_need_not_say_host():
    assert read(line=b"GET /p HTTP/1.0", host=b"").lines == b""


@pytest.mark.parametrize(
    ("line", "target", "hosts"),
    [
        (b"GET http://other.example:81/p?q HTTP/1.1", b"/p?q", b"Host: other.example:81\r\n"),
        (b"GET HTTPS://other.example HTTP/1.1", b"/", b"Host: other.example\r\n"),
        (b"GET http://other.example?q HTTP/1.1", b"/?q", b"Host: other.example\r\n"),
        (b"OPTIONS http://other.example HTTP/1.1", b"*", b"Host: other.example\r\n"),
        (b"OPTIONS * HTTP/1.1", b"*", b"hOST: films.example\r\n"),
    ],
)
def test_the_authority_of_an_absolute_form_replaces_host(line, target, hosts):
    """RFC 9112 §3.2.2, however Host is spelled."""
    out = read(line=line, host=b"hOST: films.example")
    assert (out.target, out.lines) == (target, hosts)
    assert out.lines == b"".join(b"%b: %b\r\n" % (hosts[:4], out.fields[b"host"]) for _ in [0])


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


@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_malformed_head_is_refused_and_the_connection_not_trusted(raw, status):
    refusal = refused(raw)
    assert refusal.status in ({status} if status != 501 else {400, 501})
    if refusal.code != "bad_request" or "could be read" not in refusal.detail:
        assert refusal.close


def test_limits_hold_to_the_byte():
    """Fields and target: what is just at the limit passes."""
    strict = reader(head_fields=10, target_bytes=300)
    fields = [b"X-A: b"] * 9  # and Host
    assert strict.read(head(*fields)).method == b"GET"
    assert (refused(head(*fields, b"X-A: b"), strict).code, refused(head(*fields, b"X-A: b"), strict).status) == (
        "head_too_large", 431,
    )  # fmt: skip
    assert strict.read(head(line=b"GET /" + b"a" * 299 + b" HTTP/1.1"))
    assert refused(head(line=b"GET /" + b"a" * 300 + b" HTTP/1.1"), strict).status == 414
    assert strict.too_large(b"GET /" + b"a" * 400).status == 414
    assert strict.too_large(head(b"X-A: " + b"b" * 400)[:-4]).status == 431


# -- what goes on

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
    [b"x-a", b"x-b", b"accept", b"authorization", b"cookie", b"content-type", b"via", b"x-forwarded", b"x-fusebox",
     b"hosts", b"te-x", b"xconnection", b"x_a", b"x-user-id", b"x-region", b"idempotency-key", b"cache-control"]
)  # fmt: skip
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
    name = draw(
        draw(st.sampled_from([other_names, other_names, own_names, taken_names]))
        .flatmap(spelled)
        .map(st.just)
    )
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

MIXED = (
    head(), head(b"X-A: b"), head(b"Connection: close"), head(b"connection: Close, x-a", b"x-a: 1"),
    head(b"Connection: keep-alive"), head(line=b"GET /p HTTP/1.0"), head(line=b"GET /p HTTP/1.0", host=b""),
    head(b"Connection: keep-alive", line=b"GET /p HTTP/1.0"), head(b"Content-Length: 5", line=b"POST /p HTTP/1.1"),
    head(b"Content-Length: 5", b"Connection: close"), head(b"Content-Length: 0"), head(line=b"HEAD /p HTTP/1.1"),
    head(b"Content-Length: 5", line=b"PUT /p HTTP/1.0"), head(b"Transfer-Encoding: chunked"),
    head(b"Upgrade: websocket", b"Connection: upgrade"), head(b"Upgrade: websocket"), head(b"Connection: upgrade"),
    head(b"Upgrade: x", b"Connection: upgrade", b"Content-Length: 9"), head(b"Expect: 100-continue"),
    head(b"Upgrade: x", b"Connection: upgrade", b"Transfer-Encoding: chunked"), head(b"X-Request-Id: a b"),
    head(line=b"OPTIONS * HTTP/1.1"), head(line=b"OPTIONS * HTTP/1.1", host=b"Host: other"),
    head(line=b"PURGE /p HTTP/1.1"), head(b"x-user-id: 1", b"X-User-Id: 2"), head(b"Cookie: a", b"Cookie: b"),
    head(line=b"GET http://h/p HTTP/1.1"), head(b"X-Request-Id: a", b"X-Region: r"),
    *(raw for raw, _ in REFUSED.values()),
)  # fmt: skip


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


@pytest.mark.parametrize("raw", MIXED[:28])
def test_the_same_head_twice(raw):
    shared = reader()
    assert verdict(shared, raw) == verdict(shared, raw)


# -- heads in pieces


@pytest.mark.parametrize("raw", [head(), head(b"X-A: b", b"Content-Length: 5"), head(b"Connection: close")])
def test_a_good_head_in_pieces_is_watched_in_silence(raw):
    watch = HeadWatch()
    for end in range(1, len(raw)):
        watch.feed(raw[:end])


@pytest.mark.parametrize("raw", [b"GET /p\0", b"\x16\x03\x01", b"GET /p HTTP/1.1\r\nX A", head(b"X-A: \0b")])
def test_what_can_become_no_head_is_refused_before_it_ends(raw):
    watch = HeadWatch()
    with pytest.raises(Refusal) as caught:
        for end in range(1, len(raw) + 1):
            watch.feed(raw[:end])
    assert (caught.value.status, caught.value.close) == (400, True)


@settings(max_examples=200, derandomize=True)
@given(st.sampled_from(MIXED), st.integers(0, 200), st.binary(max_size=3))
def test_a_damaged_head_is_refused_or_read_as_written(raw, at, noise):
    """Nothing but `Refusal` comes out, and what passes holds no control character."""
    raw = raw[:at] + noise + raw[at:]
    raw = raw[: raw.index(b"\r\n\r\n") + 4]
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
