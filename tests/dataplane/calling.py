"""A pool before a scripted upstream, and somebody who wants connections of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf

from harness import Script, Scripted, until

from proxy.clock import monotonic
from proxy.core.breaker import Breaker, BreakerSettings
from proxy.core.policy import Limits, Priority, Upstream
from proxy.dataplane.deadlines import Ticker
from proxy.dataplane.failures import Failure
from proxy.dataplane.place import Place
from proxy.dataplane.pool import WRITE_REUSE_S, Pool
from proxy.dataplane.response_head import ResponseReader
from proxy.telemetry.counters import UpstreamCell

LOW, NORMAL, CRITICAL = Priority


class Caller:
    """Somebody who wants a connection; keeps it until told to give it back."""

    bodiless = False
    upgrade = b""

    def __init__(self, pool: Pool, priority: int = NORMAL, log: list["Caller"] | None = None) -> None:
        self.pool = pool
        self.priority = int(priority)
        self.connection = None
        self.failure: Failure | None = None
        self.address = None  # that failed
        self.log = [] if log is None else log
        self.answered = asyncio.Event()

    def ask(self, *, fresh: bool = False, now: float | None = None, avoid=None) -> "Caller":
        now = monotonic() if now is None else now
        unused_s = WRITE_REUSE_S if fresh else inf
        connection = self.pool.acquire(self, now, unused_s=unused_s, avoid=avoid)
        if connection is not None:
            self.on_connection(connection)
        return self

    def on_connection(self, connection) -> None:
        self.connection = connection
        self.log.append(self)

    def on_no_connection(self, failure, detail, address) -> None:
        self.failure = failure
        self.address = address

    def on_deadline(self, now) -> None:
        if self.pool.leave(self):
            self.failure = Failure.OVERLOADED

    # what an exchange does with its connection

    async def connected(self) -> "Caller":
        await until(lambda: self.connection or self.failure, "a connection")
        return self

    async def exchange(self) -> None:
        await self.connected()
        self.connection.take(self, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            await self.answered.wait()

    def on_response(self, head, body, ended) -> None:
        self.answered.set()

    def on_failure(self, failure, detail) -> None:
        self.failure = failure
        self.pool.give_up(self.connection)
        self.answered.set()

    def done(self) -> None:
        """Give the connection back as it was."""
        self.pool.release(self.connection, reusable=True)

    def fail(self) -> None:
        self.pool.give_up(self.connection)


def pool_of(url: str | list[str], **changed) -> Pool:
    upstream = Upstream(url=url, **changed)
    breaker = Breaker("up", BreakerSettings(), rng=lambda: 0.5, on_transition=lambda _: None, now=monotonic())
    return Pool(
        "up", upstream, Place(upstream), breaker, UpstreamCell(), Ticker(), ResponseReader(), Limits()
    )


@asynccontextmanager
async def serving(*scripts: Script) -> AsyncIterator[Scripted]:
    """A scripted upstream that ends with the test, whatever becomes of it."""
    upstream = Scripted(*scripts)
    await upstream.start()
    try:
        yield upstream
    finally:
        await upstream.stop()


@asynccontextmanager
async def served(*scripts: Script, **settings) -> AsyncIterator[tuple[Pool, Scripted]]:
    async with serving(*scripts) as upstream:
        pool = pool_of(upstream.url, **settings)
        try:
            yield pool, upstream
        finally:
            pool.close()


def changed(pool: Pool, **settings) -> None:
    """New settings for the pool, as a reload brings them."""
    upstream = replace(pool.settings, **settings)
    pool.reconfigure(upstream, Place(upstream), Limits())


async def unserved() -> str:
    """The url of a port where nobody listens any more."""
    async with serving() as upstream:
        return upstream.url


def at_rest(pool: Pool) -> bool:
    addresses = [pool.addresses.pick(monotonic()) for _ in range(20)]
    return pool.cell.inflight == pool.cell.queued == 0 == sum(address.inflight for address in addresses)
