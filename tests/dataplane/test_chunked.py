"""Chunked framing: what may come, in any pieces; what may not, however it comes."""

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dataplane.chunked import (
    FORBIDDEN_TRAILERS,
    BadChunk,
    ChunkedReader,
    forbidden_trailers,
    framed,
    last_chunk,
)

TOKEN_CHARS = b"!#$%&'*+-.^_`|~0123456789abcxyzABCXYZ"


def reader(*, extension=4096, trailer=32 * 1024, fields=100, forbidden=FORBIDDEN_TRAILERS) -> ChunkedReader:
    return ChunkedReader(
        extension_limit=extension, trailer_limit=trailer, fields_limit=fields, forbidden=forbidden
    )


class Heard(NamedTuple):
    payload: bytes
    done: bool
    rest: bytes
    trailers: bytes


def fed(pieces: list[bytes], into: ChunkedReader | None = None) -> Heard:
    """What a reader makes of the pieces; behind the end of the body nothing is fed, only kept."""
    into = into or reader()
    payload, rest = b"", b""
    for piece in pieces:
        if into.done:
            rest += piece
            continue
        payload += into.feed(piece)
    return Heard(payload, into.done, into.rest + rest, into.trailers)


def single(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(min(place, len(raw)) for place in places), len(raw)]
    return [raw[a:b] for a, b in pairwise(bounds) if a < b]


tokens = st.lists(st.sampled_from(TOKEN_CHARS), min_size=1, max_size=6).map(bytes)
space = st.sampled_from([b"", b" ", b"\t", b" \t"])
quoted = st.sampled_from([b'""', b'"a b"', b'"a\\"b"', b'"\\\\"', b'"a;b=c,\t\xe9"', b'"\\\xff"'])


@st.composite
def extension(draw) -> bytes:
    """chunk-ext of RFC 9112 §7.1.1."""
    ext = draw(space) + b";" + draw(space) + draw(tokens)
    if draw(st.booleans()):
        ext += draw(space) + b"=" + draw(space) + draw(st.one_of(tokens, quoted))
    return ext


@st.composite
def chunk(draw, payload: bytes) -> bytes:
    size = b"%x" % len(payload)
    size = draw(st.sampled_from([size, size.upper(), b"0" * (16 - len(size)) + size]))
    return size + b"".join(draw(st.lists(extension(), max_size=3))) + b"\r\n" + payload + b"\r\n"


trailers = st.lists(
    st.tuples(tokens.map(lambda name: b"x-t" + name), st.sampled_from([b"", b" a", b"b\t", b" \xe9;\x80"])),
    max_size=4,
).map(lambda lines: b"".join(b"%b:%b\r\n" % line for line in lines))


@given(st.data(), st.lists(st.binary(min_size=1, max_size=40), max_size=6), trailers, st.binary(max_size=20))
def test_what_was_framed_comes_out_again(data, pieces, lines, behind):
    """Any payload in any chunks with any extensions and trailers, cut anywhere, with anything behind."""
    last = data.draw(st.sampled_from([b"0", b"000", b"0;end=1"]))
    raw = b"".join(data.draw(chunk(piece)) for piece in pieces) + last + b"\r\n" + lines + b"\r\n"
    whole = Heard(b"".join(pieces), True, behind, lines)
    raw += behind
    assert fed([raw]) == whole
    assert fed(single(raw)) == whole
    assert fed(cut(raw, data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))) == whole


@given(st.lists(st.binary(max_size=50)), trailers)
def test_own_framing_is_read_back(pieces, lines):
    """`framed` and `last_chunk` write what the reader reads; an empty payload ends nothing."""
    raw = b"".join(map(framed, pieces)) + last_chunk(lines)
    assert fed([raw]) == (b"".join(pieces), True, b"", lines)


def test_own_framing_is_plain():
    assert framed(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert framed(b"") == b""
    assert last_chunk() == b"0\r\n\r\n"
    assert last_chunk(b"a: b\r\n") == b"0\r\na: b\r\n\r\n"


def test_an_unfinished_body_is_not_done():
    for end in range(len(raw := b"5;a\r\nhello\r\n0\r\nx: y\r\n\r\n")):
        heard = fed([raw[:end]])
        assert (heard.done, heard.rest) == (False, b"")
        assert b"hello".startswith(heard.payload)


def test_payload_is_given_out_before_its_chunk_ends():
    """Events may not wait for the rest of their chunk."""
    assert reader().feed(b"ff\r\nevent") == b"event"


REFUSED = {
    "no size": b"\r\nhello\r\n",
    "empty line between chunks": b"1\r\na\r\n\r\n0\r\n\r\n",
    "sign": b"+5\r\nhello\r\n",
    "minus": b"-5\r\nhello\r\n",
    "0x": b"0x5\r\nhello\r\n",
    "underscore": b"1_0\r\n",
    "no hex": b"g\r\n",
    "space before the size": b" 5\r\nhello\r\n",
    "space behind the size": b"5 \r\nhello\r\n",
    "tab behind the size": b"5\t\r\nhello\r\n",
    "two sizes": b"5 5\r\nhello\r\n",
    "comma": b"5,5\r\nhello\r\n",
    "other digits": b"\xd9\xa5\r\nhello\r\n",
    "LF behind the size": b"5\nhello\r\n",
    "CR behind the size": b"5\rhello\r\n",
    "CR CR LF behind the size": b"5\r\r\nhello\r\n",
    "LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "CR behind the data": b"5\r\nhello\r0\r\n\r\n",
    "nothing behind the data": b"5\r\nhello0\r\n\r\n",
    "too long for its size": b"5\r\nhello!\r\n",
    "too short for its size": b"6\r\nhello\r\n0\r\n\r\n",
    "LF behind the last chunk": b"0\n\r\n",
    "LF at the end": b"0\r\n\n",
    "17 digits": b"00000000000000005\r\nhello\r\n",
    "2⁶²": b"4000000000000000\r\n",
    "2⁶⁴ - 1": b"ffffffffffffffff\r\n",
    "2⁶⁴": b"10000000000000000\r\n",
    "extension without a name": b"5;\r\nhello\r\n",
    "extension without a value": b"5;a=\r\nhello\r\n",
    "extension with spaces": b"5;a b\r\nhello\r\n",
    "extension with bare CR": b"5;a\rb\r\nhello\r\n",
    "extension with LF": b"5;a\nhello\r\n",
    "extension with NUL": b"5;a\0\r\nhello\r\n",
    "quotes not closed": b'5;a="b\r\nhello\r\n',
    "CR in quotes": b'5;a="b\rc"\r\nhello\r\n',
    "NUL in quotes": b'5;a="\0"\r\nhello\r\n',
    "text behind quotes": b'5;a="b"c\r\nhello\r\n',
    "trailer without colon": b"0\r\nabc\r\n\r\n",
    "trailer without name": b"0\r\n: a\r\n\r\n",
    "trailer with space before the colon": b"0\r\na : b\r\n\r\n",
    "folded trailer": b"0\r\na: b\r\n c\r\n\r\n",
    "trailer with bare CR": b"0\r\na: b\rc\r\n\r\n",
    "trailer with NUL": b"0\r\na: \0\r\n\r\n",
    "trailer with LF": b"0\r\na: b\n\r\n",
    "trailer of another name's bytes": b"0\r\n\xc3\xa4: b\r\n\r\n",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_broken_framing_is_refused(raw):
    """Whole and byte by byte; never repaired (design rule 6)."""
    with pytest.raises(BadChunk):
        fed([raw + b"0\r\n\r\n"])
    with pytest.raises(BadChunk):
        fed(single(raw + b"0\r\n\r\n"))


SMALL = {"extension": 12, "trailer": 20, "fields": 3}
LINES = (b"5\r\n", b"hello", b"\r\n", b"0\r\n", b"a;b=c\r\n", b"x-a: b\r\n", b"content-md5: abcdefghij\r\n",
         b"x-b: cdefghijklmno\r\n", b'1;a="', b'"', b"\r", b"\n", b" ", b"0", b"f" * 20,
         b";" + b"e" * 13, b"\0", b":")  # fmt: skip


starts = st.sampled_from([b"", b"5\r\nhello\r\n", b"0\r\n"])
damaged = st.builds(bytes.__add__, starts, st.lists(st.sampled_from(LINES), max_size=6).map(b"".join))


@settings(max_examples=400, derandomize=True)
@given(damaged, st.lists(st.integers(0, 150), max_size=5))
def test_pieces_make_no_difference(raw, places):
    """Sound or broken, over a limit or not: the verdict on any pieces is that on the whole."""

    def verdict(pieces):
        try:
            return fed(pieces, reader(**SMALL))
        except BadChunk:
            return None

    assert verdict([raw]) == verdict(single(raw)) == verdict(cut(raw, places))


@pytest.mark.parametrize("pieces", [lambda raw: [raw], single], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(
    ("limits", "raw"),
    [
        ({"extension": 20}, lambda over: b"0000000000000005;%b\r\nhello\r\n0\r\n\r\n" % (b"e" * (19 + over))),
        ({"trailer": 30}, lambda over: b"0\r\nx-a: %b\r\n\r\n" % (b"v" * (23 + over))),
        ({"trailer": 30}, lambda over: b"0\r\na: b\r\nx-a: %b\r\n\r\n" % (b"v" * (17 + over))),
        ({"trailer": 30}, lambda over: b"0\r\ncookie: %b\r\n\r\n" % (b"v" * (20 + over))),
        ({"trailer": 30}, lambda over: b"0\r\ncookie: abcd\r\nx-a: %b\r\n\r\n" % (b"v" * (9 + over))),
        ({"fields": 4}, lambda over: b"0\r\n%b\r\n" % (b"a: b\r\n" * (4 + over))),
        ({"fields": 4}, lambda over: b"0\r\n%b\r\n" % (b"cookie: b\r\n" * (4 + over))),
    ],
    ids=["extension", "trailer", "trailers", "dropped", "dropped beside kept", "fields", "dropped fields"],
)  # fmt: skip
def test_limits_hold_to_the_byte(limits, raw, pieces):
    """What is just at the limit passes, one more is refused; what is dropped counts as well."""
    assert fed(pieces(raw(0)), reader(**limits)).done
    with pytest.raises(BadChunk):
        fed(pieces(raw(1)), reader(**limits))


def test_the_largest_size_is_taken():
    assert reader().feed(b"3fffffffffffffff\r\nabc") == b"abc"


@pytest.mark.parametrize(
    "raw", [b"5;" + b"e" * 200, b"0\r\nx-a: " + b"v" * 200, b"0\r\ncookie: " + b"v" * 200]
)
def test_an_endless_line_is_refused_before_it_ends(raw):
    """Memory stays bounded though no line end ever comes."""
    with pytest.raises(BadChunk):
        fed(single(raw), reader(extension=60, trailer=60))


@pytest.mark.parametrize(
    "name",
    b"content-length Transfer-Encoding HOST connection keep-alive te trailer upgrade expect range"
    b" content-type content-encoding max-forwards authorization proxy-authorization proxy-anything"
    b" www-authenticate cookie"
    b" set-cookie cache-control if-match forwarded x-forwarded-for x_forwarded_for X-Fusebox-Override"
    b" x_fusebox_anything x-request-id traceparent idempotency-key via http2-settings content_length".split(),
)
def test_trailers_that_would_decide_something_are_dropped(name):
    """Framing, routing, credentials, control, and the sidecar's own (RFC 9110 §6.5.1), in any spelling."""
    heard = fed([b"0\r\nX-Kept: a\r\n" + name + b": 1\r\nx-also: b\r\n\r\n"])
    assert heard.trailers == b"X-Kept: a\r\nx-also: b\r\n"


def test_trailers_that_say_who_is_asking_are_dropped_where_named():
    """The fields that identity reads are a matter of settings."""
    raw = b"0\r\nX-User-Id: 7\r\nx_user_id: 8\r\nx-users: 9\r\n\r\n"
    assert fed([raw]).trailers == raw[3:-2]
    assert fed([raw], reader(forbidden=forbidden_trailers([b"x-user-id"]))).trailers == b"x-users: 9\r\n"
