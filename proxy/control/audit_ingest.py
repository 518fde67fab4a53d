"""Takes what waits in the spools into the log, each entry exactly once.

The position up to which a spool file is in the log is saved in the transaction that appends its entries:
whatever dies in between, the next start goes on from there. One ingester runs, where the store is.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress

from proxy.clock import Clock, rfc3339, wall
from proxy.control.audit import append
from proxy.core.audit import Entry, Outcome, parse
from proxy.core.sealing import Sealer
from proxy.ports import StoreError
from proxy.ports.records import Journal, Records, SpoolBatch, SpoolReader

_log = logging.getLogger("fusebox.audit")

POLL_S = 1.0
"""How long an entry may wait that another process spooled; this one's own notes wake the ingester."""

BATCH = 500
"""Entries per transaction: what an admin change may have to wait for, some 20 ms."""

_LONGEST_PAUSE_S = 5.0


class Unreadable(StoreError):
    """Files in the spool that cannot be read; all others were taken in."""


class Ingester:
    """`taken` and `damaged` count entries, and places of damage, since the start."""

    def __init__(
        self,
        journal: Journal,
        reader: SpoolReader,
        sealer: Sealer,
        *,
        instance: str = "",
        wall: Clock = wall,
        batch: int = BATCH,
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._sealer = sealer
        self._instance = instance
        self._wall = wall
        self._batch = batch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._draining = asyncio.Lock()
        self._positions: dict[str, int] = {}
        self._scrubbed: dict[str, int] = {}  # up to where nothing is left of what was taken in
        self.taken = 0
        self.damaged = 0
        self.trouble = ""  # why it cannot go on at present

    def wake(self) -> None:
        """Something was spooled; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Until cancelled; a store or a disk in trouble is asked again, less and less often."""
        self._loop = asyncio.get_running_loop()
        pause = POLL_S
        while True:
            try:
                await self.drain()
                pause = POLL_S
            except Exception as error:  # noqa: BLE001 - whatever it is, entries wait and must not be forgotten
                if not self.trouble:
                    known = isinstance(error, (StoreError, OSError))
                    _log.error(
                        "audit entries wait in the spool: %s", error, exc_info=None if known else error
                    )
                self.trouble = str(error) or type(error).__name__
                await asyncio.sleep(pause)
                if not isinstance(error, Unreadable):  # then the store takes what there is
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            # Before Python 3.12 `wait_for` may forget that it was cancelled, by a note at the same moment.
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._woken.wait()
            self._woken.clear()

    def waiting(self) -> int:
        """Bytes that are spooled and not in the store yet. Reads them: not for the event loop."""
        return self._reader.waiting(dict(self._positions))

    async def drain(self) -> int:
        """Take in everything that waits now; how many entries. StoreError, OSError: the rest still waits."""
        before = self.taken
        faults = []
        async with self._draining:
            for name in await asyncio.to_thread(self._reader.files):
                try:
                    await self._take(name)
                except OSError as error:  # of this file: perhaps a command of another user wrote it
                    faults.append(f"{name} cannot be read: {error.strerror or error}")
        if faults:
            raise Unreadable(f"spool: {'; '.join(faults)}; let this user own it")
        if self.trouble:
            _log.info("audit entries go into the store again")
            self.trouble = ""
        return self.taken - before

    async def _take(self, name: str) -> None:
        while True:
            if name not in self._positions:
                self._positions[name] = await self._journal.read(lambda it: it.audit.spool_position(name))
            position = self._positions[name]
            scrubbed = self._scrubbed.setdefault(name, position)
            if scrubbed < position:
                await asyncio.to_thread(self._reader.scrub, name, scrubbed, position)
                self._scrubbed[name] = position
            batch = await asyncio.to_thread(self._reader.read, name, position, self._batch)
            if batch.position != position:
                await self._commit(name, position, batch)
                if name not in self._positions:
                    continue
            if batch.finished:
                await asyncio.to_thread(self._reader.remove, name)
                await self._journal.write(lambda it: it.audit.forget_spool(name))
                del self._positions[name], self._scrubbed[name]
                return
            if not batch.entries and not batch.damaged:
                return

    async def _commit(self, name: str, position: int, batch: SpoolBatch) -> None:
        entries = list(self._entries(name, position, batch))
        damaged = sum(entry.action == DAMAGED for entry in entries)

        def take(records: Records) -> bool:
            if records.audit.spool_position(name) != position:
                return False  # a write whose deadline ran out was done after all
            if entries:
                append(records, entries, self._sealer)
            records.audit.set_spool_position(name, batch.position)
            return True

        # Whatever becomes of this, afterwards the store is asked how far it is, not memory.
        self._positions.pop(name)
        if await self._journal.write(take):
            self._positions[name] = batch.position
            self.taken += len(entries) - damaged
            self.damaged += damaged

    def _entries(self, name: str, position: int, batch: SpoolBatch) -> Iterator[Entry]:
        for data in batch.entries:
            try:
                yield parse(data)
            except ValueError as error:
                yield self._damage(name, position, len(data), f"a frame that holds no entry: {error}")
        for place, size in batch.damaged:
            yield self._damage(name, place, size, "bytes that are no frame")

    def _damage(self, name: str, position: int, size: int, what: str) -> Entry:
        _log.error("spool %s, from byte %d: %s, %d bytes", name, position, what, size)
        return Entry(
            action=DAMAGED,
            outcome=Outcome.FAILED,
            at=rfc3339(self._wall()),
            actor="fusebox",
            target=name,
            after={"position": position, "bytes": size},
            reason=what,
            instance=self._instance,
        )


DAMAGED = "spool.damaged"
