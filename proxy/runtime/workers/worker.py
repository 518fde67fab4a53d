"""A worker: a data plane that does what the supervisor says, and tells what it counts.

Started by the supervisor as `python -m proxy.runtime.workers.worker`, with inherited descriptors.
Only the supervisor ends it: signals meant for the whole group are not for workers, and a worker
whose supervisor is gone drains by itself.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import uvloop

from proxy.clock import monotonic
from proxy.core.breaker import Transition
from proxy.core.inputs import PER_S, Input
from proxy.dataplane.accounts import TAKE_S
from proxy.dataplane.plane import DataPlane
from proxy.dataplane.sampling import Sampling
from proxy.errors import SettingsError
from proxy.runtime.process import data_plane, event_log, raise_open_files, settle_memory
from proxy.runtime.workers.channel import Channel
from proxy.runtime.workers.messages import (
    Applied,
    Apply,
    Begin,
    Command,
    Counted,
    Down,
    Drain,
    Level,
    Listen,
    Listening,
    Moved,
    Statuses,
    Up,
)
from proxy.tasks import spawn
from proxy.telemetry.counters import Counters
from proxy.telemetry.logs import Logs, descriptor, setup

if TYPE_CHECKING:
    from proxy.eventlog.log import EventLog

_log = logging.getLogger("fusebox.workers")

PUSH_S = TAKE_S
"""How often counters, signals and breakers are told, changed or not: it is the sign of life as well."""

_UNTOLD = 20 * PER_S
"""Inputs of decisions that wait for a supervisor that does not read; older ones are let go."""

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


class Worker:
    """One worker; `run` once. `doors` are the descriptors of every door, its own and the others'."""

    def __init__(
        self, channel: socket.socket, doors: list[list[int]], counters: Counters, logs: Logs
    ) -> None:
        self._sock = channel
        self._doors = doors
        self._counters = counters
        self._logs = logs
        self._inbox: asyncio.Queue[Down | Up | None] = asyncio.Queue()
        self._open: dict[int, list[asyncio.Server]] = {}
        self._inputs: deque[Input] = deque(maxlen=_UNTOLD)
        self._draining: asyncio.Task[None] | None = None
        self._plane: DataPlane
        self._events: EventLog | None = None

    async def run(self) -> int:
        """Serve until told to drain, or until the supervisor is gone. The exit code."""
        self._channel = await Channel.over(self._sock, self._inbox.put_nowait)
        spawn(self._notice_the_end(), "supervisor gone")
        begin = await self._inbox.get()
        first = await self._inbox.get() if isinstance(begin, Begin) else None
        if not (isinstance(begin, Begin) and isinstance(first, Apply)):
            return 0  # the supervisor was gone before it could say anything
        try:
            self._plane = self._begin(begin, first)
            await self._serve()
        except SettingsError as error:
            _log.critical("cannot go by the policy: %s", "; ".join(map(str, error.problems)))
            return 1
        finally:
            if self._events is not None:
                self._events.close()
        self._send_counters()
        self._channel.close()
        await self._channel.closed.wait()
        return 0

    def _begin(self, begin: Begin, first: Apply) -> DataPlane:
        raise_open_files(first.policy.limits.connections)
        self._events = event_log(begin.spooling.events, self._counters)
        sampling = Sampling(self._inputs.append, monotonic(), per_s=begin.inputs_per_s)
        plane = data_plane(
            first.policy, self._counters, self._heard, begin.spooling, sampling, events=self._events
        )
        settle_memory()
        self._channel.send(Applied(first.sequence, _statuses(plane)))
        return plane

    async def _serve(self) -> None:
        """Do as told until drained."""
        pushing = spawn(self._push(), "push counters")
        try:
            while (message := await self._inbox.get()) is not None:
                await self._obey(message)
        finally:
            pushing.cancel()
            self._plane.close()
            await asyncio.sleep(0)  # what is cut off counts as well

    async def _obey(self, message: Down | Up) -> None:
        match message:
            case Apply(sequence, policy, keeps_popularity):
                if keeps_popularity:
                    policy = replace(policy, popularity=self._plane.policy.popularity)
                self._plane.apply(policy)
                self._confirm(sequence)
            case Command(sequence, name, action, reason):
                breaker = self._plane.breakers[name]
                move = {"open": breaker.open, "close": breaker.close, "auto": breaker.auto}[action]
                move(monotonic(), reason)
                self._confirm(sequence)
            case Listen(doors):
                await self._listen(doors)
            case Level(level):
                self._logs.set_level(level)
            case Drain():
                self._drain()

    async def _listen(self, doors: frozenset[int]) -> None:
        if self._draining is not None:
            return
        for number in self._open.keys() - doors:
            for server in self._open.pop(number):
                server.close()
        for number in doors - self._open.keys():
            self._open[number] = [
                await self._plane.listen(socket.socket(fileno=os.dup(fd))) for fd in self._doors[number - 1]
            ]
        self._channel.send(Listening())

    def _drain(self) -> None:
        if self._draining is None:
            # Those of the others as well: as long as anybody holds a door, the kernel lets clients in there.
            for fd in (fd for door in self._doors for fd in door):
                os.close(fd)
            self._doors = []
            self._draining = spawn(self._plane.drain(), "drain")
            self._draining.add_done_callback(lambda _: self._inbox.put_nowait(None))

    async def _notice_the_end(self) -> None:
        await self._channel.closed.wait()
        if self._draining is None:
            _log.error("the supervisor is gone: draining")
        self._inbox.put_nowait(Drain())

    def _heard(self, change: Transition) -> None:
        self._channel.send(Moved(change))

    def _confirm(self, sequence: int) -> None:
        self._channel.send(Applied(sequence, _statuses(self._plane)))

    async def _push(self) -> None:
        while True:
            await asyncio.sleep(PUSH_S)
            if not self._channel.clogged:  # a supervisor that does not read must not fill our memory
                self._send_counters()

    def _send_counters(self) -> None:
        signals = self._plane.books.take(monotonic())
        self._channel.send(Counted(self._counters, _statuses(self._plane), signals, tuple(self._inputs)))
        self._inputs.clear()


def _statuses(plane: DataPlane) -> Statuses:
    now = monotonic()
    return {name: breaker.snapshot(now) for name, breaker in plane.breakers.items()}


def main() -> int:
    """NUMBER LEVEL CHANNEL DOORS: the descriptors of a door joined by commas, doors by colons."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    worker, level, channel, doors = sys.argv[1:]
    counters = Counters()
    if sys.stdout is None:
        return 1
    fields = {"worker": int(worker)}
    logs = setup(level, counters, descriptor(sys.stdout.fileno()), fields=fields, shared=True)
    descriptors = [[int(fd) for fd in door.split(",")] for door in doors.split(":")]

    async def run() -> int:
        return await Worker(socket.socket(fileno=int(channel)), descriptors, counters, logs).run()

    try:
        return uvloop.run(run())
    finally:
        logs.stop()


if __name__ == "__main__":
    sys.exit(main())
