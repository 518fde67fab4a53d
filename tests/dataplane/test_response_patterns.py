"""Patterns of answers fit less than is valid, and read what they fit as the general reading does."""

from itertools import count
from typing import get_type_hints

import pytest
from cases import answer_sibling
from hypothesis import event, given, settings
from hypothesis import strategies as st
from response_cases import CASES
from test_response_head import GOOD, REFUSED, head

from proxy.core.policy import Limits
from proxy.dataplane.patterns import Pattern
from proxy.dataplane.response_head import Malformed, ResponseHead, ResponseReader

COMPARED = sorted(set(ResponseHead.__slots__) - {"pattern", "raw"})


class Eager:
    """A reader that makes a pattern of whatever may have one, at once."""

    def __init__(self) -> None:
        self.reader = ResponseReader(clock=count(10.0, 10.0).__next__, often=1)

    def pattern(self, raw: bytes) -> Pattern | None:
        try:
            return self.reader.read(raw).pattern
        except Malformed:
            return None

    def agrees(self, pattern: Pattern, raw: bytes) -> bool:
        """Whether it fits; then the general reading has to say the same."""
        raw = raw[: (raw + b"\r\n\r\n").index(b"\r\n\r\n") + 4]
        out = self.reader.again(raw, pattern)
        if out is None:
            return False
        assert parts(out) == parts(ResponseReader().read(raw)), raw
        return True


def parts(out: ResponseHead) -> dict[str, object]:
    return {name: getattr(out, name) for name in COMPARED}


USUAL = (
    head(b"Date: Thu, 01 Jan 2026 00:00:00 GMT", b"Content-Length: 12", b"Connection: keep-alive", b"X-A: b"),
    head(b"Set-Cookie: a=b; c", b"Set-Cookie: d=e", b"Content-Length: 5", b"Set-Cookie: f"),
    head(b"X-Request-Id: a b", b"Content-Type: a/b; c=d", b"transfer-encoding: chunked"),
    head(b"Content-Length: 0", b"Keep-Alive: timeout=5, max=7", b'ETag: "x"', line=b"HTTP/1.1 404 Not Found"),
    head(b"X-Fusebox-Decision: a", b"Cache-Control: no-store", b"Vary:", line=b"HTTP/1.1 204 "),
    head(b"X-A: 1", b"Connection: Keep-Alive", b"x-a: \x80\xff", line=b"HTTP/1.1 599 \xe9\tb"),
)


@pytest.mark.parametrize("raw", USUAL)
def test_any_byte_anywhere_is_read_as_before_or_does_not_fit(raw: bytes) -> None:
    """Each byte in place of each, odd ones before each, and each taken away; without any change it fits."""
    eager = Eager()
    pattern = eager.pattern(raw)
    assert pattern is not None
    assert eager.agrees(pattern, raw)
    for at in range(len(raw) + 1):
        eager.agrees(pattern, raw[:at] + raw[at + 1 :])
        for odd in (b"\0", b"\t", b"\n", b"\r", b"\r\n", b" ", b"0", b":", b"\x7f", b"\x80"):
            eager.agrees(pattern, raw[:at] + odd + raw[at:])
        for byte in range(256):
            eager.agrees(pattern, raw[:at] + bytes([byte]) + raw[at + 1 :])


ODD = {**{case.id: case.raw for case in CASES}, **REFUSED, **{f"good {n}": raw for n, raw in enumerate(GOOD)}}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD.keys())
def test_odd_heads_are_as_odd_to_patterns(raw: bytes) -> None:
    eager = Eager()
    for good in (answer_sibling(raw), head(b"Content-Length: 5"), raw):
        pattern = eager.pattern(good)
        if pattern is not None:
            eager.agrees(pattern, raw)


FIELDS = {
    b"Content-Length": (b"5", b"0", b"05", b"", b"1" * 18, b"1" * 19, b"5, 5", b"+5"),
    b"Transfer-Encoding": (b"chunked", b"Chunked", b"gzip", b"CHUNKED", b"chunked, chunked"),
    b"Connection": (b"keep-alive", b"Keep-Alive", b"close", b"X-A", b"keep-alive, x-a", b""),
    b"X-Request-Id": (b"a", b"", b" a", b"a\x01"),
    b"Keep-Alive": (b"timeout=5", b"a\r\nConnection: close"),
    b"Content-Type": (b"a/b", b"\xff", b"a\r\n b", b"a\x7f"),
    b"content-type": (b"a/b",),
    b"X-A": (b"1", b"a\rb", b"a\nb", b"a\0", b"\t", b"1\r\nX-A: 2"),
    b"X_Fusebox_A": (b"1",),
    b"Upgrade": (b"a",),
    b"Proxy-Connection": (b"close",),
    b"Set-Cookie": (b"a=b", b"a=b\r\nSet-Cookie: c=d"),
    b"Link": (b"a",),
}
LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 204 ", b"HTTP/1.1 304 Not Modified",
     b"HTTP/1.0 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 600 A", b"HTTP/1.1 200", b"HTTP/1.1  200 OK",
     b"HTTP/1.1 200 \x01", b"http/1.1 200 OK", b"HTTP/1.1 2000 A", b"HTTP/1.1 200 \xff"]
)  # fmt: skip


@settings(max_examples=500, derandomize=True)
@given(st.lists(st.sampled_from([*sorted(FIELDS), b"Set-Cookie"]), max_size=5), LINES, st.data())
def test_patterns_read_as_the_general_reading_does(names, line, data):
    eager = Eager()
    pattern = eager.pattern(head(*(name + b": " + FIELDS[name][0] for name in names)))
    if pattern is None:
        return
    values = [data.draw(st.just(FIELDS[name][0]) | st.sampled_from(FIELDS[name])) for name in names]
    colon = data.draw(st.sampled_from([b": ", b": ", b":", b":  ", b" : "]))
    raw = head(*(name + colon + value for name, value in zip(names, values, strict=True)), line=line)
    event(f"fits: {eager.agrees(pattern, raw)}")


@pytest.mark.parametrize(
    "fields",
    [(b"Upgrade: a",), (b"proxy-connection: close",), (b"TE: a", b"X-A: 1", b"te: a"), (), (b"TE: a",)],
)
def test_special_cases_get_none(fields: tuple[bytes, ...]) -> None:
    assert Eager().reader.read(head(*fields)).pattern is None


def test_an_answer_that_is_new_each_time_is_read_by_pattern() -> None:
    """By that of the head before; where it does not fit, in the general way."""
    by = ResponseReader(clock=lambda: 1.0, often=2)
    last = None
    seen = []
    for number in range(4):
        raw = head(b"X-Request-Id: %d" % number, b"Content-Length: %d" % number)
        last = by.read(raw, last)
        seen.append(last.pattern is not None)
        assert last.raw == raw
        assert parts(last) == parts(ResponseReader().read(raw))
    assert seen == [False, True, True, True]
    other = by.read(head(b"X-Other: 1"), last)
    assert (other.lines, other.pattern) == (b"X-Other: 1\r\n", None)
    with pytest.raises(Malformed):
        by.read(head(b"X-Request-Id: 1", b"Content-Length: -1"), last)


def test_only_a_head_that_no_limit_forbids_is_kept_as_it_came() -> None:
    longest = head(b"X-A: " + b"a" * (1024 - len(head(b"X-A: "))))
    assert ResponseReader().read(longest).raw == longest
    assert ResponseReader().read(longest.replace(b"X-A", b"X-AB")).raw == b""
    (least,) = get_type_hints(Limits, include_extras=True)["response_head_bytes"].__metadata__
    assert least.ge >= 1024
