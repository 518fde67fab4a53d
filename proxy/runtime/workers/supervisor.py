"""Leads the workers: what control and admin see as the data plane when other processes carry the traffic."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from proxy.clock import monotonic
from proxy.control import WorkerStatus
from proxy.core.breaker import BreakerStatus, Transition
from proxy.core.inputs import PER_S, Recent
from proxy.core.policy import Policy
from proxy.core.rollback.signals import Delta
from proxy.core.shares import share_of
from proxy.runtime.process import Spooling, StartError, model
from proxy.runtime.workers.breakers import SharedBreaker
from proxy.runtime.workers.doors import Doors, open_doors
from proxy.runtime.workers.member import Member
from proxy.runtime.workers.messages import Action, Begin, Counted, Level, Moved, Up
from proxy.runtime.workers.news import News
from proxy.runtime.workers.orders import KILLED_S, Orders
from proxy.runtime.workers.slot import Slot
from proxy.settings import split_address
from proxy.tasks import spawn
from proxy.telemetry.counters import Counters
from proxy.telemetry.merged import Merged

_log = logging.getLogger("fusebox.workers")

START_S = 60.0
"""From the start of a worker's process until it listens; long, since many may start at once on few cores."""
SILENT_S = 10.0
"""A worker that has not told its counters for so long does not turn its loop."""
DRAIN_MARGIN_S = 5.0
"""Given on top of `drain_s` before a worker that drains is killed."""
_LOOK_S = 1.0


class Supervisor:
    """So many workers, always. `start` and `drain` once each; `apply` takes effect when `settled` returns.

    It owns what must outlive a worker: the doors, the policy, breakers held by hand, and the counts.
    """

    def __init__(
        self,
        policy: Policy,
        counters: Counters,
        *,
        workers: int,
        level: str,
        heard: Callable[[Transition], None],
        spooling: Spooling,
        recent: Recent,
        on_signals: Callable[[Delta], None] | None = None,
    ) -> None:
        """`on_signals` hears four times a second what each worker has counted."""
        self.counters = counters  # of all workers
        self.draining = False
        self.address: tuple[str, int] = ("", 0)
        self.policy = policy
        self._level = level
        self._heard = heard
        self._begin = Begin(spooling, max(1, PER_S // workers))
        self._recent = recent  # of all workers
        self._on_signals = on_signals
        self._merged = Merged(counters)
        self._slots = [Slot(number) for number in range(1, workers + 1)]
        self._members: list[Member] = []  # all processes there are
        self._news = News()
        self._rolling = asyncio.Lock()
        self._doors: Doors | None = None
        # What a worker would refuse is refused here first: by a data plane that never listens.
        share = share_of(policy, workers)
        self._model = model(share, spooling)
        self._orders = Orders(share, self._members, self._news)
        self.remembering = self._model.remembering
        self.breakers = {name: self._breaker(name) for name in policy.upstreams}

    # -- as control sees the data plane

    def apply(self, policy: Policy) -> None:
        """Send the policy to every worker. Raises as `DataPlane.apply` does, and then nothing has changed."""
        if policy.popularity == self.policy.popularity:
            policy = replace(policy, popularity=self.policy.popularity)  # read anew, yet the same: not sent
        share = share_of(policy, len(self._slots))
        self._model.apply(share)
        came = policy.upstreams.keys() - self.policy.upstreams.keys()
        self.policy = policy
        self.breakers = {name: self._breaker(name) for name in policy.upstreams}
        self._orders.policy(share, came)

    async def settled(self) -> None:
        """Return when every worker goes by all that was said so far, or is gone."""
        await self._orders.settled()

    def unready(self) -> list[str]:
        """Why no traffic should be sent here; empty: a worker serves."""
        return [] if self.counters.workers else ["no worker is ready"]

    def set_level(self, level: str) -> None:
        """From now on workers leave out log lines below `level`."""
        self._level = level
        self._orders.send(Level(level))

    def statuses(self) -> tuple[WorkerStatus, ...]:
        now = monotonic()
        slots = {slot.number: slot for slot in self._slots}
        waiting = [slot.member for slot in self._slots if slot.member is not None and slot.waits]
        return tuple(
            WorkerStatus(
                number=member.number,
                pid=0 if member.ended else member.pid,
                state="waiting" if member.state == "ended" else member.state,
                for_s=round(now - member.since, 3),
                connections=self._merged.connections(member),
                restarts=slots[member.number].restarts,
                failed=slots[member.number].failed,
            )
            for member in sorted((*waiting, *self._members), key=lambda it: (it.number, it.since))
        )

    def _breaker(self, name: str) -> SharedBreaker:
        def command(action: Action, reason: str) -> None:
            breaker = self._model.breakers[name]
            {"open": breaker.open, "close": breaker.close, "auto": breaker.auto}[action](monotonic(), reason)
            self._orders.breaker(name, action, reason)

        def read(now: float) -> list[BreakerStatus]:
            told = [
                it.breakers[name] for it in self._members if it.state == "serving" and name in it.breakers
            ]
            return told or [self._model.breakers[name].snapshot(now)]

        return SharedBreaker(command, read)

    # -- life

    async def start(self, address: str) -> None:
        """Open the doors and start the workers; return when all serve.

        OSError when the address cannot be bound, StartError when a worker does not come up.
        """
        self._doors = await open_doors(*split_address(address), len(self._slots))
        self.address = self._doors.address
        for slot in self._slots:
            spawn(self._keep(slot), f"keep worker {slot.number}")
        spawn(self._look_after(), "look after workers")
        failed: list[Slot] = []

        def up() -> bool:
            failed.extend(slot for slot in self._slots if slot.failed)
            return bool(failed) or self.counters.workers == len(self._slots)

        await self._news.until(up)
        if failed:
            raise StartError(
                f"worker {failed[0].number} did not come up: {failed[0].failed}; the log says why"
            )

    async def roll(self) -> None:
        """Replace each worker, one after the other, by a new one that serves before the old one drains."""
        if self._rolling.locked():
            _log.warning("a rolling restart is under way already")
            return
        async with self._rolling:
            _log.info("rolling restart")
            for slot in self._slots:
                if self.draining or not await self._renew(slot):
                    _log.error("rolling restart given up at worker %d: the rest stay", slot.number)
                    return
            _log.info("rolling restart done")

    async def drain(self) -> None:
        """Take no more connections; return when the last worker has ended."""
        self.draining = True
        if self._doors is not None:
            self._doors.close()  # before the workers close theirs: the last one takes what waits there
        for member in self._members:
            member.drain()
        await self._see_off(*self._members)

    def close(self) -> None:
        """End what is left, at once."""
        self.draining = True
        if self._doors is not None:
            self._doors.close()
        for member in self._members:
            member.kill("aborted")

    # -- workers

    async def _keep(self, slot: Slot) -> None:
        """Have a worker serve here, always: the next when one has failed, after a pause if they fail on."""
        while not self.draining:
            async with slot.changing:
                if slot.member is None or slot.member.ended:
                    slot.member = await self._start(slot)
            await self._news.until(lambda: slot.member is not None and slot.member.ended)
            if self.draining:
                return
            if not slot.waits:
                continue  # a rolling restart was quicker
            delay = slot.fail()
            self.counters.worker_restarts += 1
            _log.error(
                "worker %d failed: %s; a new one starts %s",
                slot.number,
                slot.failed,
                f"in {delay:g} s" if delay else "at once",
                extra={"worker": slot.number, "restarts": slot.restarts, "delay_s": delay},
            )
            self._news.tell()
            await asyncio.sleep(delay)

    async def _start(self, slot: Slot) -> Member:
        """A worker that serves, or one that has ended."""
        member = Member(slot.number, self._on_message, self._on_news)
        if self._doors is None or self.draining:
            return member
        try:
            await member.start(self._doors.inherited(), self._level)
        except OSError as error:
            member.fail(f"cannot be started: {error.strerror or error}")
            return member
        self._members.append(member)
        if self.draining:
            member.kill("draining")
        member.send(self._begin)
        self._orders.catch_up(member)
        member.send(Level(self._level))  # it may have changed since the process was started
        if not await self._news.until(lambda: member.state != "starting", START_S):
            member.kill(f"not ready within {START_S:g} s")
            await self._news.until(lambda: member.ended, KILLED_S)
        if member.state == "serving":
            _log.info("worker %d started", member.number, extra={"worker": member.number, "pid": member.pid})
        return member

    async def _renew(self, slot: Slot) -> bool:
        async with slot.changing:
            before = slot.member
            successor = await self._start(slot)
            if successor.state != "serving":
                _log.error("worker %d: its successor did not come up: %s", slot.number, successor.cause)
                return False
            slot.member = successor
        if before is not None:
            before.drain()
            spawn(self._see_off(before), f"see off worker {slot.number}")
        return True

    async def _see_off(self, *leaving: Member) -> None:
        """Wait for workers that drain; kill those that take too long."""

        def gone() -> bool:
            return all(member.ended for member in leaving)

        if not await self._news.until(gone, self.policy.deadlines.drain_s + DRAIN_MARGIN_S):
            for member in leaving:
                member.kill("draining took too long")
            await self._news.until(gone, KILLED_S)
        for member in leaving:
            if member.cause != "exit status 0":
                _log.warning("worker %d did not drain to its end: %s", member.number, member.cause)

    async def _look_after(self) -> None:
        """Kill workers that have gone silent."""
        while True:
            before = monotonic()
            await asyncio.sleep(_LOOK_S)
            now = monotonic()
            if now - before > 2 * _LOOK_S:
                continue  # it was this process that stood still: what they told waits to be read
            for member in self._members:
                busy = self._orders.list_is_on_its_way(member)
                if member.carries and not busy and now - member.heard_at > SILENT_S:
                    member.kill(f"silent for {SILENT_S:g} s")

    # -- what is heard

    def _on_message(self, member: Member, message: Up) -> None:
        match message:
            case Counted(counters, breakers, signals, inputs):
                member.breakers = breakers
                if self._on_signals is not None:
                    # Apart from this channel: a fault in judging must not keep the rest from being heard.
                    asyncio.get_running_loop().call_soon(self._on_signals, signals)
                self._recent.add(inputs)
                self._merged.heard(member, counters)
            case Moved(change):
                self._heard(change)

    def _on_news(self, member: Member) -> None:
        if member.ended and member in self._members:
            self._members.remove(member)
            self._merged.gone(member)
        self.counters.workers = sum(it.state == "serving" for it in self._members)
        if not self.draining:
            self._assign_doors()
        self._news.tell()

    def _assign_doors(self) -> None:
        """Each worker its own door; one whose worker has failed is served by another in the meantime."""
        able = [
            it for it in self._members if it.state == "serving" or (it.state == "starting" and it.confirmed)
        ]
        wanted = {member: {member.number} for member in able}
        serving = [it for it in able if it.state == "serving"]
        for slot in self._slots:
            if slot.member is not None and slot.member.ended and serving:
                # whoever does so already goes on, else the one with the fewest doors
                helper = min(serving, key=lambda it: (slot.number not in it.doors, len(wanted[it])))
                wanted[helper].add(slot.number)
        for member, doors in wanted.items():
            member.listen(frozenset(doors))
