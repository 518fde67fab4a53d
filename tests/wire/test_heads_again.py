"""Heads on a connection whose clients repeat their names: patterns read them, and what is odd stays odd."""

from functools import partial
from itertools import count

import body_cases
import head_cases
import pytest
import response_cases
from cases import Case, Either, Refuse, answer_sibling, get, post, sibling
from harness import Wire, reply, turn
from rig import Rig, policy, sidecar
from test_response_framing import run
from verdicts import bytes_of, judge
from verdicts import cases as probes

from proxy.core.policy import Identity, Limits
from proxy.dataplane import plane
from proxy.dataplane.patterns import Pattern
from proxy.dataplane.request_head import RequestHead, RequestReader
from proxy.dataplane.response_head import Malformed, ResponseHead, ResponseReader
from proxy.errors import Refusal

GET = get(b"Accept: a")


class Watched(RequestReader):
    """Tells what patterns did."""

    fitted: list[bool]

    def again(self, data: bytes, pattern: Pattern) -> tuple[RequestHead, bytes] | None:
        found = super().again(data, pattern)
        self.fitted.append(found is not None)
        return found


class WatchedAnswers(ResponseReader):
    fitted: list[bool]

    def again(self, head: bytes, pattern: Pattern) -> ResponseHead | None:
        found = super().again(head, pattern)
        self.fitted.append(found is not None)
        return found


@pytest.fixture(autouse=True)
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Each order has a pattern from its first head on. Gives which of them fitted, in order."""
    Watched.fitted = []
    WatchedAnswers.fitted = []
    clock = partial(next, count(1.0, 10.0))
    monkeypatch.setattr(plane, "RequestReader", partial(Watched, often=1, clock=clock))
    monkeypatch.setattr(plane, "ResponseReader", partial(WatchedAnswers, often=1, clock=clock))
    return Watched.fitted


async def told(rig: Rig, case: Case) -> None:
    """The verdict of a case that comes on a connection behind its sibling."""
    wire = await rig.client()
    before = sibling(case.raw)
    wire.send(before)
    first = await wire.response()
    if first.status != 200:
        wire = await rig.client()
        wire.send(get())
        assert (await wire.response()).status == 200
    seen = len(rig.upstream.requests)
    wire.send(case.raw)
    answer = await wire.response()
    verdict = case.verdict
    if isinstance(verdict, Either):
        verdict = verdict.forward if answer.status == 200 else verdict.refuse
    if isinstance(verdict, Refuse):
        assert answer.status in verdict.statuses
        assert await wire.ended() == b""
        await turn()
        assert rig.upstream.requests[seen:] == []
    else:
        assert answer.status == 200
        (request,) = rig.upstream.requests[seen:]
        assert (request.target, request.body) == (verdict.target, verdict.body)


@pytest.mark.parametrize("case", head_cases.CASES + body_cases.CASES, ids=lambda case: case.id)
async def test_a_case_behind_its_sibling(case: Case) -> None:
    async with sidecar() as rig:
        await told(rig, case)


@pytest.mark.parametrize("case", probes(), ids=lambda case: case["id"])
async def test_a_probe_behind_its_sibling(case: dict[str, str]) -> None:
    raw = bytes_of(case)
    good = sibling(raw)
    try:
        RequestReader(Limits(), ()).read(good)
    except Refusal:
        good = get()
    assert (await judge(case, good)).passes(case["expected"])


# An answer without a byte on a connection that served before is asked for again: another matter.
ANSWERS = [case for case in response_cases.CASES if case.raw]


@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: case.id)
async def test_an_answer_behind_its_sibling(case: response_cases.Case) -> None:
    before = answer_sibling(case.raw)
    try:
        kept = ResponseReader().read(before.partition(b"\r\n\r\n")[0] + b"\r\n\r\n").keeps
    except Malformed:
        kept = False
    await run(case, len(case.raw), before if kept and b"\r\nContent-Length" in before else reply(b""))


async def test_answers_with_ids_of_their_own_are_read_by_the_pattern() -> None:
    async def script(wire: Wire) -> None:
        for number in range(4):
            await wire.request()
            wire.send(reply(b"x" * number, b"X-Id: %d" % number, b"Connection: keep-alive"))

    async with sidecar(script) as rig:
        wire = await rig.client()
        for number in range(4):
            wire.send(GET)
            answer = await wire.response()
            assert (answer.body, answer.get("x-id")) == (b"x" * number, b"%d" % number)
        assert WatchedAnswers.fitted == [True, True, True]


async def test_an_answer_whose_head_comes_again_byte_for_byte_is_not_read_again() -> None:
    """Whole, in pieces, behind an interim one; and the next that differs is read for itself."""
    again = reply(b"hello")
    others = reply(b"world"), again, b"HTTP/1.1 103 Early Hints\r\n\r\n" + again, reply(b"hello!"), again

    async def script(wire: Wire) -> None:
        for answer in (again, *others):
            await wire.request()
            wire.send(answer)
        await wire.request()
        await wire.pieces(again)

    async with sidecar(script) as rig:
        wire = await rig.client()
        for body in (b"hello", b"world", b"hello", b"hello", b"hello!", b"hello", b"hello"):
            wire.send(GET)
            assert (await wire.response()).body == body
        assert [interim.status for interim in wire.interims] == [103]
        assert WatchedAnswers.fitted == [False, True, True]  # 103, the longer one, the one behind it


async def test_an_answer_behind_one_with_a_long_head_is_read_for_itself() -> None:
    long = reply(b"long", b"X-A: " + b"a" * 2_000)

    async def script(wire: Wire) -> None:
        for answer in (long, reply(b"short"), long, long):
            await wire.request()
            wire.send(answer)

    async with sidecar(script) as rig:
        wire = await rig.client()
        for body in (b"long", b"short", b"long", b"long"):
            wire.send(GET)
            answer = await wire.response()
            assert (answer.body, answer.get("x-a") is None) == (body, body == b"short")


async def test_the_next_head_and_the_next_client_are_read_by_the_pattern(fitted: list[bool]) -> None:
    async with sidecar() as rig:
        first, second = await rig.client(), await rig.client()
        for wire in (first, first):
            wire.send(GET)
            assert (await wire.response()).status == 200
        assert fitted == [True]
        third = await rig.client()
        for wire in (third, second):
            wire.send(GET)
            assert (await wire.response()).status == 200
        assert fitted == [True, True]  # the second was there before the pattern
        heads = {request.fields for request in map(_ids_apart, rig.upstream.requests)}
        assert len(heads) == 1


def _ids_apart(request):
    request.fields = tuple(pair for pair in request.fields if pair[0] not in ("x-request-id", "traceparent"))
    return request


async def test_bodies_and_pipelined_requests_behind_it(fitted: list[bool]) -> None:
    """In one write and in pieces: what is behind a head that fits goes where it belongs."""
    posted = post(b"Content-Length: 5")
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send((posted + posted) * 10)
        for _ in range(20):
            assert (await wire.response()).body == b"hello"
        assert fitted.count(True) == 19
        await wire.pieces(posted + posted + posted[:-2], 9)
        wire.send(posted[-2:])
        for _ in range(3):
            assert (await wire.response()).body == b"hello"
        assert [request.body for request in rig.upstream.requests] == [b"hello"] * 23


async def test_a_head_in_pieces_is_not_tried_at_each(fitted: list[bool]) -> None:
    async with sidecar() as rig:
        wire = await rig.client()
        for head in (GET, GET):
            await wire.pieces(head)
            assert (await wire.response()).status == 200
        assert fitted == [False]
        wire.send(GET + GET)
        assert [(await wire.response()).status for _ in range(2)] == [200, 200]
        assert fitted == [False, True, True]


async def test_whom_the_own_pattern_does_not_fit_is_not_tried_again_at_once(fitted: list[bool]) -> None:
    async with sidecar() as rig:
        wire = await rig.client()
        for host in (b"x", b"a_b", b"a_b", b"x"):
            wire.send(b"GET /p HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
            assert (await wire.response()).status == 200
        assert fitted == [False, True]


async def test_a_pattern_ends_with_the_limits_and_names_it_was_made_for(fitted: list[bool]) -> None:
    """The connection goes on, and what holds from now on holds for its next head."""
    async with sidecar() as rig:
        wire = await rig.client()
        for _ in range(2):
            wire.send(GET)
            assert (await wire.response()).status == 200
        assert fitted == [True]
        changed = policy(rig.upstream.url, identity=Identity(user=("header:accept",)))
        rig.plane.apply(changed)
        wire.send(get(b"Accept: a") + get(b"accept: b", b"Accept: a"))
        assert [(await wire.response()).status for _ in range(2)] == [200, 200]
        assert fitted == [True, False]
        rig.plane.apply(policy(rig.upstream.url, limits=Limits(head_fields=1)))
        wire.send(GET)
        assert (await wire.response()).status == 431
        assert fitted == [True, False]
