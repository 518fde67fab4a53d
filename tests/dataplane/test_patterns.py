"""Patterns fit less than is valid, and read what they fit as the general reading does."""

import gc
import time
from itertools import count

import body_cases
import head_cases
import pytest
from cases import sibling
from heads import IDENTITY, REFUSED, head, reader
from hypothesis import event, given, settings
from hypothesis import strategies as st
from verdicts import CASES_FILE, bytes_of
from verdicts import cases as probes

from proxy.core.policy import Limits
from proxy.dataplane.patterns import Pattern
from proxy.dataplane.request_head import RequestHead, RequestReader
from proxy.errors import Refusal

COMPARED = sorted(set(RequestHead.__slots__) - {"pattern"})


class Eager:
    """A reader that makes a pattern of whatever may have one, at once."""

    def __init__(self, **limits: int) -> None:
        self.reader = RequestReader(Limits(**limits), IDENTITY, clock=count(10.0, 10.0).__next__, often=1)

    def pattern(self, raw: bytes) -> Pattern | None:
        """That of heads like this one, if they may have one and this one is read at all."""
        try:
            return self.reader.read(raw).pattern
        except Refusal:
            return None

    def agrees(self, pattern: Pattern, data: bytes) -> bool:
        """Whether it fits; then the general reading of what `data` begins with has to say the same."""
        found = self.reader.again(data, pattern)
        if found is None:
            return False
        out, rest = found
        lines, end, behind = data.partition(b"\r\n\r\n")
        assert end
        assert rest == behind
        assert parts(out) == parts(reader().read(lines + end)), data
        return True


BYTES = [bytes([byte]) for byte in range(256)]
ODD_BYTES = (b"\0", b"\t", b"\n", b"\r", b"\r\n", b" ", b"#", b"0", b":", b"\x7f", b"\x80")


def parts(out: RequestHead) -> dict[str, object]:
    return {name: getattr(out, name, None) for name in COMPARED}


USUAL = (
    head(),
    head(b"Accept: a/b", b"User-Agent: a (b; c)", b"Accept-Encoding: gzip, br"),
    head(b"Connection: keep-alive", b"X-A: 1"),
    head(b"X-A: 1", b"Connection: Keep-Alive"),
    head(b"X-User-Id: 7", b"x-region: eu west", b"X-Fusebox-Override: e30.x", b"X-B:\t", b"X-C:"),
    head(b"Content-Length: 12", b"Content-Type: a/b", line=b"POST /p HTTP/1.1"),
    head(b"Content-Length: 0", b"Idempotency-Key: k", line=b"PUT /p HTTP/1.1"),
    head(b"X-Request-Id: a-1", b"traceparent: 00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"),
    head(b"X-Forwarded-For: 10.0.0.1, 10.0.0.2", b"X-Forwarded-Proto: https", b"X-A: b", b"X-Real-IP: ::1"),
    head(b"TE: trailers", b"Keep-Alive: timeout=5", b"X-A: \x80\xff", host=b"Host: a.b-c:58080"),
    head(b"X-A: 1", b"X-A: 2", b"X-User-Id: 7", b"X-A: 3", b"Cookie: a", b"Cookie: b"),
    head(b"Accept: x", b"accept: y", b"!#$%&'*+-.^_`|~0: z", line=b'HEAD /%ff"<>\\^`{|}? HTTP/1.1'),
    b"GET / HTTP/1.1\r\nConnection: keep-alive\r\nHost: a\r\nUpgrade-Insecure-Requests: 1\r\nTE: x\r\n\r\n",
)


@pytest.mark.parametrize("raw", USUAL)
def test_what_is_usual_fits(raw: bytes) -> None:
    """With nothing behind it, with a body, with another request."""
    eager = Eager()
    pattern = eager.pattern(raw)
    assert pattern is not None
    for rest in (b"", b"hello", b"\r\n", raw, b"x" * 100_000):
        assert eager.agrees(pattern, raw + rest)


@pytest.mark.parametrize("raw", USUAL)
def test_any_other_byte_anywhere_is_read_as_before_or_does_not_fit(raw: bytes) -> None:
    """Each byte in place of each, odd ones before each, and each taken away."""
    eager = Eager()
    pattern = eager.pattern(raw)
    assert pattern is not None
    fitted = 0
    for at in range(len(raw) + 1):
        eager.agrees(pattern, raw[:at] + raw[at + 1 :])
        fitted += sum(eager.agrees(pattern, raw[:at] + odd + raw[at:]) for odd in ODD_BYTES)
        fitted += sum(eager.agrees(pattern, raw[:at] + byte + raw[at + 1 :]) for byte in BYTES)
    assert fitted


@pytest.mark.parametrize("where", [b"GET /a%bb?c HTTP/1.1", b"GET /a?b%bc HTTP/1.1"])
def test_any_byte_in_a_target(where: bytes) -> None:
    eager = Eager()
    pattern = eager.pattern(head())
    assert pattern is not None
    fitted = [byte for byte in range(256) if eager.agrees(pattern, head(line=where % bytes([byte])))]
    assert fitted == [*range(0x21, 0x23), *range(0x24, 0x7F)]


PROBES = {case["id"]: bytes_of(case) for case in probes()} if CASES_FILE.exists() else {}
ODD = {
    **{name: raw for name, (raw, _) in REFUSED.items()},
    **{case.id: case.raw for case in head_cases.CASES + body_cases.CASES},
    **PROBES,
}
PLAIN = head(host=b"Host: x")


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD.keys())
def test_odd_heads_are_as_odd_to_patterns(raw: bytes) -> None:
    """Whatever a pattern for names like theirs fits of them, it reads as the general reading does."""
    eager = Eager()
    for good in (sibling(raw), PLAIN, raw):
        pattern = eager.pattern(good)
        if pattern is not None:
            eager.agrees(pattern, raw)


NAMES = (
    b"Accept", b"accept", b"X-A", b"User-Agent", b"Cookie", b"Connection", b"X-User-Id", b"x-region", b"X_A",
    b"X-Request-Id", b"x-request-id", b"traceparent", b"Content-Length", b"content-length", b"Forwarded",
    b"X-Forwarded-For", b"Te", b"Keep-Alive", b"Proxy-Connection", b"Upgrade", b"Expect", b"X_Region",
    b"Transfer-Encoding", b"X-Fusebox-Override", b"x_fusebox_a", b"Max-Forwards", b"Trailer", b"host",
    b"Idempotency-Key",
)  # fmt: skip
TRACE = b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"
GOOD = {
    b"host": b"x", b"content-length": b"5", b"connection": b"keep-alive", b"traceparent": TRACE,
    b"transfer-encoding": b"chunked", b"expect": b"100-continue",
}  # fmt: skip
VALUES = st.none() | st.none() | st.none() | st.sampled_from(
    [b"", b"a", b"a b", b" a", b"a ", b"\ta", b"a\t", b"Keep-Alive", b"close", b"keep-alive, x-a", b"#",
     b"::", b"0", b"7", b"07", b"12", b"1" * 18, b"1" * 19, b"+1", b"1, 1", b"chunked", b"\xff", b"a\0",
     TRACE.upper(), TRACE.replace(b"1", b"0"), TRACE.replace(b"2", b"0"), b"ff" + TRACE[2:], b"a" * 128,
     b"a" * 129, b"a\x01", b"a\x7f", b"a\r\n b", b"a\r\nX-A: b", b"a\nb", b"a\rb", b"x:59999", b"x:60000",
     b"x:", b"[::1]", b"1.2.3.4:80", b"x" * 256]
)  # fmt: skip
LINES = st.sampled_from(
    [b"GET /p?a=b HTTP/1.1", b"POST / HTTP/1.1", b"HEAD /p HTTP/1.1", b"GET /? HTTP/1.1",
     b"GET //?? HTTP/1.1", b"GET /a#b HTTP/1.1", b"GET /p HTTP/1.0", b"OPTIONS * HTTP/1.1", b"get / HTTP/1.1",
     b"GET http://h/p HTTP/1.1", b"TRACE / HTTP/1.1", b"GET  / HTTP/1.1", b"PURGE /p HTTP/1.1",
     b"GET /" + b"a" * 8191 + b" HTTP/1.1", b"GET /" + b"a" * 8192 + b" HTTP/1.1"]
)  # fmt: skip
COLONS = st.sampled_from([b": ", b": ", b": ", b":", b":  ", b":\t", b" : ", b"\t:"])
NOISE = st.sampled_from(
    [b"", b"", b"", b"\r", b"\n", b"\r\n", b"\0", b"X-A: b\r\n", b"Host: y\r\n", b" ", b"\r\n "]
)


@settings(max_examples=800, derandomize=True)
@given(
    st.lists(st.sampled_from(NAMES), max_size=6),
    st.integers(0, 6),
    LINES,
    st.lists(VALUES, min_size=7, max_size=7),
    COLONS,
    st.integers(0, 300),
    NOISE,
)
def test_patterns_read_as_the_general_reading_does(names, at, line, values, colon, where, noise):
    """Names in any order, good and bad values, odd space, lines and bytes in between."""
    names.insert(at, b"Host")
    good = [GOOD.get(name.lower(), b"a") for name in names]
    eager = Eager()
    pattern = eager.pattern(head(*map(b": ".join, zip(names, good, strict=True)), host=b""))
    if pattern is None:
        return
    mixed = [usual if value is None else value for usual, value in zip(good, values, strict=False)]
    raw = head(*map(colon.join, zip(names, mixed, strict=True)), line=line, host=b"")
    event(f"fits: {eager.agrees(pattern, raw)}")
    eager.agrees(pattern, raw[:where] + noise + raw[where:])


# -- which heads get patterns


SPECIAL = {
    "expect": (b"Expect: 100-continue",),
    "coding": (b"Transfer-Encoding: chunked",),
    "upgrade": (b"Upgrade: a",),
    "proxy-connection": (b"proxy-connection: keep-alive",),
    "long names": tuple(b"X-%d%b: a" % (n, b"a" * 60) for n in range(9)),
    "one long name": (b"X-%b: a" % (b"a" * 70),),
    "two spellings": (b"x-user-id: a", b"X-User-ID: b"),
    "twice": (b"x-user-id: a", b"x-user-id: a"),
    "many": tuple(b"X-%d: a" % n for n in range(60)),
}


@pytest.mark.parametrize("fields", SPECIAL.values(), ids=SPECIAL.keys())
def test_special_cases_get_none(fields: tuple[bytes, ...]) -> None:
    raw = head(*fields, line=b"POST /p HTTP/1.1")
    assert Eager().reader.read(raw).pattern is None


def test_of_options_and_trace_and_10_no_pattern_takes_any() -> None:
    eager = Eager()
    pattern = eager.pattern(PLAIN)
    assert pattern is not None
    for line in (b"OPTIONS /p HTTP/1.1", b"TRACE /p HTTP/1.1", b"GET /p HTTP/1.0", b"CONNECT /p HTTP/1.1"):
        assert eager.reader.again(head(host=b"Host: x", line=line), pattern) is None


def test_limits_hold_to_the_byte() -> None:
    """Target and head: as `read` has them, and as the connection has them of the whole."""
    eager = Eager(target_bytes=20, head_bytes=80)
    pattern = eager.pattern(PLAIN)
    assert pattern is not None
    for length, fits in ((19, True), (20, False)):
        raw = head(host=b"Host: x", line=b"GET /%b HTTP/1.1" % (b"a" * length))
        assert (eager.reader.again(raw, pattern) is not None) == fits
    for length, fits in ((80, True), (81, False)):
        raw = PLAIN.replace(b"Host: x", b"Host: " + b"x" * (length - len(PLAIN) + 1))
        assert len(raw) == length
        for rest in (b"", b"x" * 1_000):
            assert (eager.reader.again(raw + rest, pattern) is not None) == fits


def test_an_order_gets_one_when_it_has_come_often() -> None:
    by = RequestReader(Limits(), IDENTITY, clock=lambda: 1.0, often=3)
    seen = [by.read(PLAIN).pattern for _ in range(4)]
    assert seen[:2] == [None, None]
    assert seen[2] is not None
    assert seen[3] is seen[2] is by.patterns.latest


def test_one_pattern_is_made_in_a_second() -> None:
    """Who sends ever new orders does not make us compile; those that may have none keep nobody waiting."""
    now = 100.0
    by = RequestReader(Limits(), IDENTITY, clock=lambda: now, often=1)
    assert by.read(head(b"Expect: 100-continue")).pattern is None
    assert by.read(head(b"X-A: a")).pattern is not None
    for number, (moment, made) in enumerate(((100.0, False), (100.9, False), (101.0, True), (101.9, False))):
        now = moment
        assert (by.read(head(b"X-%d: a" % number)).pattern is not None) == made


def test_new_orders_take_no_pattern_away() -> None:
    by = RequestReader(Limits(), IDENTITY, clock=lambda: 1.0, often=1)
    pattern = by.read(PLAIN).pattern
    for number in range(1_000):
        assert by.read(head(b"X-%d: a" % number)).pattern is None
    assert by.read(PLAIN).pattern is pattern is not None


def test_patterns_do_not_pile_up() -> None:
    eager = Eager()
    for number in range(300):
        assert eager.pattern(head(b"X-%d: a" % number)) is not None
    gc.collect()
    assert sum(isinstance(it, Pattern) and it.reader is eager.reader for it in gc.get_objects()) <= 130


# -- what it costs to be wrong


@pytest.mark.parametrize(
    "raw",
    [
        head(b"X-A: " + b"a" * 30_000 + b"\x01", b"X-B: 1"),
        head(b"X-A: " + b" a" * 15_000 + b"\x01", b"X-B: 1"),
        head(b"X-A: a", b"X-B: " + b"\t" * 30_000 + b"\0"),
        head(b"X-A: a", b"X-B: a")[:-4] + b"\r" * 30_000,
        head(b"X-A: a" + b"\r\nX-B: a" * 4_000),
        head(line=b"GET /" + b"?" * 8_000 + b" HTTP/1.0"),
        head(host=b"Host: " + b"a" * 30_000),
        head(host=b"Host: " + b"a.-" * 80 + b":"),
        head(b"X-A: a", b"X-B: a", b"X-User-Id: " + b"a" * 30_000 + b" "),
    ],
)
def test_what_does_not_fit_is_known_after_one_pass(raw: bytes) -> None:
    """Tries in proportion to the square of its length would take seconds."""
    eager = Eager()
    patterns = [
        eager.pattern(head(*fields))
        for fields in ([b"X-A: a", b"X-B: 1"], [b"X-A: a", b"X-B: a", b"X-User-Id: a"])
    ]
    for pattern in patterns:
        assert pattern is not None
        began = time.process_time()
        for _ in range(10):
            assert eager.reader.again(raw, pattern) is None
        assert time.process_time() - began < 0.5
