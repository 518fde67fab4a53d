"""The audit log as its writers and readers see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from proxy.core.audit import Entry, Outcome
from proxy.ports.records import AuditFilter, StoredCheckpoint


class AuditTrail(Protocol):
    """Where changes are recorded before they happen (design rule 1)."""

    def entry(self, action: str, outcome: Outcome = Outcome.ACCEPTED, **fields: Any) -> Entry:
        """An entry of this instance, now."""

    async def record(self, entry: Entry) -> int:
        """The entry's number, once it is durable in the store; StoreError: it is not recorded."""

    def note(self, entry: Entry, *, sync: bool = True) -> None:
        """Kept in the spool on return, needing no store; StoreError: it is not recorded.

        With `sync` it is kept against loss of power too, which waits for the disk: in a worker thread.
        Without, it waits for nobody: in the event loop only.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Entries, the newest first, as `core.audit.document` writes them; `next`: where to go on, or None."""

    entries: tuple[Mapping[str, Any], ...]
    next: int | None


class AuditReader(Protocol):
    async def find(
        self, wanted: AuditFilter, *, subject: str, before: int | None, limit: int, opened: bool
    ) -> AuditPage:
        """Entries with numbers below `before`; sealed fields are opened when `opened`."""

    async def verify(self) -> Mapping[str, Any]:
        """Verify the whole log; the report, with `ok`."""

    async def checkpoint(self) -> StoredCheckpoint | None:
        """The newest; None before the first."""


class CheckpointSink(Protocol):
    """A place where checkpoints are kept, out of reach of whoever can change the store."""

    @property
    def name(self) -> str:
        """How messages call it; no password in it."""

    async def send(self, note: str) -> None:
        """Kept there on return; OSError says why not. Ends within seconds."""


class LastSigned(Protocol):
    """The newest checkpoint, out of reach of whoever can change the store alone. Calls block."""

    @property
    def name(self) -> str:
        """How messages call it."""

    def read(self) -> str:
        """The signed note; empty before the first. StoreError when it cannot be read."""

    def write(self, note: str) -> None:
        """Kept on return; StoreError."""
