"""What the audit log costs: recording, noting, taking in, verifying; on SQLite and, where it is, PostgreSQL.

`record` is what an admin change waits for before its effect: one transaction, durable on return (SQLite with
synchronous=FULL, PostgreSQL with fsync). Whoever waits at the same time shares a commit. `note` is a frame in
the spool, with and without fdatasync. The disk is that of --directory.
"""

import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Unusable
from report import Finding, Spread, finish, options, script, table

from proxy.clock import rfc3339, wall
from proxy.control.audit import AuditLog
from proxy.control.audit_ingest import Ingester
from proxy.control.audit_upkeep import Upkeep
from proxy.control.audit_verify import verify
from proxy.core.audit import Entry, Outcome, spooled
from proxy.core.audit_settings import Audit
from proxy.core.checkpoint import Signer
from proxy.core.sealing import Sealer
from proxy.demo.processes import free_port
from proxy.storage.journal import StoreJournal
from proxy.storage.spool import SpoolFile, SpoolReader
from proxy.storage.stores import open_store

CONCURRENT = (1, 16, 64)
PEOPLE = 20_000
SPOOL_BYTES = 4 * 1024**3


def change(number: int) -> Entry:
    """An admin change, nothing sealed."""
    return Entry(
        action="breaker.open",
        outcome=Outcome.ACCEPTED,
        at=rfc3339(wall()),
        actor="alice",
        role="operator",
        target="content",
        before={"forced": None},
        after={"forced": "open"},
        reason="answers are slow since the deploy of 14:05",
        address="10.0.0.7",
        request_id=f"{number:032x}",
        instance="sidecar-1",
    )


def action(number: int) -> Entry:
    """A user action as the wire gives it, its personal fields sealed."""
    user = f"user-{number % PEOPLE}"
    return Entry(
        action="user.plan_change",
        outcome=Outcome.DONE,
        at=rfc3339(wall()),
        actor=user,
        subject=user,
        target=f"plan-{number % 7}",
        before={"plan": "basic"},
        after={"plan": "gold"},
        address="203.0.113.9",
        request_id=f"{number:032x}",
        instance="sidecar-1",
        status=200,
        private=("actor", "subject", "target", "before", "after", "reason", "address"),
    )


def mixed(number: int) -> Entry:
    return action(number) if number % 2 else change(number)


class Lab:
    """One store at `url` with all that works on it."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url, self.directory = url, directory
        self.sealer = Sealer(b"m" * 32, os.urandom)
        self.signer = Signer("benchmark", b"s" * 32)
        self.journal = StoreJournal(lambda: open_store(url, directory), "benchmark", wait_s=60.0)
        self.journal.start()
        self.spool = SpoolFile(directory / "spool", limit=SPOOL_BYTES)
        self.ingester = Ingester(self.journal, SpoolReader(directory / "spool"), self.sealer)
        self.log = AuditLog(
            self.journal,
            self.spool,
            self.sealer,
            hasty=self.spool,
            wake=self.ingester.wake,
            drain=self.ingester.drain,
        )
        settings = Audit(checkpoint_entries=1_000)
        self.upkeep = Upkeep(self.journal, self.signer, self.sealer, settings, last=None)

    async def record(self, concurrent: int, seconds: float) -> dict[str, float]:
        """Changes recorded by so many who each wait for theirs; latencies in ms."""
        took: list[float] = []
        end = time.perf_counter() + seconds

        async def one(number: int) -> None:
            while time.perf_counter() < end:
                began = time.perf_counter()
                await self.log.record(change(number))
                took.append(1000 * (time.perf_counter() - began))

        began = time.perf_counter()
        await asyncio.gather(*map(one, range(concurrent)))
        cuts = statistics.quantiles(took, n=100)
        return {
            "per_s": len(took) / (time.perf_counter() - began),
            "p50_ms": cuts[49],
            "p99_ms": cuts[98],
        }

    def note(self, seconds: float, *, sync: bool) -> float:
        """Notes per second, into a spool that nobody reads."""
        spool = SpoolFile(self.directory / "notes", limit=SPOOL_BYTES)
        log = AuditLog(
            self.journal, spool, self.sealer, hasty=spool, wake=self.ingester.wake, drain=self.ingester.drain
        )
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            log.note(action(count), sync=sync)
            count += 1
        rate = count / (time.perf_counter() - began)
        spool.close()
        shutil.rmtree(self.directory / "notes")
        return rate

    async def take_in(self, count: int) -> float:
        """Entries per second from the spool into the log, checkpoints and segments as they come due."""
        for number in range(count):
            self.spool.add(spooled(mixed(number)))
        began, done = time.perf_counter(), asyncio.Event()

        async def keep() -> None:
            while not done.is_set():
                await self.upkeep.look()
                await asyncio.sleep(0.2)

        keeper = asyncio.get_running_loop().create_task(keep())
        await self.ingester.drain()
        rate = count / (time.perf_counter() - began)
        done.set()
        await keeper
        await self.upkeep.checkpoint()
        return rate

    def verify(self) -> tuple[int, float]:
        """How many entries, and the seconds that took."""
        store = open_store(self.url, self.directory)
        began = time.perf_counter()
        report = store.read(lambda it: verify(it.audit, [self.signer.verifier], (), self.sealer))
        took = time.perf_counter() - began
        store.close()
        if not report.ok:
            raise Unusable(f"the log does not verify: {report.findings[0]}")
        return report.entries, took


@contextmanager
def postgres(directory: Path) -> Iterator[str]:
    """The url of a server of our own; Unusable when its programs are not there."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise Unusable("PostgreSQL is not installed")
    if find_spec("psycopg") is None:
        raise Unusable("psycopg is not installed (pip install -e '.[bench]')")
    programs, data, port = found[-1].parent, directory / "postgres", free_port()
    data.mkdir()
    who = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if who:
        shutil.chown(data, "postgres", "postgres")
        directory.chmod(0o755)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": data}
    subprocess.run(
        [programs / "initdb", "-D", data / "data", "-U", "fusebox", "-A", "trust", "-E", "UTF8"],
        check=True, **quiet, **who,
    )  # fmt: skip
    server = subprocess.Popen(
        [programs / "postgres", "-D", data / "data", "-p", str(port), "-k", data, "-h", "127.0.0.1"],
        **quiet, **who,
    )  # fmt: skip
    try:
        for _ in range(200):
            ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            if subprocess.run(ready, check=False).returncode == 0:
                break
            time.sleep(0.05)
        yield f"postgresql://fusebox@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(2)  # SIGINT: a fast shutdown
        server.wait(30)


async def measured(
    name: str, url: str, directory: Path, chosen: Namespace, entries: int
) -> dict[str, object]:
    lab = Lab(url, directory)
    row: dict[str, object] = {"store": name}
    for concurrent in CONCURRENT:
        rounds = [await lab.record(concurrent, chosen.seconds) for _ in range(chosen.rounds)]
        for key in ("per_s", "p50_ms", "p99_ms"):
            row[f"record_{concurrent}_{key}"] = [it[key] for it in rounds]
    row["note_per_s"] = [lab.note(chosen.seconds, sync=False) for _ in range(chosen.rounds)]
    row["note_sync_per_s"] = [lab.note(chosen.seconds, sync=True) for _ in range(chosen.rounds)]
    row["ingest_per_s"] = [await lab.take_in(entries)]
    size = await lab.journal.read(lambda it: it.audit.tree().size)
    await lab.journal.close()
    lab.spool.close()
    row["entries"] = size
    if url.startswith("sqlite"):
        row["bytes_per_entry"] = (directory / "log.db").stat().st_size / size
    seconds = [lab.verify() for _ in range(chosen.rounds)]
    row["verify_s"] = [it[1] for it in seconds]
    row["verify_per_s"] = [it[0] / it[1] for it in seconds]
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def spread(values: object) -> Spread:
    assert isinstance(values, list)
    return Spread(statistics.median(values), min(values), max(values))


def tell(rows: list[dict[str, object]]) -> None:
    lines = []
    for row in rows:
        for concurrent in CONCURRENT:
            shown = [
                spread(row[f"record_{concurrent}_{key}"]).show(digits) for key, digits in _RECORD.items()
            ]
            lines.append([f"{row['store']}: record, {concurrent} at once", *shown])
        for name, key in _RATES.items():
            lines.append([f"{row['store']}: {name}", spread(row[key]).show(0), "", ""])
    print(table(["", "entries/s", "p50 ms", "p99 ms"], lines))


_RECORD = {"per_s": 0, "p50_ms": 2, "p99_ms": 2}
_RATES = {
    "note": "note_per_s",
    "note, fdatasync": "note_sync_per_s",
    "taken in from the spool": "ingest_per_s",
    "verified": "verify_per_s",
}


def main() -> int:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run of record and note")
    parser.add_argument("--entries", type=int, default=1_000_000, help="that are taken in and verified")
    parser.add_argument("--postgres-entries", type=int, default=100_000, help="the same for PostgreSQL")
    parser.add_argument("--directory", type=Path, help="where stores are made (a temporary one)")
    parser.add_argument("--no-postgres", action="store_true", help="SQLite only")
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=chosen.directory, prefix="fusebox-audit-") as made:
        home = Path(made)
        (home / "sqlite").mkdir()
        (home / "pg").mkdir()
        sqlite = "sqlite:///log.db"
        rows.append(asyncio.run(measured("SQLite", sqlite, home / "sqlite", chosen, chosen.entries)))
        if not chosen.no_postgres:
            try:
                with postgres(home) as url:
                    count = chosen.postgres_entries
                    rows.append(asyncio.run(measured("PostgreSQL", url, home / "pg", chosen, count)))
            except Unusable as problem:
                print(f"{problem}: SQLite only", file=sys.stderr)
    tell(rows)
    kept = rows[0]
    per_million = [1e6 / value for value in kept["verify_per_s"]]
    findings = [
        Finding(text="seconds to verify 1 M entries (SQLite)", value=spread(per_million), at_most=60),
        Finding(text="ms that record adds to a change, p50", value=spread(kept["record_1_p50_ms"])),
        Finding(text="ms that record adds to a change, p99", value=spread(kept["record_1_p99_ms"])),
        Finding(text="bytes per entry (SQLite)", value=spread([kept["bytes_per_entry"]]), digits=0),
    ]
    return finish("audit", chosen, rows, findings)


if __name__ == "__main__":
    script(main)
