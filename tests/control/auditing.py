"""A whole audit log on a real store, with clocks that a test sets."""

import random

from proxy.control.audit import AuditLog, append
from proxy.control.audit_ingest import Ingester
from proxy.control.audit_upkeep import Upkeep
from proxy.control.audit_verify import verify
from proxy.core.audit import Entry, Outcome
from proxy.core.audit_settings import Audit
from proxy.core.checkpoint import Signer
from proxy.core.sealing import Sealer
from proxy.ports import StoreError
from proxy.storage.last_signed import LastSignedFile
from proxy.storage.memory import MemoryStore
from proxy.storage.spool import SpoolFile, SpoolReader

DAY = 86_400.0
AT = "2026-01-02T03:04:05.000006Z"
START = 1_767_323_045.0  # 2026-01-02T03:04:05Z


class Direct:
    """A `Journal` that does it at once; `trouble` set by a test makes every call fail."""

    def __init__(self, store):
        self.store = store
        self.trouble = ""

    async def write(self, work):
        return self._done(self.store.write, work)

    async def read(self, work):
        return self._done(self.store.read, work)

    def _done(self, how, work):
        if self.trouble:
            raise StoreError(self.trouble)
        return how(work)


class Clock:
    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now


def entry(number=0, **fields):
    said = {"action": "test.done", "outcome": Outcome.DONE, "at": AT, "actor": f"a{number}"}
    return Entry(**said | fields)


def personal(number=0, subject="user-1", **fields):
    said = {"subject": subject, "private": ("actor", "subject", "reason"), "reason": f"r{number}"}
    return entry(number, **said | fields)


class Rig:
    """`store`, and everything that works on it. Nothing runs by itself."""

    def __init__(self, directory, store=None, *, publishers=(), seed=1, **settings):
        chance = random.Random(seed)
        self.store = store if store is not None else MemoryStore()
        self.journal = Direct(self.store)
        self.wall, self.monotonic = Clock(), Clock(1000.0)
        self.signer = Signer("log.test", b"s" * 32)
        self.sealer = Sealer(b"m" * 32, chance.randbytes)
        self.last = LastSignedFile(directory / "audit.last")
        self.spool = SpoolFile(directory / "spool")
        self.reader = SpoolReader(directory / "spool")
        self.ingester = Ingester(self.journal, self.reader, self.sealer, wall=self.wall, batch=7)
        self.settings = Audit(**{"segment_entries": 8, "checkpoint_entries": 10} | settings)
        self.publishers = publishers
        self.upkeep = self.fresh_upkeep()
        self.log = AuditLog(
            self.journal,
            self.spool,
            self.sealer,
            hasty=SpoolFile(directory / "spool"),
            wake=self.ingester.wake,
            drain=self.ingester.drain,
            instance="i1",
            wall=self.wall,
        )

    def fresh_upkeep(self):
        """As after a restart."""
        return Upkeep(
            self.journal,
            self.signer,
            self.sealer,
            self.settings,
            self.publishers,
            last=self.last,
            instance="i1",
            wall=self.wall,
            monotonic=self.monotonic,
        )

    def fill(self, count, make=entry):
        """Entries straight onto the tree."""
        self.store.write(lambda it: append(it, [make(number) for number in range(count)], self.sealer))

    def rows(self):
        return self.store.read(lambda it: list(it.audit.walk(0, 2**62)))

    def size(self):
        return self.store.read(lambda it: it.audit.tree().size)

    def checkpoints(self):
        return self.store.read(lambda it: it.audit.checkpoints())

    def segments(self):
        return self.store.read(lambda it: it.audit.segments())

    def verify(self, external=(), verifiers=None, *, sealer=True):
        keys = [self.signer.verifier] if verifiers is None else verifiers
        return self.store.read(lambda it: verify(it.audit, keys, external, self.sealer if sealer else None))
