"""Random bodies arrive as they were sent; random damage is refused or passed on as what it is."""

from collections.abc import Iterator

import pytest
import strict
from fuzzing import Lab, cuts, fuzzed, mutated, send_cut
from harness import GoneError, reply, turn, until
from hypothesis import given
from hypothesis import strategies as st

CHUNKS = b"5\r\nhello\r\n6;e=f\r\n world\r\n0\r\nX-T: t\r\n\r\n"
REQUESTS = (
    b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nAccept: */*\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world",
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    b"PUT /p HTTP/1.1\r\nHost: x:80\r\nContent-Length: 0\r\nConnection: keep-alive, X-B\r\nX-B: 1\r\n\r\n",
    b"DELETE http://x/p HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\n\r\n",
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\n\r\nhello",
    b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nuntil the end",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
)
MANAGED = frozenset(
    [
        "host",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "content-length",
        "upgrade",
        "via",
        "forwarded",
        "expect",
        "x-request-id",
        "traceparent",
        "max-forwards",
        "date",
        "server-timing",
        "http2-settings",
    ]
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def chunked(body: bytes, sizes: list[int]) -> bytes:
    out = b""
    for size in sizes:
        piece, body = body[:size], body[size:]
        if piece:
            out += b"%x\r\n%b\r\n" % (len(piece), piece)
    return out + (b"%X\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


SIZES = st.lists(st.integers(1, 3_000), max_size=12)


@fuzzed
@given(
    body=st.binary(max_size=6_000), sizes=st.none() | SIZES, back=st.none() | SIZES, at=cuts(), back_at=cuts()
)
def test_any_body_in_any_pieces_arrives_identical(
    lab: Lab, body: bytes, sizes: list[int] | None, back: list[int] | None, at: list[int], back_at: list[int]
) -> None:
    """Both ways: by length or chunked, cut on the wire wherever."""

    async def example() -> None:
        lab.answer = (
            reply(body)
            if back is None
            else b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body, back)
        )
        lab.cuts = back_at
        framing = b"Content-Length: %d" % len(body) if sizes is None else b"Transfer-Encoding: chunked"
        head = b"POST /p HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n"
        wire = await lab.rig.client()
        await send_cut(wire, head + (body if sizes is None else chunked(body, sizes)), at)
        answer = await wire.response(b"POST")
        assert (answer.status, answer.body) == (200, body)
        assert [(r.target, r.body) for r in lab.seen] == [(b"/p", body)]

    lab.clear()
    lab.run(example())


def meant(raw: bytes) -> list[strict.Request]:
    """What a strict reader takes from these bytes, as far as they are HTTP/1.1."""
    found: list[strict.Request] = []
    at = 0
    while at < len(raw):
        at += 2 if raw[at : at + 2] == b"\r\n" else 0  # RFC 9112 2.2: one empty line is ignored
        try:
            whole = strict.request(raw, at)
        except strict.MalformedError:
            break
        if whole is None:
            break
        found.append(whole[0])
        at = whole[1]
    return found


def kept(message: strict.Message) -> strict.Fields:
    named = {
        token.strip().lower().decode("latin-1") for token in (message.get("connection") or b"").split(b",")
    }
    return [
        (name, value)
        for name, value in message.fields
        if name not in MANAGED | named and not name.startswith(("proxy-", "x-forwarded-", "x-fusebox"))
    ]


def same(sent: strict.Request, got: strict.Request) -> bool:
    target = sent.target
    if b"://" in target.split(b"?")[0] and not target.startswith(b"/"):
        rest = target.split(b"://", 1)[1]
        slash = min((rest.find(c) for c in (b"/", b"?") if c in rest), default=len(rest))
        target = rest[slash:] if rest[slash:].startswith(b"/") else b"/" + rest[slash:]
    ours = kept(got)
    return (sent.method, target, sent.body) == (got.method, got.target, got.body) and all(
        pair in ours for pair in kept(sent)
    )


def check_requests(lab: Lab, raw: bytes) -> None:
    """What came through is, in order, some of what a strict reader reads: nothing else, nothing twice."""
    left = iter(meant(raw))
    for got in lab.seen:
        assert any(same(sent, got) for sent in left), f"never sent as such: {got}"


@fuzzed
@given(raw=mutated(REQUESTS), at=cuts())
def test_damaged_requests_are_refused_or_meant(lab: Lab, raw: bytes, at: list[int]) -> None:
    """Each ends with answers and the end of the connection, not later than its deadlines."""

    async def example() -> None:
        wire = await lab.rig.client()
        await send_cut(wire, raw, at)
        if not wire.transport.is_closing():
            wire.half_close()
        await wire.until(lambda: wire.eof, "the end", patience=4)
        answered = 0
        while wire.at < len(wire.data):
            sent = meant(raw)
            head = len(sent) > answered and sent[answered].method == b"HEAD"
            await wire.response(b"HEAD" if head else b"GET")
            answered += 1
        assert answered <= len(meant(raw)) + 1

    lab.clear()
    lab.run(example())
    check_requests(lab, raw)


def answer_meant(raw: bytes) -> strict.Response | None:
    """The final answer to a POST in these bytes, followed by the end of the connection."""
    at = 0
    while True:
        try:
            head = strict.response_head(raw, at, method=b"POST")
            if head is None:
                return None
            if head[0].status >= 200:
                break
        except strict.MalformedError:
            return None
        at = head[1]
    if head[0].framing == "close":
        head[0].body = raw[head[1] :]
        return head[0]
    try:
        whole = strict.response(raw, at, method=b"POST")
    except strict.MalformedError:
        return None
    return whole[0] if whole else None


@fuzzed
@given(raw=mutated(ANSWERS), at=cuts())
def test_damaged_answers_are_502_cut_or_meant(lab: Lab, raw: bytes, at: list[int]) -> None:
    """The client reads sound HTTP whatever the upstream says, and the next one gets its own answer."""

    async def example() -> None:
        lab.answer, lab.cuts, lab.leaves = raw, at, True
        wire = await lab.rig.client()
        wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        expected = answer_meant(raw)
        try:
            got = await wire.response(b"POST")
        except GoneError:
            assert expected is None or expected.framing == "close"
        else:
            # 204 has no content, whatever it announces (RFC 9110 15.3.5): the announcement is dropped
            if got.get("content-type") != b"application/problem+json" and got.status != 204:
                assert expected is not None, got
                assert (got.status, got.body) == (expected.status, expected.body)
                assert all(pair in got.fields for pair in kept(expected))
        await until(lambda: lab.left, "the upstream to leave")
        await turn()  # a POST into a connection that is being closed would be lost
        after = await lab.rig.ask(b"POST /next HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nown")
        assert (after.status, after.body) == (200, b"own")
        assert [r.target for r in lab.seen] == [b"/p", b"/next"]

    lab.clear()
    lab.run(example())


@fuzzed
@given(raw=st.binary(max_size=300), at=cuts())
def test_noise_reaches_nobody(lab: Lab, raw: bytes, at: list[int]) -> None:
    async def example() -> None:
        wire = await lab.rig.client()
        await send_cut(wire, raw, at)
        wire.half_close()
        await wire.until(lambda: wire.eof, "the end", patience=4)

    lab.clear()
    lab.run(example())
    check_requests(lab, raw)
