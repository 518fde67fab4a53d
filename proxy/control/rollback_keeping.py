"""The state of the rollback kept on disk, and its transitions in the audit log, behind what they did.

Nobody waits for a disk longer than `PATIENCE_S`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from proxy.core.audit import Entry
from proxy.ports import RollbackStore, StoreError
from proxy.ports.audit import AuditTrail
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.rollback")

PATIENCE_S = 2.0
"""What putting something in force waits for it to be remembered first."""
MOST_NOTES = 200
"""Transitions that wait for the audit log; what comes beyond is only in the log."""


class RollbackKeeper:
    """`content` gives what is to be kept, as it is when it is asked."""

    def __init__(self, store: RollbackStore, trail: AuditTrail, content: Callable[[], bytes]) -> None:
        self.trouble = ""
        """Why a restart would not find the state as it is; empty: it would, or it is being written."""
        self.persisted = True
        self._store = store
        self._trail = trail
        self._content = content
        self._stale = False
        self._saving: asyncio.Task[None] | None = None
        self._notes: deque[Entry] = deque()
        self._noting: asyncio.Task[None] | None = None

    async def save(self, patience_s: float = PATIENCE_S) -> None:
        """What `content` gives from now on is on the disk on return, or `persisted` is false."""
        self._stale, self.persisted = True, False
        if self._saving is None or self._saving.done():
            self._saving = spawn(self._save(), "state of the rollback")
        await asyncio.wait([self._saving], timeout=patience_s)

    async def _save(self) -> None:
        while self._stale:
            self._stale = False
            try:
                await asyncio.to_thread(self._store.save, self._content())
            except StoreError as error:
                told = f"a restart would forget the state of the rollback: {error}"
                if told != self.trouble:
                    _log.error("%s", told)
                self.trouble = told
            else:
                self.persisted, self.trouble = not self._stale, ""

    def note(self, entry: Entry) -> None:
        """Into the audit log, in order, without anybody waiting."""
        if len(self._notes) >= MOST_NOTES:
            _log.error("%s is not in the audit log: too many wait", entry.action)
            return
        self._notes.append(entry)
        if self._noting is None or self._noting.done():
            self._noting = spawn(self._note(), "transitions of the rollback")

    async def _note(self) -> None:
        while self._notes:
            entry = self._notes[0]
            try:
                await asyncio.to_thread(self._trail.note, entry)
            except StoreError as error:
                _log.error("%s is not in the audit log: %s", entry.action, error)
            self._notes.popleft()

    async def settled(self, patience_s: float) -> None:
        """What was said so far is written, or could not be."""
        running = [it for it in (self._saving, self._noting) if it is not None and not it.done()]
        if running:
            await asyncio.wait(running, timeout=patience_s)
