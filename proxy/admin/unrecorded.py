"""Stands for the audit log where none is composed: changes are in the log on stdout alone."""

from collections.abc import Mapping
from typing import Any

from proxy.clock import rfc3339, wall
from proxy.core.audit import Entry, Outcome
from proxy.ports import StoreError
from proxy.ports.audit import AuditPage
from proxy.ports.records import AuditFilter, StoredCheckpoint


class Unrecorded:
    """An `AuditTrail` and `AuditReader` that keeps nothing and says so when read."""

    def entry(self, action: str, outcome: Outcome = Outcome.ACCEPTED, **fields: Any) -> Entry:
        return Entry(action=action, outcome=outcome, at=rfc3339(wall()), **fields)

    async def record(self, entry: Entry) -> int:
        return 0

    def note(self, entry: Entry, *, sync: bool = True) -> None: ...

    async def find(
        self, wanted: AuditFilter, *, subject: str, before: int | None, limit: int, opened: bool
    ) -> AuditPage:
        raise StoreError("this sidecar runs without an audit log")

    async def verify(self) -> Mapping[str, Any]:
        raise StoreError("this sidecar runs without an audit log")

    async def checkpoint(self) -> StoredCheckpoint | None:
        raise StoreError("this sidecar runs without an audit log")


NO_STORE = Unrecorded()
