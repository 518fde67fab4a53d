"""NDJSON files: written by one process each, one after the other; read by anybody.

A file lies in the directory of its stream: a kind of events or, of errors that are kept longer,
`error_critical`. Its living writer holds a lock (flock) on it, which the kernel takes away with the process:
so whoever asks knows which files are finished. Lines are written whole; a writer that was killed in the
middle leaves at most one torn line, at the very end.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from proxy.core.events import Fsync

NDJSON = "ndjson"
SUFFIX = ".ndjson"


class Stream:
    """The files of one stream of this process. Nothing is made before something is to be written."""

    def __init__(self, directory: Path, series: str, *, fsync: Fsync) -> None:
        """`series` is in the names of the files and nobody else's."""
        self._directory = directory
        self._series = series
        self._fsync = fsync
        self._number = 0
        self._handle = -1
        self.size = 0
        """Bytes in the present file."""
        self.since = 0.0
        """When it was begun."""

    def write(self, lines: bytes, now: float, wall: float) -> None:
        """Append whole lines. OSError: none of them is there, and what was there before still is."""
        if self._handle < 0:
            self._begin(now, wall)
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
            if self._fsync == "batch":
                os.fdatasync(self._handle)
        except OSError:
            try:
                os.ftruncate(self._handle, self.size)  # needs no room
            except OSError:
                self.close()  # a torn line then, but at the end of a file
            raise
        self.size += len(lines)

    def close(self) -> None:
        """Finish the present file; writing begins another one."""
        handle, self._handle = self._handle, -1
        self.size = 0
        if handle < 0:
            return
        with suppress(OSError):
            if self._fsync != "never":
                os.fdatasync(handle)
        os.close(handle)  # and with it goes the lock

    def _begin(self, now: float, wall: float) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%S")
        path = self._directory / f"{stamp}-{self._series}-{self._number:06d}{SUFFIX}"
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._number += 1
        with suppress(OSError):  # where there are no locks no file is ever known to be finished
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._handle, self.size, self.since = handle, 0, now


def listed(directory: Path) -> list[Path]:
    """The files of one stream that hold anything, the oldest first."""
    return sorted(path for path, size in _sizes(directory) if size)


def finished(path: Path) -> bool:
    """Whether its writer is done with it, or dead. A file that is gone is."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _sizes(directory: Path) -> Iterator[tuple[Path, int]]:
    with suppress(FileNotFoundError), os.scandir(directory) as found:
        for it in found:
            if it.name.endswith(SUFFIX):
                with suppress(FileNotFoundError):
                    yield Path(it.path), it.stat(follow_symlinks=False).st_size
