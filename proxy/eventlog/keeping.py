"""What is deleted of the event log: what is too old, and the oldest where it is too large."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from proxy.core.events import EventsSettings
from proxy.eventlog.files import NDJSON, SUFFIX, finished
from proxy.eventlog.sources import KINDS, STREAMS, partitions

DAY_S = 86_400
LOCK = "lock"
"""Held shared by whoever reads, alone by whoever takes files away."""
COMPACTING = "compacting.lock"
"""Held by whoever compacts."""


class _File(NamedTuple):
    ends: float  # wall time: nothing in it is younger
    stream: str
    path: Path
    size: int


def tidy(directory: Path, settings: EventsSettings, now: float) -> list[Path]:
    """Delete what is to be deleted at wall time `now`; which files these were.

    Nothing while somebody reads: the next time will do. Files that are being written stay in any case.
    """
    with locked(directory / LOCK, alone=True, wait=False) as held:
        if not held:
            return []
        days = {
            "error": settings.error_retention_days,
            "error_critical": settings.critical_retention_days,
            "aggregate": settings.aggregate_retention_days,
        }
        files = sorted(_files(directory))
        over = sum(it.size for it in files) - settings.max_bytes
        gone = []
        for it in files:
            old = it.ends < now - days.get(it.stream, settings.retention_days) * DAY_S
            large = over > 0 and it.stream != "aggregate"  # those are as good as nothing
            if (old or large) and (it.path.suffix != SUFFIX or finished(it.path)):
                with suppress(FileNotFoundError):
                    it.path.unlink()
                    gone.append(it.path)
                over -= it.size
        for folder in {path.parent for path in gone if path.suffix != SUFFIX}:
            with suppress(OSError):  # it still holds something
                folder.rmdir()
        return gone


@contextmanager
def locked(path: Path, *, alone: bool, wait: bool = True) -> Iterator[bool]:
    """Hold a lock while this lasts; whether it could be had. Readers go on where there can be none."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # read-only, or somebody else's: it is only looked at
        yield not alone
        return
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        yield False
    except OSError:
        yield not alone
    else:
        yield True
    finally:
        os.close(handle)


def _files(directory: Path) -> Iterator[_File]:
    for stream in _streams():
        with suppress(FileNotFoundError):
            for path in (directory / NDJSON / stream).iterdir():
                with suppress(FileNotFoundError):
                    status = path.stat()
                    yield _File(status.st_mtime, stream, path, status.st_size)
    for kind in KINDS:
        for day, path in partitions(directory, kind):
            stream = next(it for it in reversed(STREAMS[kind]) if path.name.startswith(it))
            ends = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() + DAY_S
            with suppress(FileNotFoundError):
                yield _File(ends, stream, path, path.stat().st_size)


def _streams() -> Sequence[str]:
    return [stream for streams in STREAMS.values() for stream in streams]
