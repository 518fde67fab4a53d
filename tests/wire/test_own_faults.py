"""A fault of our own while a call is under way: the client hears of it, and nothing stays taken."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import strict
from harness import GoneError, Wire, echo, reply, turn, until
from rig import Rig, sidecar

from proxy.clock import monotonic
from proxy.core.breaker import Breaker, BreakerSettings
from proxy.dataplane import rewrite
from proxy.dataplane.forward import Forward
from proxy.dataplane.pool import Pool
from proxy.dataplane.request_head import RequestReader
from proxy.dataplane.response_head import ResponseReader
from proxy.dataplane.upstream import UpstreamConnection

GET = b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel"

UPSTREAM = {"max_inflight": 1, "breaker": BreakerSettings(consecutive_failures=1)}

# Where it happens, on the way of a request in its order.
ON_THE_WAY: list[tuple[Any, str]] = [
    (rewrite, "request"),
    (Breaker, "admit"),
    (Pool, "acquire"),
    (Pool, "_serve"),
    (Pool, "_open"),
    (Breaker, "sent"),
    (UpstreamConnection, "take"),
    (ResponseReader, "read"),
    (Forward, "on_response"),
    (Forward, "succeeded"),
]


def faulty_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Callable[[], bool]:
    """The next call of `owner.name` raises, all later ones work; tells whether it was called."""
    works = getattr(owner, name)
    raised: list[bool] = []

    def faulty(*arguments: Any, **named: Any) -> Any:
        if not raised:
            raised.append(True)
            raise RuntimeError("a fault of ours")
        return works(*arguments, **named)

    monkeypatch.setattr(owner, name, faulty)
    return lambda: bool(raised)


async def at_rest(rig: Rig) -> None:
    """No slot, no permit, no address is held any more; the fault was logged, and nothing worse."""
    pool = rig.plane._pools["up"]
    await until(lambda: pool.cell.inflight == 0, "the slot back")
    assert pool.addresses.pick(monotonic()).inflight == 0
    assert not pool.breaker._waiting
    assert not pool.breaker._settled
    assert rig.complaints
    assert all("a fault of ours" in complaint for complaint in rig.complaints)
    rig.complaints.clear()
    assert pool.breaker.snapshot(monotonic()).failures == 0


WAYS = [
    *(pytest.param(owner, name, False, id=f"{name}-new") for owner, name in ON_THE_WAY),
    # who goes on a kept-alive connection neither connects nor waits
    *(
        pytest.param(owner, name, True, id=f"{name}-kept-alive")
        for owner, name in ON_THE_WAY
        if name not in ("_open", "sent")
    ),
]


def is_ours(answer: strict.Response) -> bool:
    return (answer.status, orjson.loads(answer.body)["code"]) == (500, "internal_error")


@pytest.mark.parametrize(("owner", "name", "reused"), WAYS)
async def test_a_fault_is_a_problem_answer_and_gives_everything_back(
    owner: Any, name: str, *, reused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sidecar(echo, upstream=UPSTREAM) as rig:
        if reused:  # by another answer, since a head that comes again is not read
            assert (await rig.ask(HALF + b"lo", b"POST")).status == 200
        happened = faulty_once(monkeypatch, owner, name)
        assert is_ours(await rig.ask(GET))
        assert happened()
        await at_rest(rig)
        assert (await rig.ask(GET)).status == 200


async def test_a_fault_inside_an_answer_cuts_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an answer must not look whole."""

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            await turn()
            wire.send(b"world")

    async with sidecar(script, upstream=UPSTREAM) as rig:
        faulty_once(monkeypatch, Forward, "on_body")
        with pytest.raises(GoneError):
            await rig.ask(GET)
        await at_rest(rig)
        assert (await rig.ask(GET)).body == b"helloworld"


async def test_a_fault_inside_an_upload_gives_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sidecar(echo, upstream=UPSTREAM) as rig:
        faulty_once(monkeypatch, Forward, "on_request_body")
        wire = await rig.client()
        wire.send(HALF)
        await until(lambda: rig.upstream.data, "the first half")
        wire.send(b"lo")
        assert is_ours(await wire.response())
        await at_rest(rig)
        assert (await rig.ask(GET)).status == 200


async def test_a_fault_while_a_head_is_read_is_a_problem_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sidecar(echo, upstream=UPSTREAM) as rig:
        faulty_once(monkeypatch, RequestReader, "read")
        assert is_ours(await rig.ask(GET))
        await at_rest(rig)
        assert (await rig.ask(GET)).status == 200


@pytest.mark.parametrize(("owner", "name"), [(Breaker, "sent"), (UpstreamConnection, "take")])
async def test_a_fault_of_one_call_is_not_told_to_another(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of one call gives its slot to the next in the queue, whose fault is not its own."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            asked.set()
            await go.wait()
            wire.send(reply(b"mine"))

    async with sidecar(script, upstream=UPSTREAM) as rig:
        first, second = await rig.client(), await rig.client()
        first.send(GET)
        await asked.wait()
        second.send(GET)
        await until(lambda: rig.counters.upstream("up").queued == 1, "the queue")
        faulty_once(monkeypatch, owner, name)
        go.set()
        assert (await first.response()).body == b"mine"
        assert is_ours(await second.response())
        await at_rest(rig)
        assert (await rig.ask(GET)).body == b"mine"
