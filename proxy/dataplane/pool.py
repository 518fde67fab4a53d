"""The connections of one upstream: kept alive, spread over its addresses, limited, queued for."""

import asyncio
import contextlib
import logging
import random
import ssl
from collections import defaultdict
from math import inf
from typing import Protocol

from proxy.clock import monotonic
from proxy.core.addresses import Address, Addresses
from proxy.core.breaker import Breaker
from proxy.core.budget import RetryBudget
from proxy.core.candidates import Shape
from proxy.core.policy import Limits, Priority, Upstream
from proxy.dataplane.deadlines import Lane, Ticker
from proxy.dataplane.failures import Failure
from proxy.dataplane.memory import place_of
from proxy.dataplane.place import Place
from proxy.dataplane.response_head import ResponseReader
from proxy.dataplane.upstream import UpstreamConnection
from proxy.tasks import spawn
from proxy.telemetry.counters import UpstreamCell

_log = logging.getLogger("fusebox.upstream")

_SILENCE_S = 1.0

WRITE_REUSE_S = 0.01
"""A request that must not be sent twice goes out on a new connection, or on one whose last answer
ended less than this ago: an upstream may close an older one at this very moment (idle race)."""


class Waiter(Protocol):
    """A call that wants a connection. Its deadline ends its place in the queue."""

    priority: int

    def on_deadline(self, now: float) -> None: ...
    def on_connection(self, connection: UpstreamConnection) -> None: ...
    def on_no_connection(self, failure: Failure, detail: str, address: Address | None) -> None: ...


class Pool:
    """Everything the data plane keeps for one upstream, its breaker and counters among it."""

    def __init__(
        self,
        name: str,
        settings: Upstream,
        place: Place,
        breaker: Breaker,
        cell: UpstreamCell,
        ticker: Ticker,
        reader: ResponseReader,
        limits: Limits,
    ) -> None:
        self.name = name
        self._idle: defaultdict[Address, list[UpstreamConnection]] = defaultdict(list)
        self.timing = f", {name};dur=".encode()  # its part of Server-Timing
        self._read_by(settings)
        self.breaker = breaker
        self.cell = cell
        self.ticker = ticker
        self.reader = reader
        self.limits = limits
        self.budget = RetryBudget(settings.retry_budget, settings.retry_floor_per_s)
        self._silent_until = 0.0
        self._next_refresh = 0.0
        self._unsaid = 0
        self._resolving: asyncio.Task[OSError | None] | None = None
        self._move(place, settings)
        self._queues: tuple[dict[Waiter, Lane], ...] = tuple({} for _ in Priority)  # in order of arrival
        self._closed = False

    def reconfigure(self, settings: Upstream, place: Place, limits: Limits) -> None:
        """New settings from now on. At the same place connections stay; at another one, calls under
        way end where they began, and nobody loses a place in the queue.
        """
        before = self.settings
        self._closed = False
        if (before.retry_budget, before.retry_floor_per_s) != (
            settings.retry_budget,
            settings.retry_floor_per_s,
        ):
            self.budget = RetryBudget(settings.retry_budget, settings.retry_floor_per_s)
        ejection = (before.eject_after, before.eject_s, before.eject_max_s)
        moved = place.key != self.place.key
        if moved or ejection != (settings.eject_after, settings.eject_s, settings.eject_max_s):
            self._close_idle()
            self._move(place if moved else self.place, settings)
        self._read_by(settings)
        self.limits = limits
        self.breaker.reconfigure(settings.breaker, monotonic())

    def _read_by(self, settings: Upstream) -> None:
        self.settings = settings
        self.candidates_path = settings.candidates_path.encode()
        self.neighbours_path = settings.neighbours_path.encode()
        self.shape = Shape.of(settings.fields)
        self.place_key = place_of(self.name, settings)

    def _move(self, place: Place, settings: Upstream) -> None:
        self.place = place
        self.addresses = Addresses(
            eject_after=settings.eject_after,
            eject_s=settings.eject_s,
            eject_max_s=settings.eject_max_s,
            rng=random.random,
        )
        if place.known:
            self.addresses.replace(place.known)

    # -- asked by calls

    def acquire(
        self, waiter: Waiter, now: float, unused_s: float, avoid: Address | None
    ) -> UpstreamConnection | None:
        """A connection at once, or later through the waiter. The slot taken is given back by
        `release`, `give_up` or with `on_no_connection`. A kept-alive connection is taken only when
        it was unused for less than `unused_s` (see `WRITE_REUSE_S`).
        """
        if self.cell.inflight < self.settings.max_inflight:
            return self._serve(waiter, now, unused_s, avoid)
        self._queue(waiter)
        return None

    def queues(self, waiter: Waiter) -> bool:
        """Whether it waits for a slot."""
        return waiter in self._queues[waiter.priority]

    def has_headroom(self) -> bool:
        """Whether calls that nobody waits for may take a slot."""
        cell = self.cell
        return not cell.queued and cell.inflight * 2 <= self.settings.max_inflight

    def leave(self, waiter: Waiter) -> bool:
        """Take a waiter out of the queue; False when it was not in it."""
        lane = self._queues[waiter.priority].pop(waiter, None)
        if lane is None:
            return False
        lane.clear(waiter)
        self.cell.queued -= 1
        return True

    def _serve(
        self, waiter: Waiter, now: float, unused_s: float, avoid: Address | None
    ) -> UpstreamConnection | None:
        """Take a slot, and a connection for it or the way to one."""
        addresses = self.addresses
        address = addresses.only or (addresses.pick(now, avoid) if self.place.known else None)
        self.cell.inflight += 1
        if address is None:
            spawn(self._connect(waiter, None, avoid), f"connect {self.name}")
            return None
        address.inflight += 1
        idle = self._idle[address]
        while idle:
            connection = idle.pop()
            unused = now - connection.idle_since
            if unused >= connection.idle_limit or connection.transport.is_closing():
                connection.quiet_close()
            elif unused < unused_s:
                connection.reused = True
                return connection
            else:  # still good for what may be repeated; those below are older
                idle.append(connection)
                break
        spawn(self._connect(waiter, address, avoid), f"connect {self.name}")
        return None

    def _queue(self, waiter: Waiter) -> None:
        """Wait for a slot. When the queue is full the newest of the least important gives way."""
        shed: Waiter | None = None
        if self.cell.queued >= self.settings.max_queue:
            less = (queue for queue in self._queues[: waiter.priority] if queue)
            shed = next((next(reversed(queue)) for queue in less), None)
            if shed is None:
                waiter.on_no_connection(Failure.OVERLOADED, "too many requests are waiting", None)
                return
            self.leave(shed)
        self.cell.queued += 1
        lane = self.ticker.lane(self.settings.queue_timeout_ms / 1000, "queue")
        self._queues[waiter.priority][waiter] = lane
        lane.set(waiter, monotonic())
        if shed is not None:  # told last: its client's next request may come at once
            shed.on_no_connection(Failure.OVERLOADED, "shed for a more important request", None)

    def tick(self, now: float) -> None:
        """Let time pass."""
        self.breaker.tick(now)
        self.budget.tick(now)
        self.sweep(now)
        if not self.place.literal and now >= self._next_refresh:
            self._next_refresh = now + self.settings.dns_refresh_s
            spawn(self._refresh_quietly(), f"resolve {self.name}")

    def sweep(self, now: float) -> None:
        """Close what was idle for too long: a stack is used from the top, so the oldest lie below."""
        for idle in self._idle.values():
            while idle and now - idle[0].idle_since >= idle[0].idle_limit:
                idle.pop(0).quiet_close()

    # -- told by connections

    def release(self, connection: UpstreamConnection, reusable: bool) -> None:
        """An answer is complete: the slot is free, and the connection perhaps reusable."""
        address = connection.address
        address.inflight -= 1
        now = connection.idle_since = monotonic()
        if reusable and now < connection.retire_at and connection.place is self.place and not self._closed:
            self._idle[address].append(connection)
        else:
            connection.transport.close()
        cell = self.cell
        cell.inflight -= 1
        if cell.queued:
            self._serve_next()

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is gone while it was idle; its place in the idle stack with it."""
        idle = self._idle.get(connection.address)
        if idle is not None and connection in idle:
            idle.remove(connection)

    def give_up(self, connection: UpstreamConnection) -> None:
        """A call ends without a complete answer: the slot is free, the connection is closed."""
        connection.drop()
        connection.address.inflight -= 1
        self._freed()

    def _freed(self) -> None:
        self.cell.inflight -= 1
        if self.cell.queued:
            self._serve_next()

    def _serve_next(self) -> None:
        """A slot is free: the most important waiter gets it, of those the one that came first."""
        cell = self.cell
        if cell.inflight >= self.settings.max_inflight:
            return
        for queue in reversed(self._queues):
            if queue:
                waiter = next(iter(queue))
                self.leave(waiter)
                connection = self._serve(waiter, monotonic(), WRITE_REUSE_S, None)
                if connection is not None:
                    waiter.on_connection(connection)
                return

    def complain(self, what: str, detail: str, now: float) -> None:
        """Say in the log why calls fail: once a second, with how many went unsaid since."""
        if now < self._silent_until:
            self._unsaid += 1
            return
        _log.warning(
            "calls of %s fail", self.name, extra={"upstream": self.name, "failure": what, "detail": detail,
                                                  "unsaid": self._unsaid},
        )  # fmt: skip
        self._silent_until = now + _SILENCE_S
        self._unsaid = 0

    # -- connecting

    async def _connect(self, waiter: Waiter, address: Address | None, avoid: Address | None) -> None:
        """Open one connection for one waiter; whatever happens, the waiter is told."""
        try:
            if address is None:
                async with asyncio.timeout(self.settings.connect_timeout_ms / 1000):
                    await self.refresh()
                address = self.addresses.pick(monotonic(), avoid)
                address.inflight += 1
            connection = await self._open(address)
        except TimeoutError:
            self._unconnected(waiter, address, Failure.UNREACHABLE, "connecting took too long")
        except ssl.SSLError as error:
            self._unconnected(waiter, address, Failure.TLS, error.reason or "TLS failed")
        except OSError as error:
            failure = Failure.DNS if address is None else Failure.UNREACHABLE
            self._unconnected(waiter, address, failure, error.strerror or str(error))
        except Exception:
            self._unconnected(waiter, address, Failure.INTERNAL, "a fault in the sidecar")
            raise
        else:
            waiter.on_connection(connection)

    async def _open(self, address: Address) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        place = self.place
        async with asyncio.timeout(self.settings.connect_timeout_ms / 1000):
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self, place, address, self.settings.idle_s),
                address.host,
                address.port,
                ssl=place.tls,
                server_hostname=place.server_name if place.tls is not None else None,
            )
        age = self.settings.max_connection_age_s
        connection.retire_at = monotonic() + age if age else inf
        return connection

    def _unconnected(self, waiter: Waiter, address: Address | None, failure: Failure, detail: str) -> None:
        if address is not None:
            address.inflight -= 1
            if failure is not Failure.INTERNAL:
                self.addresses.failed(address, monotonic())
        self._freed()
        waiter.on_no_connection(failure, detail, address)

    async def refresh(self) -> None:
        """Resolve the names again; on failure the last good addresses stay. OSError: never resolved.

        There is one resolution at a time, whoever waits for it.
        """
        if self._resolving is None:
            self._resolving = spawn(self._resolve(self.place), f"resolve {self.name}")
        failed = await asyncio.shield(self._resolving)
        if failed is not None:
            raise failed

    async def _refresh_quietly(self) -> None:
        with contextlib.suppress(OSError):  # what was good stays good
            await self.refresh()

    async def _resolve(self, place: Place) -> OSError | None:
        try:
            found = await place.resolve()
        except OSError as error:
            return error
        finally:
            self._resolving = None
        if place is self.place:
            for gone in self.addresses.replace(found):
                for connection in self._idle.pop(gone, []):
                    connection.quiet_close()
        return None

    # -- the end

    def close(self) -> None:
        """Close idle connections; those in use end with their answer."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        for idle in self._idle.values():
            for connection in tuple(idle):
                connection.quiet_close()
        self._idle.clear()
