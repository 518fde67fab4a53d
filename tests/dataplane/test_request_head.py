"""Request heads: what they mean, and which are none."""

import pytest
from heads import REFUSED, head, read, reader, refused

from proxy.dataplane.request_head import HeadWatch
from proxy.errors import Refusal


def test_the_parts_of_a_plain_head():
    out = read(b"Accept: a/b", line=b"GET /films/7?k=5&x=%20 HTTP/1.1")
    assert (out.method, out.target) == (b"GET", b"/films/7?k=5&x=%20")
    assert (out.path, out.query) == (b"/films/7", b"k=5&x=%20")
    assert (out.http11, out.keep_alive) == (True, True)
    assert (out.content_length, out.chunked, out.expects_continue, out.upgrade) == (0, False, False, b"")
    assert out.request_id == b""
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
    ],
)  # fmt: skip
def test_what_fields_mean(lines, wanted):
    out = read(*lines, line=b"POST /p HTTP/1.1")
    assert {name: getattr(out, name) for name in wanted} == wanted


TRACE = b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"
MADE = b"traceparent: 00-%b-%b-00\r\n"


@pytest.mark.parametrize(
    ("trace", "kept"),
    [
        (TRACE, True),
        (b"cc" + TRACE[2:], True),
        (b"ff" + TRACE[2:], False),
        (TRACE.replace(b"1", b"0"), False),
        (TRACE.replace(b"2", b"0"), False),
        (TRACE.replace(b"1", b"A"), False),
        (TRACE + b"-", False),
        (b"", False),
    ],
)
def test_a_trace_goes_on_or_a_new_one_does(trace, kept):
    """W3C trace context §2.2, §3.2.2.3: what is not well-formed is as if it were not there."""
    out = read(b"X-Request-Id: theirs", b"traceparent: " + trace)
    out.made_id = False
    out.identify(lambda: b"%032x" % 7)
    line = b"traceparent: %b\r\n" % trace
    assert out.traceparent == (trace if kept else b"")
    assert out.id_lines == (b"" if kept else MADE % (b"%032x" % 7, b"%016x" % 7))
    assert out.lines == b"Host: films.example\r\nX-Request-Id: theirs\r\n" + (line if kept else b"")


def test_a_made_id_is_that_of_the_trace_as_well():
    out = read()
    out.request_id, out.made_id = b"%032x" % 5, True
    out.identify(lambda: b"")
    assert out.id_lines == b"X-Request-Id: %032x\r\n" % 5 + MADE % (b"%032x" % 5, b"%016x" % 5)


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
    too_many = refused(head(*fields, b"X-A: b"), strict)
    assert (too_many.code, too_many.status) == ("head_too_large", 431)
    assert strict.read(head(line=b"GET /" + b"a" * 299 + b" HTTP/1.1"))
    assert refused(head(line=b"GET /" + b"a" * 300 + b" HTTP/1.1"), strict).status == 414
    assert strict.too_large(b"GET /" + b"a" * 400).status == 414
    assert strict.too_large(head(b"X-A: " + b"b" * 400)[:-4]).status == 431


@pytest.mark.parametrize("raw", [head(), head(b"X-A: b", b"Content-Length: 5"), head(b"Connection: close")])
def test_a_good_head_in_pieces_is_watched_in_silence(raw):
    watch = HeadWatch()
    for end in range(1, len(raw)):
        watch.feed(raw[:end])


@pytest.mark.parametrize("raw", [b"GET /p\0", b"\x16\x03\x01", b"GET /p HTTP/1.1\r\nX A", head(b"X-A: \0b")])
def test_what_can_become_no_head_is_refused_before_it_ends(raw):
    watch = HeadWatch()

    def come_in() -> None:
        for end in range(1, len(raw) + 1):
            watch.feed(raw[:end])

    with pytest.raises(Refusal) as caught:
        come_in()
    assert (caught.value.status, caught.value.close) == (400, True)
