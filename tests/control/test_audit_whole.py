"""The whole log as a sidecar composes it: real journal, SQLite, spool, tasks, a sink; started twice."""

import asyncio
import os

from proxy.control.audit import AuditLog
from proxy.control.audit_ingest import Ingester
from proxy.control.audit_reading import AuditReading
from proxy.control.audit_upkeep import Upkeep
from proxy.control.audit_verify import verify
from proxy.control.publishing import Publisher
from proxy.core.audit import Outcome
from proxy.core.audit_settings import Audit
from proxy.core.checkpoint import Signer, notes
from proxy.core.sealing import Sealer
from proxy.ports.records import AuditFilter
from proxy.storage import audit_keys
from proxy.storage.checkpoint_sinks import sinks
from proxy.storage.journal import StoreJournal
from proxy.storage.last_signed import LastSignedFile
from proxy.storage.spool import SpoolFile, SpoolReader
from proxy.storage.sqlite import SqliteStore
from proxy.tasks import spawn


async def run(home, work):
    """Compose, start, work, stop: in this order."""
    keys = audit_keys.load_or_make(home / "audit.key")
    sealer = Sealer(keys.master, os.urandom)
    signer = Signer("fusebox", keys.signing)
    journal = StoreJournal(lambda: SqliteStore(home / "log.db"), "log.db")
    journal.start()
    spool = SpoolFile(home / "spool")
    ingester = Ingester(journal, SpoolReader(home / "spool"), sealer)
    publishers = [Publisher(sink) for sink in sinks(["file:checkpoints"], home)]
    settings = Audit(segment_entries=16, checkpoint_entries=10)
    upkeep = Upkeep(journal, signer, sealer, settings, publishers, last=LastSignedFile(home / "audit.last"))
    log = AuditLog(
        journal, spool, sealer, hasty=spool, wake=ingester.wake, drain=ingester.drain, instance="one"
    )
    reading = AuditReading(journal, sealer, [signer.verifier])
    tasks = [spawn(ingester.run(), "audit ingester"), spawn(upkeep.run(), "audit upkeep")]
    log.note(log.entry("sidecar.started", Outcome.DONE))
    await work(log, reading)
    log.note(log.entry("sidecar.stopped", Outcome.DONE))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    spool.close()
    await ingester.drain()
    await upkeep.finish(5.0)
    await journal.close()
    return signer.verifier


async def test_a_run_leaves_a_log_that_is_whole_and_signed(tmp_path):
    """Everything noted and recorded, in one order, verified by what the sink kept; then once more."""

    times = 0

    async def work(log, reading):
        seqs = await asyncio.gather(
            *(log.record(log.entry("breaker.open", actor=f"op{number}")) for number in range(40))
        )
        assert len(set(seqs)) == 40
        for number in range(40):
            log.note(
                log.entry("user.login", Outcome.DONE, subject=f"u{number % 3}", private=("subject",)),
                sync=False,
            )
        asked = AuditFilter(action="user.")
        async with asyncio.timeout(20):
            while len((await reading.find(asked, limit=99, opened=False)).entries) < 40 * times:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        found = await reading.find(AuditFilter(), subject="u1", limit=99, opened=True)
        assert {entry["subject"] for entry in found.entries} == {"u1"}
        assert await log.erase_subject("u1", actor="alice", reason="asked for")
        assert (await reading.verify())["ok"] is True

    for times in (1, 2):
        keys = [await run(tmp_path, work)]
        outside = [("checkpoints", note) for note in notes((tmp_path / "checkpoints").read_text())]
        store = SqliteStore(tmp_path / "log.db")
        report = store.read(lambda it, keys=keys, kept=outside: verify(it.audit, keys, kept))
        assert report.ok, report.findings
        assert report.size == report.signed == times * 83
        assert report.external == len(outside)
        assert store.read(lambda it: len(it.audit.segments())) >= 1
        assert store.check() == []
        store.close()
        assert list((tmp_path / "spool").iterdir()) == []
