"""A way to the upstream that never comes about: the deadline ends the request, and no slot stays taken."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import orjson
import pytest
from harness import until
from rig import Rig, sidecar

from proxy.clock import monotonic
from proxy.core.breaker import BreakerSettings

GET = b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
UPLOAD = POST[:-2]  # the client still sends
NOBODYS = "films.test"
DEADLINES: dict[str, dict[str, dict[str, Any]]] = {
    "first-byte": {"route": {"first_byte_ms": 100}},
    "total": {"route": {"total_ms": 100}},
}


@contextmanager
def full_backlog() -> Iterator[str]:
    """The url of a listener that has no place left and accepts nobody: connecting hangs."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            yield f"http://127.0.0.1:{full.getsockname()[1]}"
        finally:
            for sock in waiting:
                sock.close()


@contextmanager
def silent_resolver() -> Iterator[str]:
    """The url of a name that nobody answers for, until this ends."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    resolver = loop.getaddrinfo

    async def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        if host != NOBODYS:
            return await resolver(host, *rest, **more)
        await over.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    loop.getaddrinfo = getaddrinfo  # type: ignore[assignment,method-assign]
    try:
        yield f"http://{NOBODYS}:81"
    finally:
        over.set()
        del loop.getaddrinfo


def at_rest(rig: Rig) -> bool:
    pool = rig.plane._pools["up"]
    addresses = pool.addresses.pick(monotonic()).inflight if pool.place.known else 0
    return pool.cell.inflight == pool.cell.queued == addresses == 0


@pytest.mark.parametrize("settings", DEADLINES.values(), ids=DEADLINES.keys())
@pytest.mark.parametrize("raw", [GET, UPLOAD], ids=["whole", "upload"])
@pytest.mark.parametrize("hanging", [full_backlog, silent_resolver])
async def test_a_connect_that_hangs_ends_by_the_routes_deadline(
    hanging: Callable[[], AbstractContextManager[str]], raw: bytes, settings: dict[str, dict[str, Any]]
) -> None:
    """504 and the upstream's failure, whoever still sends; connecting itself goes on for 0.4 s at most."""
    connect_s = 0.4
    upstream = {
        "connect_timeout_ms": connect_s * 1000,
        "max_inflight": 1,
        "breaker": BreakerSettings(consecutive_failures=2),
    }
    with hanging() as url:
        async with sidecar(url=url, upstream=upstream, **settings) as rig:
            started = monotonic()
            wire = await rig.client()
            wire.send(raw)
            answer = await wire.response()
            assert 0.09 < monotonic() - started < connect_s
            assert (answer.status, orjson.loads(answer.body)["code"]) == (504, "upstream_timeout")
            breaker = rig.plane.breakers["up"]
            assert breaker.snapshot(monotonic()).consecutive == 1
            await until(lambda: at_rest(rig), "the slot back")
            again = await rig.ask(raw)  # with one slot in all, this one needs it
            assert (again.status, breaker.state) == (504, "open")
            assert rig.counters.upstream("up").outcomes["timeout"] == 2
            await until(lambda: at_rest(rig), "the slot back")
