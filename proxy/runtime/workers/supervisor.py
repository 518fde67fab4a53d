"""Leads the workers: what control and admin see as the data plane when other processes carry the traffic."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from proxy.clock import monotonic
from proxy.control import WorkerStatus
from proxy.core.breaker import BreakerStatus, Transition
from proxy.core.inputs import PER_S, Recent
from proxy.core.policy import Policy
from proxy.core.shares import share_of
from proxy.runtime.process import Spooling, StartError, model
from proxy.runtime.workers.breakers import SharedBreaker
from proxy.runtime.workers.doors import Doors, open_doors
from proxy.runtime.workers.member import Member
from proxy.runtime.workers.messages import (
    Action,
    Apply,
    Begin,
    Command,
    Counted,
    Down,
    Level,
    Moved,
    Up,
    frame,
)
from proxy.runtime.workers.slot import Slot
from proxy.settings import split_address
from proxy.tasks import spawn
from proxy.telemetry.counters import Counters
from proxy.telemetry.merged import Merged

_log = logging.getLogger("fusebox.workers")

CONFIRM_S = 1.0
"""A worker that has not taken over a change by then is killed: it would go on serving by the old one."""
LIST_S = 15.0
"""The same while a new popularity list is on its way: 100,000 films are a second's work to take over."""
START_S = 60.0
"""From the start of a worker's process until it listens; long, since many may start at once on few cores."""
SILENT_S = 10.0
"""A worker that has not told its counters for so long does not turn its loop."""
DRAIN_MARGIN_S = 5.0
"""Given on top of `drain_s` before a worker that drains is killed."""
_KILLED_S = 5.0
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
    ) -> None:
        self.counters = counters  # of all workers
        self.draining = False
        self.address: tuple[str, int] = ("", 0)
        self.policy = policy
        self._level = level
        self._heard = heard
        self._begin = Begin(spooling, max(1, PER_S // workers))
        self._recent = recent  # of all workers
        self._merged = Merged(counters)
        self._slots = [Slot(number) for number in range(1, workers + 1)]
        self._members: list[Member] = []  # all processes there are
        self._held: dict[str, tuple[Action, str]] = {}  # breakers moved by hand, for workers to come
        self._sequence = 0
        self._list_sequence = 0  # of the last change that brought a popularity list
        self._settling: asyncio.Task[None] | None = None
        self._rolling = asyncio.Lock()
        self._news = asyncio.Event()
        self._doors: Doors | None = None
        # What a worker would refuse is refused here first: by a data plane that never listens.
        self._model = model(share_of(policy, workers), spooling)
        self.remembering = self._model.remembering
        self.breakers = {name: self._breaker(name) for name in policy.upstreams}

    # -- as control sees the data plane

    def apply(self, policy: Policy) -> None:
        """Send the policy to every worker. Raises as `DataPlane.apply` does, and then nothing has changed."""
        if policy.popularity == self.policy.popularity:
            policy = replace(policy, popularity=self.policy.popularity)  # read anew, yet the same: not sent
        self._model.apply(share_of(policy, len(self._slots)))
        came = policy.upstreams.keys() - self.policy.upstreams.keys()
        before, self.policy = self.policy, policy
        self.breakers = {name: self._breaker(name) for name in policy.upstreams}
        self._sequence += 1
        if policy.popularity is not before.popularity:
            self._list_sequence = self._sequence
        self._send_policy(self._members)
        for message in self._held_breakers(came):
            self._send(message)
        self._settle()

    async def settled(self) -> None:
        """Return when every worker goes by all that was said so far, or is gone."""
        if self._settling is not None:
            await asyncio.shield(self._settling)

    def unready(self) -> list[str]:
        """Why no traffic should be sent here; empty: a worker serves."""
        return [] if self.counters.workers else ["no worker is ready"]

    def set_level(self, level: str) -> None:
        """From now on workers leave out log lines below `level`."""
        self._level = level
        self._send(Level(level))

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
            self._held[name] = action, reason
            if action == "auto":
                del self._held[name]
            breaker = self._model.breakers[name]
            {"open": breaker.open, "close": breaker.close, "auto": breaker.auto}[action](monotonic(), reason)
            self._sequence += 1
            self._send(Command(self._sequence, name, action, reason))
            self._settle()

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

        await self._until(up)
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
            await self._until(lambda: slot.member is not None and slot.member.ended)
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
            self._tell()
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
        self._send_policy([member])
        member.send(Level(self._level))  # it may have changed since the process was started
        for message in self._held_breakers(self.policy.upstreams.keys()):
            member.send(message)
        if not await self._until(lambda: member.state != "starting", START_S):
            member.kill(f"not ready within {START_S:g} s")
            await self._until(lambda: member.ended, _KILLED_S)
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

        if not await self._until(gone, self.policy.deadlines.drain_s + DRAIN_MARGIN_S):
            for member in leaving:
                member.kill("draining took too long")
            await self._until(gone, _KILLED_S)
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
                busy = member.sequence < self._list_sequence
                if member.carries and not busy and now - member.heard_at > SILENT_S:
                    member.kill(f"silent for {SILENT_S:g} s")

    # -- what is said

    def _settle(self) -> None:
        """See to it that the latest change holds everywhere, whether or not anybody waits for that."""
        if self._members:
            self._settling = spawn(self._see_confirmed(self._sequence), "settle")

    async def _see_confirmed(self, sequence: int) -> None:
        """Whoever starts to listen after this was told of the change before it was told to listen."""
        meant = [member for member in self._members if member.carries]

        def late() -> list[Member]:
            return [it for it in meant if not it.ended and it.sequence < sequence]

        busy = any(member.sequence < self._list_sequence for member in meant)
        within_s = LIST_S if busy else CONFIRM_S
        if await self._until(lambda: not late(), within_s):
            return
        await asyncio.sleep(_LOOK_S / 20)  # if it was this process that stood still, this reads the answers
        for member in late():
            member.kill(f"did not confirm a change within {within_s:g} s")
        await self._until(lambda: not late(), _KILLED_S)

    def _send_policy(self, members: list[Member]) -> None:
        policy = share_of(self.policy, len(self._slots))
        whole: bytes | None = None
        brief: bytes | None = None
        for member in members:
            if member.knows(policy):
                brief = brief or frame(Apply.brief(self._sequence, policy))
                member.send_frame(brief)
            else:
                whole = whole or frame(Apply(self._sequence, policy, keeps_popularity=False))
                member.send_frame(whole)

    def _held_breakers(self, names: Iterable[str]) -> Iterator[Command]:
        for name in names:
            if name in self._held:
                yield Command(self._sequence, name, *self._held[name])

    def _send(self, message: Down) -> None:
        data = frame(message)
        for member in self._members:
            member.send_frame(data)

    # -- what is heard

    def _on_message(self, member: Member, message: Up) -> None:
        match message:
            case Counted(counters, breakers, inputs):
                member.breakers = breakers
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
        self._tell()

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

    def _tell(self) -> None:
        """Wake whoever waits for something to have changed."""
        self._news.set()
        self._news = asyncio.Event()

    async def _until(self, holds: Callable[[], bool], within_s: float | None = None) -> bool:
        """Wait for what changes with the news; False when it does not come in time."""
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    await self._news.wait()
        except TimeoutError:
            return holds()
        return True
