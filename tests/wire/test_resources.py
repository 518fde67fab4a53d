"""What Fusebox holds on to: nothing of connections that are gone, little of those that are stuck."""

import asyncio
import gc
import hashlib
import os
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import GoneError, Wire, reply, turn, until
from rig import Rig, sidecar

from proxy.core.policy import Deadlines, Limits

CROWD = Path(__file__).with_name("crowd.py")
GET = b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"
MIB = 1024 * 1024
RESETS = int(os.environ.get("FUSEBOX_RESETS", "12000"))
"""What stays of one in two thousand is found; `FUSEBOX_RESETS=50000` finds one in ten thousand."""


class Crowd:
    """A `crowd.py` of its own process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    def nudge(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")


@asynccontextmanager
async def crowd(*arguments: object) -> AsyncIterator[Crowd]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CROWD), *map(str, arguments), stdin=pipe, stdout=pipe
    )
    try:
        yield Crowd(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def resident() -> int:
    """Bytes of memory of this process that are in use."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def holdings() -> Counter[str]:
    """Open files, tasks, and living objects by type, of the data plane, the loop and in all."""
    gc.collect()
    everything = gc.get_objects()
    found = Counter(
        f"{type(thing).__module__}.{type(thing).__qualname__}"
        for thing in everything
        if str(type(thing).__module__).startswith(("proxy.", "uvloop", "asyncio"))
    )
    found["all objects"] = len(everything) // 1_000
    found["open files"] = len(list(Path("/proc/self/fd").iterdir()))
    found["tasks"] = len(asyncio.all_tasks())
    return found


async def at_rest(rig: Rig) -> None:
    cell = rig.counters.upstream("up")
    await until(
        lambda: rig.counters.connections == 0 and cell.inflight == 0 and cell.queued == 0,
        f"{rig.counters.connections} connections, {cell.inflight} in flight",
        30,
    )


async def test_resets_leave_nothing() -> None:
    """In every phase: no task, timer, socket or object stays (wire/README, resets)."""
    deadlines = Deadlines(linger_s=0.2)
    async with crowd("serve") as upstream:
        url = f"http://127.0.0.1:{await upstream.says()}"
        async with sidecar(url=url, upstream={"idle_s": 0.3}, deadlines=deadlines) as rig:

            async def resets(count: int) -> Counter[str]:
                async with crowd("reset", rig.port, count) as clients:
                    assert await clients.says() == "done"
                await at_rest(rig)
                before: Counter[str] = Counter()
                # idle upstream connections go by their deadline
                while before != (before := holdings()):
                    await until_later(0.4)
                return before

            first = await resets(2_000)
            then = await resets(RESETS - 2_000)
            assert rig.counters.accepted >= RESETS
            grown = {name: then[name] - first[name] for name in then if then[name] > first[name] + 3}
            assert not grown, grown


async def until_later(seconds: float) -> None:
    """Wait for something of which only its deadline is known."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(seconds, done.set_result, None)
    await done


async def test_ten_thousand_connections() -> None:
    """All are answered, twice, through an upstream that takes 256 at a time."""
    count = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 1_000:
        pytest.skip(f"the hard limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # On a busy machine three processes share a core with others: no deadline of ours is the subject here.
    patience = dict.fromkeys(("queue_timeout_ms", "timeout_ms", "connect_timeout_ms"), 60_000)
    limits: dict[str, Any] = {"max_inflight": 256, "max_queue": count} | patience
    try:
        async with crowd("serve") as upstream:
            url = f"http://127.0.0.1:{await upstream.says()}"
            async with sidecar(url=url, upstream=limits, route={"total_ms": 0}) as rig:
                before = resident()
                async with crowd("ask", rig.port, count) as clients:
                    assert await clients.says() == str(count)
                    assert await clients.says() == str(count)
                    assert rig.counters.connections == count
                    assert (resident() - before) / count < 24 * 1024
                await at_rest(rig)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_two_hundred_stalled_readers_cost_little() -> None:
    """200 times 50 MB wait at their source: at most 128 KiB each are held here."""
    count = 200
    async with crowd("serve") as upstream:
        url = f"http://127.0.0.1:{await upstream.says()}"
        async with sidecar(url=url) as rig:
            async with crowd("stall", rig.port, 1):  # whatever a first use allocates
                await until(lambda: rig.counters.connections, "the first")
            before = resident()
            async with crowd("stall", rig.port, count) as clients:
                assert await clients.says() == "ready"
                sent = -1
                while sent != (sent := await total(upstream)):
                    await until_later(0.3)
                assert count * 64 * 1024 < sent < count * 25 * MIB
                grown = resident() - before
                assert grown <= count * 128 * 1024, f"{grown / count / 1024:.0f} KiB each"


async def total(upstream: Crowd) -> int:
    upstream.nudge()
    return int(await upstream.says())


async def settled(count: Any) -> int:
    """The value of `count()` once the loop has had nothing to move for a while."""
    seen = -1
    while seen != (seen := count()):
        for _ in range(300):
            await turn()
    return int(seen)


async def test_a_slow_reader_holds_back_the_upstream_and_loses_nothing() -> None:
    size = 32 * MIB
    body = os.urandom(MIB) * 32
    poured = 0

    async def script(wire: Wire) -> None:
        nonlocal poured
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for start in range(0, size, 65_536):
            await wire.pour(body[start : start + 65_536])
            poured += 65_536

    async with sidecar(script) as rig:
        wire = await rig.client()
        wire.send(GET)
        await wire.response_head()
        wire.transport.pause_reading()
        assert await settled(lambda: poured) < size // 2
        wire.transport.resume_reading()
        await wire.until(lambda: len(wire.data) - wire.at == size, "the whole body")
        got = hashlib.sha256(memoryview(wire.data)[wire.at :]).digest()
        assert got == hashlib.sha256(body).digest()


async def test_a_slow_upstream_holds_back_the_client_and_loses_nothing() -> None:
    size = 32 * MIB
    body = os.urandom(MIB) * 32
    poured = 0

    async def script(wire: Wire) -> None:
        head = await wire.request_head()
        assert head.get("content-length") == b"%d" % size
        wire.transport.pause_reading()
        assert await settled(lambda: poured) < size // 2
        wire.transport.resume_reading()
        request_ends = wire.at + size
        await wire.until(lambda: len(wire.data) >= request_ends, "the whole body")
        wire.send(reply(hashlib.sha256(memoryview(wire.data)[wire.at :]).hexdigest().encode()))

    async with sidecar(script, route={"max_body_bytes": size}) as rig:
        wire = await rig.client()
        wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        for start in range(0, size, 65_536):
            await wire.pour(body[start : start + 65_536])
            poured += 65_536
        assert (await wire.response()).body == hashlib.sha256(body).hexdigest().encode()


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_tiny_chunks_take_no_more_memory(direction: str) -> None:
    """Megabytes of one-byte chunks towards somebody who does not read: below 20 times what is buffered."""
    chunks = b"1\r\nx\r\n" * 10_000
    stuck = asyncio.Event()
    poured = 0

    async def flood(wire: Wire) -> None:
        nonlocal poured
        while not stuck.is_set() and not wire.lost:
            await wire.pour(chunks)
            poured += len(chunks)

    async def script(wire: Wire) -> None:
        await wire.request_head()
        if direction == "up":
            wire.transport.pause_reading()
            await stuck.wait()
            return
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await flood(wire)

    async with sidecar(script, route={"max_body_bytes": 1_000 * MIB}) as rig:
        before = resident()
        wire = await rig.client()
        wire.transport.pause_reading()
        async with asyncio.TaskGroup() as group:
            if direction == "up":
                wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
                group.create_task(flood(wire))
            else:
                wire.send(GET)
            await settled(lambda: poured)
            grown = resident() - before
            stuck.set()
            wire.reset()
        assert poured > 0
        assert grown < 16 * MIB, f"{grown / MIB:.1f} MiB"


async def test_a_stalled_reader_is_not_waited_for_forever() -> None:
    """`body_gap_s` holds in both directions: who does not read is let go, neutrally."""

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not wire.lost:
            await wire.pour(bytes(65_536))

    async with sidecar(script, deadlines=Deadlines(body_gap_s=0.3, linger_s=0.1)) as rig:
        wire = await rig.client()
        wire.send(GET)
        await wire.response_head()
        wire.transport.pause_reading()
        await rig.upstream.wires[0].ended()
        await at_rest(rig)
        outcomes = rig.counters.upstream("up").outcomes
        assert outcomes["reset"] == outcomes["timeout"] == 0


async def test_more_connections_than_allowed_are_turned_away() -> None:
    async with sidecar(limits=Limits(connections=3)) as rig:
        kept = [await rig.client() for _ in range(3)]
        for wire in kept:
            wire.send(GET)
            assert (await wire.response()).status == 200
        extra = await rig.client()
        extra.send(GET)
        try:
            assert (await extra.response()).status == 503
        except GoneError:
            assert extra.eof
        kept[0].close()
        await until(lambda: rig.counters.connections < 3, "a place")
        assert (await rig.ask(GET)).status == 200
