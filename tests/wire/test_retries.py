"""The idle race, and what is sent again: only what was not sent, or is idempotent, and once."""

import asyncio

import pytest
from harness import Scripted, Wire, reply, turn, until
from rig import policy, sidecar

GET = b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"


def post(number: int, more: bytes = b"") -> bytes:
    return b"POST /%d HTTP/1.1\r\nHost: x\r\n%sContent-Length: 5\r\n\r\nhello" % (number, more)


async def once_then_leave(wire: Wire) -> None:
    """Answers one request; takes a second and closes without a word."""
    await wire.request()
    wire.send(reply())
    await wire.request()
    wire.close()


async def step(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def race(wire: Wire, upstream: Scripted, request: bytes, offset: int) -> int:
    """Send `request` while every idle upstream connection closes, `offset` turns of the loop apart."""

    def leave() -> None:
        for idle in upstream.wires:
            idle.close()

    if offset < 0:
        leave()
        await step(-offset)
        wire.send(request)
    else:
        wire.send(request)
        await step(offset)
        leave()
    return (await wire.response()).status


async def test_gets_never_fail_in_the_idle_race() -> None:
    """Whenever the upstream closes its idle connection, a GET gets its answer."""
    async with sidecar() as rig:
        wire = await rig.client()
        for number in range(300):
            wire.send(GET)
            assert (await wire.response()).status == 200
            # further than 1 turn after it, the upstream has read the request: no idle race any more
            assert await race(wire, rig.upstream, GET, number % 9 - 7) == 200, number


async def test_posts_are_never_sent_twice_in_the_idle_race() -> None:
    """Answered once, or a clean 502: the upstream never reads a POST a second time."""
    async with sidecar() as rig:
        wire = await rig.client()
        outcomes = []
        for number in range(100):
            wire.send(GET)
            assert (await wire.response()).status == 200
            outcomes.append(await race(wire, rig.upstream, post(number), number % 13 - 7))
        assert set(outcomes) <= {200, 502}
        assert 200 in outcomes
        seen = [r.target for r in rig.upstream.requests if r.method == b"POST"]
        assert len(seen) == len(set(seen))
        for number, status in enumerate(outcomes):
            assert status == 502 or b"/%d" % number in seen


async def test_many_stale_connections_do_not_use_up_the_retry() -> None:
    """Twenty idle connections die at once: the one retry goes to a fresh one."""
    gate = asyncio.Event()

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            await gate.wait()
            wire.send(reply())

    async with sidecar(script) as rig:
        clients = [await rig.client() for _ in range(20)]
        for wire in clients:
            wire.send(GET)
        await rig.upstream.until_requests(20)
        gate.set()
        for wire in clients:
            await wire.response()
        assert len(rig.upstream.wires) == 20
        assert await race(clients[0], rig.upstream, GET, 0) == 200


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"])
async def test_idempotent_requests_are_sent_again_once(method: bytes) -> None:
    async with sidecar(once_then_leave) as rig:
        await rig.ask(GET)
        answer = await rig.ask(method + b" /p HTTP/1.1\r\nHost: x\r\n\r\n", method)
        assert answer.status == 200
        assert len(rig.upstream.wires) == 2


@pytest.mark.parametrize("more", [b"", b"Idempotency-Key: k1\r\n"])
async def test_a_lost_write_is_never_repeated(more: bytes) -> None:
    """Without the route's word that keys are honoured, a key changes nothing."""
    async with sidecar(once_then_leave) as rig:
        await rig.ask(GET)
        answer = await rig.ask(post(1, more))
        assert answer.status == 502
        assert len([r for r in rig.upstream.requests if r.method == b"POST"]) == 1


async def test_a_keyed_write_may_be_sent_again() -> None:
    """Where the route says so, and with the same key and body."""
    async with sidecar(once_then_leave, route={"idempotency_key": True}) as rig:
        await rig.ask(GET)
        answer = await rig.ask(post(1, b"Idempotency-Key: k1\r\n"))
        writes = [r for r in rig.upstream.requests if r.method == b"POST"]
        assert {(r.get("idempotency-key"), r.body) for r in writes} == {(b"k1", b"hello")}
        assert len(writes) == (2 if answer.status == 200 else 1)
        await rig.ask(GET)
        assert (await rig.ask(post(2))).status == 502, "no key, no retry"


async def test_a_retry_is_not_retried() -> None:
    """A request that kills every connection kills two, however many are idle."""
    poison = 0
    gate = asyncio.Event()

    async def script(wire: Wire) -> None:
        nonlocal poison
        while True:
            request = await wire.request()
            if request.target == b"/poison":
                poison += 1
                wire.close()
                return
            await gate.wait()
            wire.send(reply())

    async with sidecar(script) as rig:
        clients = [await rig.client() for _ in range(5)]
        for wire in clients:
            wire.send(GET)
        await rig.upstream.until_requests(5)
        gate.set()
        for wire in clients:
            await wire.response()
        answer = await rig.ask(b"GET /poison HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.status == 502
        assert poison == 2


async def test_nothing_is_sent_again_after_a_byte_of_an_answer() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(reply())
        await wire.request()
        wire.send(b"HTTP/1.1 2")
        await turn()
        wire.close()

    async with sidecar(script) as rig:
        await rig.ask(GET)
        assert (await rig.ask(GET)).status == 502
        assert len(rig.upstream.wires) == 1


async def test_retries_stay_within_their_budget() -> None:
    """20 % of the requests and no floor: while nobody is there, that is how much more is tried."""
    dead = [Scripted(), Scripted()]
    for upstream in dead:
        await upstream.start()
        await upstream.stop()
    urls = [upstream.url for upstream in dead]
    async with sidecar(url=urls, upstream={"retry_budget": 0.2, "retry_floor_per_s": 0.0}) as rig:
        statuses = [(await rig.ask(GET)).status for _ in range(200)]
        assert set(statuses) == {502}
        assert 0 < rig.counters.upstream("up").retries <= 0.2 * 200


# several addresses


async def test_a_dead_address_fails_nobody() -> None:
    """Nothing was sent to where nobody listens: the other address gets it, writes too."""
    dead = Scripted()
    await dead.start()
    await dead.stop()
    async with sidecar() as rig:
        rig.plane.apply(policy([dead.url, rig.upstream.url], upstream={"eject_after": 3}))
        for number in range(60):
            assert (await rig.ask(post(number))).status == 200
            assert (await rig.ask(GET)).status == 200


async def test_a_failing_address_is_ejected_and_comes_back() -> None:
    """After three failures in a row it is left alone for a while, then tried again."""
    asked = 0
    broken = True

    async def script(wire: Wire) -> None:
        nonlocal asked
        asked += 1
        if broken:
            wire.reset()
            return
        while True:
            await wire.request()
            wire.send(reply(b"second"))

    second = Scripted(script)
    await second.start()
    async with sidecar() as rig:
        ejecting = {"eject_after": 3, "eject_s": 0.3, "max_connection_age_s": 0.001}
        rig.plane.apply(policy([second.url, rig.upstream.url], upstream=ejecting))
        statuses = [(await rig.ask(GET)).status for _ in range(60)]
        assert asked <= 8
        assert statuses.count(200) >= 60 - asked
        broken = False

        async def served_by_second() -> None:
            while (await rig.ask(GET)).body != b"second":
                await turn()

        async with asyncio.timeout(5):
            await served_by_second()
    await second.stop()


async def test_addresses_share_the_load() -> None:
    second = Scripted()
    await second.start()
    async with sidecar() as rig:
        rig.plane.apply(policy([second.url, rig.upstream.url]))
        wires = [await rig.client() for _ in range(40)]
        for wire in wires:
            wire.send(GET)
        for wire in wires:
            assert (await wire.response()).status == 200
        await until(lambda: second.requests and rig.upstream.requests, "requests at both")
    await second.stop()
