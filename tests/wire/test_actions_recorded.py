"""Every action has exactly one entry, written before the first byte of its answer, however it ends."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from harness import GoneError, Script, Wire, answering, echo, reply, turn, until
from recorded import Watched, recording
from test_upstream_failures import closed_port

from proxy.core.audit import Entry, Outcome
from proxy.core.breaker import BreakerSettings
from proxy.core.policy import Toggles
from proxy.dataplane.forward import Forward

GET = b"GET /p HTTP/1.1\r\nHost: x\r\nX-User-Id: u-1\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nX-User-Id: u-1\r\nContent-Length: 5\r\n\r\nhello"
STREAMED = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def never(wire: Wire) -> None:
    await wire.request()
    await wire.ended()


@dataclass(kw_only=True)
class Case:
    script: Script = echo
    raw: bytes = GET
    settings: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    outcome: Outcome = Outcome.DONE
    reason: str = ""
    interim: bool = False


REFUSED, FAILED, UNKNOWN = Outcome.REFUSED, Outcome.FAILED, Outcome.UNKNOWN
CASES = {
    "forwarded": Case(),
    "with a body": Case(raw=POST),
    "redirected": Case(script=answering(reply(b"", status=b"302 Found")), status=302),
    "not found": Case(
        script=answering(reply(b"no", status=b"404 Not Found")), status=404, outcome=REFUSED
    ),
    "broken there": Case(
        script=answering(reply(b"no", status=b"503 Service Unavailable")), status=503, outcome=FAILED
    ),
    "no content": Case(script=answering(b"HTTP/1.1 204 No Content\r\n\r\n"), status=204),
    "chunked answer": Case(
        script=answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    ),
    "answer until close": Case(script=answering(b"HTTP/1.1 200 OK\r\n\r\nok", then=Wire.close)),
    "HEAD": Case(raw=GET.replace(b"GET", b"HEAD")),
    "HTTP/1.0": Case(raw=GET.replace(b"1.1", b"1.0")),
    "interim answers": Case(
        script=answering(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + reply()),
        interim=True,
    ),
    "switched": Case(
        script=answering(SWITCH),
        raw=b"GET /p HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        settings={"route": {"upgrade": ("websocket",)}},
        status=101,
    ),
    "a body too slow": Case(
        script=never,
        raw=STREAMED,
        settings={"route": {"total_ms": 300}},
        status=408,
        outcome=UNKNOWN,
        reason="request_timeout",
    ),
    "reset": Case(
        script=answering(b"", then=Wire.reset), raw=POST, status=502, outcome=UNKNOWN,
        reason="upstream_unreachable",
    ),
    "closed in the head": Case(
        script=answering(b"HTTP/1.1 200 OK\r\nConte", then=Wire.close), status=502, outcome=UNKNOWN,
        reason="upstream_invalid",
    ),
    "no HTTP": Case(
        script=answering(b"SSH-2.0-x\r\n"), status=502, outcome=UNKNOWN, reason="upstream_invalid"
    ),
    "timeout": Case(
        script=never, settings={"upstream": {"timeout_ms": 60}}, status=504, outcome=UNKNOWN,
        reason="upstream_timeout",
    ),
    "nobody listens": Case(
        settings={"url": f"http://127.0.0.1:{closed_port()}"}, status=502, outcome=FAILED,
        reason="upstream_unreachable",
    ),
    "method not allowed": Case(
        settings={"route": {"methods": ("POST",)}}, status=405, outcome=REFUSED, reason="bad_request"
    ),
    "flag off": Case(
        settings={"route": {"flag": "f"}, "toggles": Toggles(flags={"f": False})}, status=503,
        outcome=REFUSED, reason="flag_off",
    ),
    "body too large": Case(
        raw=POST, settings={"route": {"max_body_bytes": 4}}, status=413, outcome=REFUSED,
        reason="body_too_large",
    ),
    "a streamed body too large": Case(
        script=never, raw=STREAMED + b"5\r\nhello\r\n", settings={"route": {"max_body_bytes": 9}},
        status=413, outcome=REFUSED, reason="body_too_large",
    ),
}  # fmt: skip


def one(spool: Watched) -> Entry:
    (found,) = spool.entries
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_whatever_path_the_answer_takes(tmp_path: Path, case: Case) -> None:
    async with recording(tmp_path, case.script, **case.settings) as (rig, spool):
        wire = await rig.client()
        wire.send(case.raw)
        answer = await wire.response_head(case.raw.split(b" ")[0])
        assert answer.status == case.status
        found = one(spool)
        assert (found.outcome, found.status, found.reason) == (case.outcome, case.status, case.reason)
        assert found.action == "user.any"
        assert found.request_id.encode() == answer.get("x-request-id")
        if case.interim:
            assert b" 200 " not in spool.seen[0]
        else:
            assert spool.seen == [b""], "nothing may be on its way before"
        assert rig.counters.actions == {("user.any", case.outcome.value): 1}


async def test_an_early_answer(tmp_path: Path) -> None:
    """The upstream answers before the body is there; what follows of it changes nothing."""

    async def early(wire: Wire) -> None:
        await wire.request_head()
        wire.send(reply(b"no", status=b"413 Content Too Large"))
        await wire.ended()

    async with recording(tmp_path, early) as (rig, spool):
        wire = await rig.client()
        wire.send(STREAMED)
        assert (await wire.response()).status == 413
        wire.send(b"0\r\n\r\n")
        await wire.ended()
        assert (one(spool).outcome, one(spool).status) == (REFUSED, 413)
        assert spool.seen == [b""]


@pytest.mark.parametrize(
    ("settings", "more", "status", "code"),
    [
        ({"route": {"max_body_bytes": 9}}, b"5\r\nhello\r\n", 413, "body_too_large"),
        ({}, b"zz\r\n", 400, "bad_request"),
        ({}, b"", 400, "bad_request"),  # and the connection ends
    ],
)
async def test_a_request_that_is_refused_when_part_of_it_was_sent(
    tmp_path: Path, settings: dict[str, Any], more: bytes, status: int, code: str
) -> None:
    """Nobody knows what the upstream made of it."""
    async with recording(tmp_path, **settings) as (rig, spool):
        wire = await rig.client()
        wire.send(STREAMED)
        await until(lambda: b"hello" in rig.upstream.data, "the first piece upstream")
        if more:
            wire.send(more)
        else:
            wire.half_close()
        assert (await wire.response()).status == status
        assert (one(spool).outcome, one(spool).status, one(spool).reason) == (UNKNOWN, status, code)
        assert spool.seen == [b""]


@pytest.mark.parametrize("raw", [GET, POST, STREAMED])
async def test_a_client_that_leaves_while_the_upstream_is_at_work(tmp_path: Path, raw: bytes) -> None:
    async with recording(tmp_path, never) as (rig, spool):
        wire = await rig.client()
        wire.send(raw)
        await until(lambda: rig.upstream.data.count(b"\r\n\r\n"), "the request upstream")
        wire.reset()
        await until(lambda: spool.entries, "an entry")
        assert (one(spool).outcome, one(spool).status, one(spool).reason) == (UNKNOWN, 499, "aborted")


async def test_a_client_that_leaves_in_the_queue_has_done_nothing(tmp_path: Path) -> None:
    settings = {"max_inflight": 1, "queue_timeout_ms": 5_000, "timeout_ms": 5_000}
    async with recording(tmp_path, never, upstream=settings) as (rig, spool):
        first = await rig.client()
        first.send(GET)
        await rig.upstream.until_requests(1)
        second = await rig.client()
        second.send(GET)
        await until(lambda: rig.counters.upstream("up").queued == 1, "one in the queue")
        second.reset()
        await until(lambda: spool.entries, "an entry")
        assert (one(spool).outcome, one(spool).reason) == (FAILED, "aborted")
        first.reset()
        await until(lambda: len(spool.entries) == 2, "the other entry")


async def test_what_is_shed(tmp_path: Path) -> None:
    async with recording(tmp_path, never, upstream={"max_inflight": 1, "max_queue": 0}) as (rig, spool):
        first = await rig.client()
        first.send(GET)
        await rig.upstream.until_requests(1)
        assert (await rig.ask(GET)).status == 503
        assert (one(spool).outcome, one(spool).status, one(spool).reason) == (REFUSED, 503, "overloaded")
        first.reset()
        await until(lambda: len(spool.entries) == 2, "the other entry")


async def test_an_open_breaker(tmp_path: Path) -> None:
    breaker = BreakerSettings(consecutive_failures=1, cooldown_s=100)
    down = {"breaker": breaker}
    async with recording(tmp_path, url=f"http://127.0.0.1:{closed_port()}", upstream=down) as (rig, spool):
        assert (await rig.ask(POST)).status == 502
        assert (await rig.ask(POST)).status == 503
        found = spool.entries
        assert [it.outcome for it in found] == [FAILED, REFUSED]
        assert found[1].reason == "breaker_open"


async def test_a_request_repeated_for_a_stale_connection_is_one_action(tmp_path: Path) -> None:
    async def once(wire: Wire) -> None:
        await wire.request()
        wire.send(reply(b"1"))
        await wire.request()
        wire.reset()

    async with recording(tmp_path, once, echo) as (rig, spool):
        assert (await rig.ask(GET)).status == 200
        assert (await rig.ask(GET)).status == 200
        assert len(rig.upstream.requests) == 3
        assert [it.outcome for it in spool.entries] == [Outcome.DONE] * 2


async def test_a_cut_answer_was_an_answer(tmp_path: Path) -> None:
    cut = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", then=Wire.close)
    async with recording(tmp_path, cut) as (rig, spool):
        wire = await rig.client()
        wire.send(GET)
        with pytest.raises(GoneError):
            await wire.response()
        assert (one(spool).outcome, one(spool).status) == (Outcome.DONE, 200)


async def test_pipelined_requests_one_by_one(tmp_path: Path) -> None:
    def raw(n: int) -> bytes:
        return GET.replace(b"/p", b"/p%d" % n).replace(b"Host", b"X-Request-Id: r-%d\r\nHost" % n)

    async with recording(tmp_path) as (rig, spool):
        wire = await rig.client()
        wire.send(b"".join(map(raw, range(5))))
        for n in range(5):
            assert (await wire.response()).get("x-request-id") == b"r-%d" % n
        wire.send(raw(5))
        await wire.response()
        assert [it.request_id for it in spool.entries] == [f"r-{n}" for n in range(6)]


@pytest.mark.parametrize("sent", [False, True])
async def test_a_fault_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bool) -> None:  # noqa: FBT001
    real = Forward.begin

    def begin(self: Forward, now: float, bucket: int) -> None:
        if sent:
            real(self, now, bucket)
        raise RuntimeError("on purpose")

    async with recording(tmp_path, never) as (rig, spool):
        if sent:  # a connection is there, so that the request goes out at once
            rig.upstream.scripts[:] = [echo]
            await rig.ask(GET)
        monkeypatch.setattr(Forward, "begin", begin)
        assert (await rig.ask(GET)).status == 500
        found = spool.entries[-1]
        assert (found.outcome, found.reason) == (UNKNOWN if sent else FAILED, "internal_error")
        assert "on purpose" in rig.complaints.pop()


async def test_under_way_when_draining_and_when_aborted(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def late(wire: Wire) -> None:
        await wire.request()
        await go.wait()
        wire.send(reply())

    async with recording(tmp_path, late, never) as (rig, spool):
        first, second = await rig.client(), await rig.client()
        first.send(GET)
        await rig.upstream.until_requests(1)
        second.send(POST)
        await rig.upstream.until_requests(2)
        draining = asyncio.get_running_loop().create_task(rig.plane.drain())
        await turn()
        go.set()
        assert (await first.response()).status == 200
        assert one(spool).outcome is Outcome.DONE
        rig.plane.close()
        assert [it.outcome for it in spool.entries] == [Outcome.DONE, UNKNOWN], "before the spool is closed"
        await draining
        await second.ended()
        await turn()
        assert len(spool.entries) == 2, "and not once more when its connection ends"
