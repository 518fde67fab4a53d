"""NDJSON made Parquet, by day: every event is in exactly one file, also when this is killed at any point.

Finished files of a stream are read and written anew below `staging/`. Then `compacting.json` names both: from
that moment on the new ones count and the old ones do not. Only after it they are put in their place, and
deleted. Whoever finds that file finishes what it says; whoever finds `staging/` without it deletes that.

    DIRECTORY/staging/BATCH/event_date=2026-11-25/STREAM-BATCH-0.parquet
    DIRECTORY/parquet/KIND/event_date=2026-11-25/STREAM-BATCH-0.parquet
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypedDict

import orjson

from proxy.core.events import COLUMNS, Kind
from proxy.eventlog.aggregates import aggregate
from proxy.eventlog.duck import connected, lines, needed, quoted, torn
from proxy.eventlog.files import NDJSON, finished, listed
from proxy.eventlog.keeping import COMPACTING, LOCK, locked
from proxy.eventlog.sources import JOURNAL, KINDS, PARQUET, STAGING, STREAMS
from proxy.eventlog.templates import QueryError, day

_BATCH_BYTES = 256 * 1024 * 1024
"""NDJSON that is read for one batch, about."""


class Entry(TypedDict):
    """The journal, in paths below the directory."""

    inputs: list[str]
    outputs: list[tuple[str, str]]  # where it is, where it belongs


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What one run did."""

    files: int = 0  # of NDJSON
    events: int = 0
    torn: int = 0  # lines that could not be read, of writers that were killed
    parquet: int = 0  # files made
    bytes_before: int = 0
    bytes_after: int = 0
    days: int = 0  # that were summed

    def __add__(self, other: "Compacted") -> "Compacted":
        sums = {it.name: getattr(self, it.name) + getattr(other, it.name) for it in fields(self)}
        return Compacted(**sums)


def compact(directory: Path, now: float) -> Compacted:
    """Make Parquet of all finished files, and aggregates of the days before wall time `now`.

    QueryError when that cannot be; then nothing is lost.
    """
    needed("duckdb")
    if not directory.is_dir():
        raise QueryError(f"{directory}: there is no event log: [events] of the settings names it")
    done = Compacted()
    try:
        with locked(directory / COMPACTING, alone=True, wait=False) as held:
            if not held:
                raise QueryError(f"{directory}: it is being compacted already, or cannot be written")
            recover(directory)
            for kind in KINDS:
                for stream in STREAMS[kind]:
                    for batch in _batches(directory / NDJSON / stream):
                        done += _compact(directory, kind, stream, batch)
            done += Compacted(days=aggregate(directory, day(now)))
    except OSError as error:
        raise QueryError(f"{directory}: cannot be compacted: {error.strerror or error}") from error
    return done


def recover(directory: Path) -> None:
    """Finish what a run that was killed had decided, and forget what it had not."""
    journal = directory / JOURNAL
    if journal.exists():
        with locked(directory / LOCK, alone=True):
            _finish(directory, orjson.loads(journal.read_bytes()))
    shutil.rmtree(directory / STAGING, ignore_errors=True)


def _batches(directory: Path) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in filter(finished, listed(directory)):
        with suppress(FileNotFoundError):  # it was too old
            size += path.stat().st_size
            batch.append(path)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _compact(directory: Path, kind: Kind, stream: str, batch: Sequence[Path]) -> Compacted:
    name = secrets.token_hex(8)
    staged = directory / STAGING / name
    staged.mkdir(mode=0o700, parents=True)
    with connected() as connection:
        unread = torn(connection, kind, batch)
        columns = ", ".join(COLUMNS[kind])
        (events,) = connection.execute(
            f"COPY (FROM {lines(kind, batch)} SELECT {columns} WHERE timestamp_ms IS NOT NULL) "
            f"TO '{quoted(staged)}' (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (event_date), "
            f"OVERWRITE_OR_IGNORE, FILENAME_PATTERN '{stream}-{name}-{{i}}')"
        ).fetchall()[0]
    made = sorted(staged.glob("event_date=*/*.parquet"))
    for path in made:
        path.chmod(0o600)
        _sync(path)
        _sync(path.parent)
    after = sum(path.stat().st_size for path in made)
    before = sum(path.stat().st_size for path in batch)
    entry: Entry = {
        "inputs": [str(path.relative_to(directory)) for path in batch],
        "outputs": [
            (str(path.relative_to(directory)), f"{PARQUET}/{kind}/{path.parent.name}/{path.name}")
            for path in made
        ],
    }
    with locked(directory / LOCK, alone=True):
        _decide(directory, entry)
        _finish(directory, entry)
    shutil.rmtree(staged, ignore_errors=True)
    return Compacted(
        files=len(batch),
        events=events,
        torn=unread,
        parquet=len(made),
        bytes_before=before,
        bytes_after=after,
    )


def _decide(directory: Path, entry: Entry) -> None:
    """From when this returns the outputs count, and the inputs do not."""
    beside = directory / f".{JOURNAL}"
    beside.write_bytes(orjson.dumps(entry))
    _sync(beside)
    beside.replace(directory / JOURNAL)
    _sync(directory)


def _finish(directory: Path, entry: Entry) -> None:
    """Put the outputs in their place and delete the inputs, as far as that is not done."""
    for staged, place in entry["outputs"]:
        target = directory / place
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # it is there already
            (directory / staged).rename(target)
        _sync(target.parent)
    for name in entry["inputs"]:
        (directory / name).unlink(missing_ok=True)
    (directory / JOURNAL).unlink()
    _sync(directory)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
