"""An audit log in a store of its own, for commands that read it."""

import random
import sqlite3

from proxy.clock import rfc3339
from proxy.control.audit import append
from proxy.core.audit import Entry, Outcome, parse
from proxy.core.checkpoint import Signer
from proxy.core.sealing import Sealer
from proxy.ports.records import StoredCheckpoint
from proxy.storage.audit_keys import load_or_make
from proxy.storage.spool import SpoolReader
from proxy.storage.sqlite import SqliteStore

START = 1_767_323_045.0  # 2026-01-02T03:04:05Z
EVIL = "=HYPERLINK(1)"


def entry(number, **fields):
    said = {"action": "test.done", "outcome": Outcome.DONE, "actor": "alice"}
    return Entry(at=rfc3339(START + 60 * number), **said | fields)


class Kept:
    """A store with 20 entries, every second sealed, and a checkpoint over 15; `config` points to it."""

    def __init__(self, config):
        self.config = config
        self.state = config.parent / "var"
        keys = load_or_make(self.state / "audit.key")
        self.signer = Signer("fusebox", keys.signing)
        self.sealer = Sealer(keys.master, random.Random(1).randbytes)
        self.path = self.state / "fusebox.db"
        with_subject = {"subject": "user-1", "private": ("subject", "reason"), "reason": "my secret"}
        entries = [entry(number, **with_subject if number % 2 else {"target": EVIL}) for number in range(20)]
        self.write(lambda it: append(it, entries[:15], self.sealer))
        self.note = self.write(self._sign)
        self.write(lambda it: append(it, entries[15:], self.sealer))

    def _sign(self, records):
        tree, at = records.audit.tree(), rfc3339(START)
        note = self.signer.checkpoint(tree.size, tree.root(), at)
        records.audit.add_checkpoint(StoredCheckpoint(size=tree.size, root=tree.root(), at=at, note=note))
        return note

    def write(self, work):
        store = SqliteStore(self.path)
        try:
            return store.write(work)
        finally:
            store.close()

    def sql(self, statement):
        with sqlite3.connect(self.path) as connection:
            connection.execute(statement)
        connection.close()

    def spooled(self):
        reader = SpoolReader(self.state / "spool")
        return [parse(data) for name in reader.files() for data in reader.read(name, 0, 100).entries]
