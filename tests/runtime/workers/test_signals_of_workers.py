"""Signals of several workers, as they arrive where they are judged."""

import asyncio
import contextlib

import pytest

from proxy.core.inputs import Recent
from proxy.core.policy import Film, Policy, Route, Sources, Upstream
from proxy.core.rollback.signals import FAILED, LATE, REQUESTS, SLOTS, Calls, Key, added
from proxy.runtime.process import Spooling
from proxy.runtime.workers.supervisor import Supervisor
from proxy.tasks import spawn
from proxy.telemetry.counters import Counters

WORKERS = 2
ASKED = 24
PATIENCE_S = 20


async def answers(reader, writer):
    """A source that fails."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def hangs(reader, writer):
    """A source that never says a word."""
    with contextlib.suppress(OSError):
        await reader.read(-1)
    writer.close()


@pytest.fixture
async def sources():
    servers = [await asyncio.start_server(script, "127.0.0.1", 0) for script in (answers, hangs)]
    yield [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()


@pytest.fixture
async def crew(tmp_path, sources):
    """A supervisor with its workers, and all deltas that it hands on."""
    route = Route(name="films", path="/films", kind="recommend", sources=Sources(cf="cf"), k_default=1)
    slow = Route(name="slow", path="/slow", kind="recommend", sources=Sources(cf="slow"), k_default=1)
    film = Film(id="p", title="P", year=1999, genres=(), providers=(), score=1)
    policy = Policy(
        routes=(route, slow),
        upstreams={"cf": Upstream(url=sources[0]), "slow": Upstream(url=sources[1])},
        popularity=(film,),
    )
    heard = []

    def hears(delta):
        """Fails at first, which nothing else may suffer from."""
        heard.append(delta)
        if len(heard) == 1:
            raise AssertionError(delta)

    spooling = Spooling(
        state=tmp_path, directory=tmp_path / "spool", limit=1 << 20, sync=False, instance="here"
    )
    supervisor = Supervisor(
        policy,
        Counters(),
        workers=WORKERS,
        level="error",
        heard=lambda _: None,
        spooling=spooling,
        recent=Recent(),
        on_signals=hears,
    )
    await supervisor.start("127.0.0.1:0")
    yield supervisor, heard
    supervisor.close()
    await supervisor.drain()  # until the last one has ended


async def ask(supervisor, path):
    """One request on a connection of its own: the kernel spreads these over the workers."""
    reader, writer = await asyncio.open_connection(*supervisor.address)
    writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\nX-Region: eu\r\nConnection: close\r\n\r\n" % path)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.partition(b"\r\n")[0]


async def until(heard, key, wanted):
    """What arrived in that cell, once it has so many requests."""
    async with asyncio.timeout(PATIENCE_S):
        while (cell := added(heard).cells.get(key, [0]))[REQUESTS] < wanted:  # noqa: ASYNC110 - told by others
            await asyncio.sleep(0.01)
    return cell


async def test_what_arrives_is_the_sum_of_what_each_has_counted_and_what_hangs_is_in_it(crew):
    supervisor, heard = crew
    assert set(await asyncio.gather(*(ask(supervisor, b"/films?user_id=7") for _ in range(ASKED)))) == {
        b"HTTP/1.1 200 OK"
    }
    cell = await until(heard, Key("films", "none", "exposed", b"eu"), ASKED)
    assert (cell[REQUESTS], cell[FAILED], cell[SLOTS]) == (ASKED, ASKED, ASKED)
    calls = added(heard).upstreams["cf"]
    assert calls.calls == calls.failed > 0
    assert sum(bool(delta.cells) for delta in heard) >= WORKERS  # each told of its own

    hanging = [spawn(ask(supervisor, b"/slow?user_id=7"), "hangs") for _ in range(4)]
    cell = await until(heard, Key("slow", "none", "exposed", b"eu"), 4)
    assert not any(it.done() for it in hanging)
    assert (cell[REQUESTS], cell[LATE], cell[SLOTS]) == (4, 4, 0)
    assert added(heard).upstreams.get("slow", Calls()).failed == 0
    supervisor.close()
    await asyncio.gather(*hanging)
