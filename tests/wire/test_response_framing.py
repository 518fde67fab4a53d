"""Every response case, whole and byte by byte, and what the request after it gets."""

import orjson
import pytest
from harness import GoneError, Script, Wire, reply, turn, until
from response_cases import CASES, Broken, Case, Either, Passed
from rig import Rig, sidecar

CLEAN = b"clean"


async def clean(wire: Wire) -> None:
    while True:
        request = await wire.request()
        wire.send(reply(b"" if request.method == b"HEAD" else CLEAN))


def scripted(case: Case, size: int, before: bytes) -> Script:
    async def script(wire: Wire) -> None:
        if before:
            await wire.request()
            wire.send(before)
        await wire.request()
        await wire.pieces(case.raw, size)
        if case.end == "reset":
            await turn()  # what was sent arrives before the reset
            wire.reset()
        elif case.end == "close":
            wire.close()
        else:
            await clean(wire)

    return script


async def broke(wire: Wire, case: Case, expected: Broken) -> None:
    try:
        answer = await wire.response(case.method)
    except GoneError:
        return  # visibly incomplete: the strict parser never saw the end of the body
    assert answer.status == 502, (answer.status, answer.body[:200])
    assert answer.get("content-type") == b"application/problem+json"
    assert orjson.loads(answer.body)["code"] in expected.codes
    assert b"fusebox" in (answer.get("proxy-status") or b"").lower()


async def run(case: Case, size: int, before: bytes = b"") -> None:
    """With `before`, the upstream has answered that on the same connection."""
    async with sidecar(scripted(case, size, before), clean) as rig:
        wire = await rig.client()
        if before:
            wire.send(b"GET /before HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await wire.response()).status == 200
        wire.send(case.method + b" /p HTTP/1.1\r\nHost: x\r\n\r\n")
        verdict = case.verdict
        if isinstance(verdict, Either):
            answer = await wire.response(case.method)
            verdict = Broken() if answer.status == 502 else verdict.passed
        elif isinstance(verdict, Passed):
            answer = await wire.response(case.method)
        if isinstance(verdict, Broken):
            if not isinstance(case.verdict, Either):
                await broke(wire, case, verdict)
        else:
            assert (answer.status, answer.body) == (verdict.status, verdict.body)
            assert not {"set-cookie", "content-length"} & {name for name, _ in answer.trailers}
        assert len(rig.upstream.requests) == 1 + bool(before), "an answer was asked for again"
        if isinstance(verdict, Broken) or not verdict.reused:
            await until(lambda: rig.upstream.wires[0].eof, "the end of the upstream connection")
        await next_is_clean(rig)


async def next_is_clean(rig: Rig) -> None:
    """Whoever asks next gets an answer to what was asked."""
    for method in (b"GET", b"HEAD", b"POST"):
        answer = await rig.ask(method + b" /next HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", method)
        assert answer.status == 200
        assert answer.body == (b"" if method == b"HEAD" else CLEAN)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_whole(case: Case) -> None:
    await run(case, max(1, len(case.raw)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_byte_by_byte(case: Case) -> None:
    await run(case, 1 if len(case.raw) < 2_000 else len(case.raw) // 400)


async def test_a_response_nobody_asked_for_is_never_an_answer() -> None:
    """A response on an idle connection ends that connection (wire/README, bytes after a response)."""

    async def talkative(wire: Wire) -> None:
        await wire.request()
        wire.send(reply(CLEAN))
        await rig.upstream.wires[0].until(lambda: answered, "the first answer")
        wire.send(reply(b"evil"))
        await wire.ended()

    answered: list[bool] = []
    async with sidecar(talkative, clean) as rig:
        assert (await rig.ask(b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n")).body == CLEAN
        answered.append(True)
        rig.upstream.wires[0]._wake()
        await until(lambda: rig.upstream.wires[0].eof, "the end of the upstream connection")
        await next_is_clean(rig)
        assert len(rig.upstream.wires) == 2


async def test_an_answer_sent_before_the_request_poisons_nothing() -> None:
    """An upstream that talks first answers at most one request; its late answer serves nobody."""

    async def early(wire: Wire) -> None:
        wire.send(reply(b"early"))
        await wire.request()
        wire.send(reply(b"evil"))
        await wire.ended()

    async with sidecar(early, clean) as rig:
        first = await rig.ask(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        assert first.status == 502 or first.body == b"early"
        await until(lambda: rig.upstream.wires[0].eof, "the end of the upstream connection")
        await next_is_clean(rig)
