"""The store and the audit log of a sidecar, in the one process that owns them."""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from proxy.clock import rfc3339, wall
from proxy.control.audit import AuditLog
from proxy.control.audit_ingest import Ingester
from proxy.control.audit_reading import AuditReading
from proxy.control.audit_upkeep import Upkeep
from proxy.control.publishing import Publisher
from proxy.core import store_url
from proxy.core.audit import Entry, Outcome, spooled
from proxy.core.checkpoint import Signer
from proxy.core.sealing import Sealer
from proxy.ports import StoreError
from proxy.ports.audit import AuditPage, AuditReader, AuditTrail
from proxy.ports.records import AuditFilter, Spool, StoredCheckpoint
from proxy.settings import Settings
from proxy.storage import audit_keys
from proxy.storage.checkpoint_sinks import sinks
from proxy.storage.journal import StoreJournal
from proxy.storage.last_signed import LastSignedFile
from proxy.storage.spool import SpoolFile, SpoolReader
from proxy.storage.stores import open_store
from proxy.tasks import spawn
from proxy.telemetry.records import RecordsNow

_log = logging.getLogger("fusebox.audit")

END_S = 5.0
"""What the end gives each of: entries that still wait, the last checkpoint, the store."""


WEIGH_S = 5.0
"""How often what waits in the spool is weighed, for the metrics."""


RESERVE = 4 * 1024 * 1024
"""Room in the spool, bytes, that actions of users cannot fill: a kill has to be recorded all the same."""


class Ledger:
    """Make it and `start` it inside the running loop; `stop` it after all that writes to it.

    Traffic waits for none of it, and it starts whatever is wrong with the store: `troubles` says what is.
    """

    def __init__(self, settings: Settings) -> None:
        audit, spool = settings.audit, settings.spool_directory
        url, base = settings.storage.url, settings.file.parent
        place = store_url.parse(url)
        self.journal = StoreJournal(lambda: open_store(url, base), place.name, wait_s=settings.storage.wait_s)
        # Of its own, not the data plane's: a note may be written in a thread. And one for the loop's notes.
        self._spool = SpoolFile(spool, limit=audit.spool_bytes + RESERVE)
        self._hasty = SpoolFile(spool, limit=audit.spool_bytes + RESERVE)
        self._publishers = [Publisher(sink) for sink in sinks(audit.checkpoint_to, base)]
        self._tasks: list[asyncio.Task[None]] = []
        self._ingester: Ingester | None = None
        self._upkeep: Upkeep | None = None
        self._keyless = ""
        self._waiting = 0
        self.trail: AuditTrail
        self.reader: AuditReader
        try:
            keys = audit_keys.load_or_make(settings.audit_key_file)
        except StoreError as error:
            self._keyless = f"no audit log without its keys: {error}"
            _log.error("%s", self._keyless)
            self.trail = self.reader = _Keyless(self._keyless, self._spool, self._hasty)
            return
        name = instance()
        sealer, signer = Sealer(keys.master, os.urandom), Signer(audit.origin, keys.signing)
        last = None if place.kind == "memory" else LastSignedFile(settings.last_signed_file)
        ingester = Ingester(self.journal, SpoolReader(spool), sealer, instance=name)
        self._ingester = ingester
        self._upkeep = Upkeep(
            self.journal,
            signer,
            sealer,
            audit,
            self._publishers,
            last=last,
            instance=name,
        )
        self.trail = AuditLog(
            self.journal,
            self._spool,
            sealer,
            hasty=self._hasty,
            wake=ingester.wake,
            drain=ingester.drain,
            instance=name,
        )
        self.reader = AuditReading(self.journal, sealer, [signer.verifier], last=last)

    def start(self) -> None:
        """Open the store, take in what waits. Returns at once."""
        self.journal.start()
        if self._ingester is not None and self._upkeep is not None:
            self._tasks = [
                spawn(self._ingester.run(), "audit intake"),
                spawn(self._upkeep.run(), "audit upkeep"),
                spawn(self._weigh(self._ingester), "audit spool"),
            ]

    async def _weigh(self, ingester: Ingester) -> None:
        while True:
            with suppress(OSError):
                self._waiting = await asyncio.to_thread(ingester.waiting)
            await asyncio.sleep(WEIGH_S)

    async def note(self, action: str, outcome: Outcome = Outcome.DONE, **fields: Any) -> None:
        """Record what happens anyway; when that cannot be, the log says so."""
        try:
            await asyncio.to_thread(self.trail.note, self.trail.entry(action, outcome, **fields))
        except StoreError as error:
            _log.error("%s is not in the audit log: %s", action, error)

    async def stop(self) -> None:
        """Take in what waits, sign the last checkpoint, close the store; bounded in time."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._spool.close()
        self._hasty.close()
        if self._ingester is not None and self._upkeep is not None:
            # What cannot be taken in now waits in the spool for the next start.
            with suppress(StoreError, OSError, TimeoutError):
                async with asyncio.timeout(END_S):
                    await self._ingester.drain()
            await self._upkeep.finish(END_S)
        await self.journal.close(END_S)

    def troubles(self) -> list[str]:
        """What is wrong at present, none of which keeps traffic away; empty: nothing."""
        parts = (self._ingester, self._upkeep)
        found = [self.journal.trouble, self._keyless, *(part.trouble for part in parts if part)]
        return list(dict.fromkeys(filter(None, found)))  # most often the store's, heard from all

    def now(self) -> RecordsNow:
        ingester = self._ingester
        return RecordsNow(
            store_up=not self.journal.trouble,
            audit_up=not self.troubles(),
            spool_bytes=self._waiting,
            taken=ingester.taken if ingester else 0,
            damaged=ingester.damaged if ingester else 0,
            checkpoints_sent=sum(it.sent for it in self._publishers),
            checkpoints_failed=sum(it.failed for it in self._publishers),
        )


def instance() -> str:
    """What this sidecar is called in the entries that it writes."""
    return socket.gethostname()


class _Keyless:
    """An audit log that could be neither sealed nor signed: changes are refused. The spool needs no keys, so
    what goes there, such as the release of a kill, waits for a start with them.
    """

    def __init__(self, why: str, spool: Spool, hasty: Spool) -> None:
        self._why = why
        self._spool = spool
        self._hasty = hasty
        self._noting = threading.Lock()

    def entry(self, action: str, outcome: Outcome = Outcome.ACCEPTED, **fields: Any) -> Entry:
        return Entry(action=action, outcome=outcome, at=rfc3339(wall()), **fields)

    async def record(self, entry: Entry) -> int:
        raise StoreError(self._why)

    def note(self, entry: Entry, *, sync: bool = True) -> None:
        if not sync:
            self._hasty.add(spooled(entry))
            return
        with self._noting:
            self._spool.add(spooled(entry), sync=True)

    async def find(
        self, wanted: AuditFilter, *, subject: str, before: int | None, limit: int, opened: bool
    ) -> AuditPage:
        raise StoreError(self._why)

    async def verify(self) -> Mapping[str, Any]:
        raise StoreError(self._why)

    async def checkpoint(self) -> StoredCheckpoint | None:
        raise StoreError(self._why)
