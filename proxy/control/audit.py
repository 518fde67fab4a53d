"""The audit log: two ways in, and forgetting a person.

`record` is one transaction in the store and durable on return: for changes, before their effect, so that
what cannot be recorded does not happen (design rule 1). `note` waits durably in the spool until the store
takes it: for what must not wait for the store, or has to work without it.
"""

import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from proxy.clock import Clock, rfc3339, wall
from proxy.core.audit import Entry, Outcome, document, private_fields, row, spooled
from proxy.core.sealing import Sealer
from proxy.ports import StoreError
from proxy.ports.records import AuditRecords, Journal, Records, Spool, SubjectKey

ERASED = "audit.subject_erased"
KEY_DAMAGED = "audit.key_damaged"


def append(records: Records, entries: Sequence[Entry], sealer: Sealer) -> int:
    """Put entries on the tree, inside a transaction; the number of the first.

    A subject's key that somebody has damaged is replaced, which is an entry after the others: what it
    had sealed is lost already, and what comes must not be lost with it.
    """
    log = records.audit
    tree = log.tree()
    if not tree.whole():
        raise StoreError(f"the tree of the audit log, over {tree.size} entries, is damaged: restore a backup")
    keys = _Keys(log, sealer)
    rows = [row(keys.document(entry, seq)) for seq, entry in enumerate(entries, tree.size)]
    for seq, key_id in enumerate(keys.damaged, tree.size + len(rows)):
        lost = Entry(
            action=KEY_DAMAGED,
            outcome=Outcome.FAILED,
            at=entries[-1].at,
            actor="fusebox",
            target=key_id,
            reason="could not be unwrapped; what it had sealed cannot be opened any more",
        )
        rows.append(row(document(lost, seq)))
    log.append(rows, tree.extend(it.leaf for it in rows))
    return tree.size


class AuditLog:
    """What services write to.

    `wake` is called after each note, from whatever thread noted it; `drain` takes in what waits in the spool.
    The event loop alone writes to `hasty`: a disk that is slow for somebody else must not hold it up.
    """

    def __init__(
        self,
        journal: Journal,
        spool: Spool,
        sealer: Sealer,
        *,
        hasty: Spool,
        wake: Callable[[], None],
        drain: Callable[[], Awaitable[object]],
        instance: str = "",
        wall: Clock = wall,
    ) -> None:
        self._journal = journal
        self._spool = spool
        self._hasty = hasty
        self._sealer = sealer
        self._wake = wake
        self._drain = drain
        self._instance = instance
        self._wall = wall
        self._noting = threading.Lock()

    def entry(self, action: str, outcome: Outcome = Outcome.ACCEPTED, **fields: Any) -> Entry:
        """An entry of this instance, now. Without an actor it is the sidecar's own."""
        said = {"actor": "fusebox", "instance": self._instance} | fields
        return Entry(action=action, outcome=outcome, at=rfc3339(self._wall()), **said)

    async def record(self, entry: Entry) -> int:
        """The entry's number, once it is durable in the store; StoreError: it is not recorded."""
        return await self._journal.write(lambda records: append(records, (entry,), self._sealer))

    def note(self, entry: Entry, *, sync: bool = True) -> None:
        """Kept in the spool on return, with `sync` against loss of power too; StoreError: it is not.

        With `sync` it waits for the disk, so call it in a worker thread; without, in the event loop only.
        """
        if sync:
            with self._noting:
                self._spool.add(spooled(entry), sync=True)
        else:
            self._hasty.add(spooled(entry))
        self._wake()

    async def erase_subject(self, subject: str, **fields: Any) -> bool:
        """Make what is sealed under this subject's key unreadable for ever; whether there was any.

        Recorded in the same transaction, by the id of the key and without the name. `fields` are the
        entry's: actor, role, reason, address, request_id. What waits in the spool is taken in before, or
        it would be sealed under a new key afterwards. StoreError: nothing was erased.
        """
        await self._drain()
        tag = self._sealer.tag(subject)

        def erase(records: Records) -> bool:
            key = records.audit.key_by_tag(tag)
            said = {"target": key.key_id if key else "", "after": {"found": key is not None}}
            append(records, (self.entry(ERASED, **(fields | said)),), self._sealer)
            return records.audit.erase_key(tag)

        return await self._journal.write(erase)


class _Keys:
    """Keys of subjects during one transaction; after it, anybody may have been erased."""

    def __init__(self, log: AuditRecords, sealer: Sealer) -> None:
        self._log = log
        self._sealer = sealer
        self._known: dict[str, tuple[str, bytes]] = {}
        self.damaged: list[str] = []  # ids of keys that had to be replaced

    def document(self, entry: Entry, seq: int) -> bytes:
        if not entry.private:
            return document(entry, seq)
        key_id, key = self._known.get(entry.subject) or self._key(entry.subject)
        box = self._sealer.seal(key, key_id, entry.action, private_fields(entry))
        return document(entry, seq, key_id=key_id, box=box)

    def _key(self, subject: str) -> tuple[str, bytes]:
        tag = self._sealer.tag(subject)
        found = self._kept(tag) or self._new(tag)
        self._known[subject] = found
        return found

    def _kept(self, tag: bytes) -> tuple[str, bytes] | None:
        if (kept := self._log.key_by_tag(tag)) is None:
            return None
        try:
            return kept.key_id, self._sealer.unwrap(kept.key_id, tag, kept.wrapped)
        except ValueError:
            self._log.erase_key(tag)
            self.damaged.append(kept.key_id)
            return None

    def _new(self, tag: bytes) -> tuple[str, bytes]:
        key_id, wrapped = self._sealer.new_key(tag)
        self._log.add_key(SubjectKey(key_id=key_id, tag=tag, wrapped=wrapped))
        return key_id, self._sealer.unwrap(key_id, tag, wrapped)
