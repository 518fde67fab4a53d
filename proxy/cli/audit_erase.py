"""Forgetting a person, from the command line: the key that seals what is recorded about them is deleted."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TypeVar

from proxy.clock import monotonic
from proxy.control.audit import AuditLog
from proxy.control.audit_ingest import Ingester
from proxy.core.sealing import Sealer
from proxy.ports import StoreError
from proxy.ports.records import Records, SpoolReader, Store
from proxy.settings import Settings
from proxy.storage import directory
from proxy.storage.spool import NO_LIMIT, SpoolFile
from proxy.storage.spool import SpoolReader as SpoolFiles

T = TypeVar("T")

PATIENCE_S = 60.0
"""For a running sidecar to take in what it has spooled: one whose store was gone tries every 30 s."""

POLL_S = 0.2


class Direct:
    """A `Journal` for a command, whose event loop has nobody else to serve: the store, as it is."""

    trouble = ""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def write(self, work: Callable[[Records], T]) -> T:
        return self._store.write(work)

    async def read(self, work: Callable[[Records], T]) -> T:
        return self._store.read(work)


async def erase(settings: Settings, store: Store, sealer: Sealer, subject: str, reason: str) -> bool:
    """Erase this subject, and record it; whether anything was sealed. StoreError: nothing was erased."""
    journal, reader = Direct(store), SpoolFiles(settings.spool_directory)
    ingester = Ingester(journal, reader, sealer)

    async def drain() -> None:
        await _taken_in(settings, ingester, store, reader)

    # Nothing is noted: erasing is recorded in the store, in the transaction that erases.
    with closing(SpoolFile(settings.spool_directory, limit=NO_LIMIT)) as spool:
        log = AuditLog(journal, spool, sealer, hasty=spool, wake=lambda: None, drain=drain)
        return await log.erase_subject(
            subject, actor="cli", reason=reason, address=f"local, uid {os.getuid()}"
        )


async def _taken_in(settings: Settings, ingester: Ingester, store: Store, reader: SpoolReader) -> None:
    """Return when what waits in the spool at this moment is in the store.

    One process takes it in: the sidecar, or without one this. Two might take in the same entries twice.
    """
    ends = _ends(store, reader)
    deadline = monotonic() + PATIENCE_S
    while True:
        try:
            with directory.hold(settings.state_directory):
                await ingester.drain()
                return
        except directory.InUse:
            if not _left(store, reader, ends):
                return
        if monotonic() > deadline:
            raise StoreError(
                f"{settings.spool_directory}: the sidecar that runs has not taken in what waits there within "
                f"{PATIENCE_S:g} s; nothing was erased:  fusebox status  says what is in its way"
            )
        await asyncio.sleep(POLL_S)


def _ends(store: Store, reader: SpoolReader) -> Mapping[str, int]:
    """How far each spool file is written that is not in the store yet."""
    ends = {}
    for name in reader.files():
        position = _position(store, name)
        end = reader.read(name, position, NO_LIMIT).position
        if end > position:
            ends[name] = end
    return ends


def _left(store: Store, reader: SpoolReader, ends: Mapping[str, int]) -> bool:
    there = set(reader.files())  # one that is in the store whole is deleted
    return any(name in there and _position(store, name) < end for name, end in ends.items())


def _position(store: Store, name: str) -> int:
    return store.read(lambda it: it.audit.spool_position(name))
