"""Every request case: whole, byte by byte, and with another request right behind it."""

import body_cases
import head_cases
import orjson
import pytest
import strict
from cases import Case, Either, Forward, Refuse
from harness import Wire, turn, until
from rig import Rig, sidecar

CASES = head_cases.CASES + body_cases.CASES
BEHIND = b"GET /behind HTTP/1.1\r\nHost: x\r\n\r\n"
CODES = {400: "bad_request", 413: "body_too_large", 431: "head_too_large"}
CHANGED = {
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "expect",
}  # by the sidecar's own rules


def refused(answer: strict.Response, expected: Refuse) -> None:
    """The answer is one the sidecar makes itself, in the contract's shape."""
    assert answer.status in expected.statuses, (answer.status, answer.body)
    assert answer.get("content-type") == b"application/problem+json"
    problem = orjson.loads(answer.body)
    assert {"type", "title", "status", "detail", "code", "request_id"} <= problem.keys()
    assert problem["status"] == answer.status
    assert problem["code"] == CODES.get(answer.status, problem["code"])
    assert (answer.get("x-request-id") or b"").decode() == problem["request_id"]
    assert answer.has_token("connection", b"close")


async def nothing_arrived(rig: Rig, expected: Refuse) -> None:
    await turn()
    assert rig.upstream.requests == []
    if expected.head_seen:
        # half a request must end as a broken one, and its connection serve nobody else
        await until(lambda: all(wire.eof for wire in rig.upstream.wires), "the upstream connection's end")
        assert rig.upstream.requests == []
    else:
        assert rig.upstream.data == b""


def arrived(got: strict.Request, case: Case, expected: Forward) -> None:
    assert got.target == expected.target
    assert got.body == expected.body
    assert case.absent not in b"\r\n".join(v for _, v in got.fields + got.trailers) or not case.absent
    sent = strict.request_head(case.raw.removeprefix(b"\r\n"))
    assert sent is not None
    assert got.method == sent[0].method
    kept = [pair for pair in sent[0].fields if pair[0] not in CHANGED]
    assert [pair for pair in got.fields if pair in kept] == kept


async def answered(wire: Wire, rig: Rig, case: Case, *, behind: bool) -> None:
    verdict = case.verdict
    method = case.raw.split()[0] if case.raw.split() else b""
    answer = await wire.response(method if isinstance(verdict, Forward) else b"GET")
    if isinstance(verdict, Either):
        verdict = verdict.forward if answer.status == 200 else verdict.refuse
    if isinstance(verdict, Refuse):
        refused(answer, verdict)
        assert await wire.ended() == b"", "something was answered after the refusal"
        await nothing_arrived(rig, verdict)
        return
    assert answer.status == 200, (answer.status, answer.body)
    old = b"HTTP/1.0\r\n" in case.raw
    if behind and not old:
        await wire.response()
    requests = rig.upstream.requests
    assert [r.target for r in requests[1:]] == ([b"/behind"] if behind and not old else [])
    arrived(requests[0], case, verdict)
    if old:
        assert await wire.ended() == b""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_whole(case: Case) -> None:
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(case.raw)
        await answered(wire, rig, case, behind=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_byte_by_byte(case: Case) -> None:
    async with sidecar() as rig:
        wire = await rig.client()
        await wire.pieces(case.raw, 1 if len(case.raw) < 2_000 else len(case.raw) // 400)
        await answered(wire, rig, case, behind=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_with_a_request_behind(case: Case) -> None:
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(case.raw + BEHIND)
        await answered(wire, rig, case, behind=True)


SPLIT = (
    b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-T: t\r\n\r\n"
)


async def test_one_split_at_every_position() -> None:
    """A valid chunked request in two pieces, cut at each byte in turn, is always the same request."""
    async with sidecar() as rig:
        for cut in range(1, len(SPLIT)):
            wire = await rig.client()
            wire.send(SPLIT[:cut])
            await turn()
            wire.send(SPLIT[cut:] + BEHIND)
            assert (await wire.response()).body == b"hello", cut
            await wire.response()
            wire.close()
        seen = [(r.target, r.body) for r in rig.upstream.requests]
        assert sorted(seen) == [(b"/behind", b"")] * (len(SPLIT) - 1) + [(b"/p", b"hello")] * (len(SPLIT) - 1)


async def test_a_refusal_answers_what_came_before_it_first() -> None:
    """Good requests in front of a malformed one get their answers, in order, then comes the 400."""
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(BEHIND + BEHIND + b"GET /bad HTTP/1.1\r\nHost : x\r\n\r\n" + BEHIND)
        statuses = [(await wire.response()).status for _ in range(3)]
        assert statuses == [200, 200, 400]
        assert await wire.ended() == b""
        assert [r.target for r in rig.upstream.requests] == [b"/behind", b"/behind"]


async def test_an_empty_line_between_requests_is_ignored() -> None:
    """Old clients send CRLF after a body (RFC 9112 2.2)."""
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\r\n" + BEHIND)
        assert (await wire.response()).body == b"hello"
        assert (await wire.response()).status == 200
        assert [r.target for r in rig.upstream.requests] == [b"/p", b"/behind"]
