"""The spool: where audit entries wait until the store has them.

Each writer has files of its own, one after the other. A file is a run of frames
`length u32 | crc32 u32 | bytes` (little-endian; crc32 of the bytes) in space that was allocated when the
file was made, so that what has room reserved cannot meet a full disk. A length of zero is where nothing is
written yet. The living writer holds a lock (flock) on its file, which the kernel takes away with the
process: so a reader knows whose end is final. A finished file is cut to what is in it.
"""

import fcntl
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NoReturn
from zlib import crc32

from proxy.clock import Clock, monotonic, wall
from proxy.ports import StoreError
from proxy.ports.records import Spool, SpoolBatch
from proxy.ports.records import SpoolReader as SpoolReaderPort

FRAME = struct.Struct("<II")
_HEAD = FRAME.size
MAX_ENTRY_BYTES = 1024 * 1024
SUFFIX = ".spool"

NO_LIMIT = 2**62
"""For what a person does by hand: a spool that users' actions have filled must not keep it from happening."""

_SEGMENT_BYTES = 1024 * 1024
_PAGE = 4096
_LOOK_S = 0.2
_serial = count()


class SpoolFile:
    """Writes entries; one process, one thread. `limit` bounds the files of all writers in `directory`.

    Nothing is made before something is to be written.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limit: int = 64 * 1024 * 1024,
        segment: int = _SEGMENT_BYTES,
        monotonic: Clock = monotonic,
    ) -> None:
        self.trouble = ""
        """Why there was no room when it was last asked for; empty: there was."""
        self._directory = directory
        self._limit = limit
        self._segment = min(segment, max(_PAGE, limit // 8))
        self._monotonic = monotonic
        self._series = f"{int(wall()):011d}-{os.getpid()}-{os.urandom(4).hex()}-{next(_serial)}"
        self._number = 0
        self._path = directory
        self._handle = -1  # of the present file; -1: there is none
        self._capacity = 0  # of the present file
        self._end = 0  # of what is written in it
        self._reserved = 0  # bytes of frames that were promised room
        self._named = False  # its name is on the disk, too
        self._look_at = 0.0

    def room(self, size: int) -> bool:
        """Reserve `size` bytes for one entry, given back by `add` or `release`; False: full."""
        need = _HEAD + size
        if self._end + self._reserved + need > self._capacity:
            try:
                self._renew(need)
            except StoreError as error:
                self.trouble = str(error)
                return False
        self._reserved += need
        self.trouble = ""
        return True

    def release(self, size: int) -> None:
        self._reserved -= _HEAD + size

    def add(self, entry: bytes, *, reserved: int = 0, sync: bool = False) -> None:
        """Kept against the death of this process on return, with `sync` against that of the machine too.

        `reserved` bytes of room are given back, whatever comes. StoreError when it cannot be kept.
        """
        length = len(entry)
        need = _HEAD + length
        if reserved:
            self._reserved -= _HEAD + reserved
        if not 0 < length <= MAX_ENTRY_BYTES:
            raise StoreError(f"{self._directory}: an entry of {length} bytes cannot be kept")
        try:
            if self._end + self._reserved + need > self._capacity or (
                self._monotonic() >= self._look_at and self._is_gone()
            ):
                self._renew(need)
            taken = os.pwrite(self._handle, FRAME.pack(length, crc32(entry)) + entry, self._end)
            if taken != need:
                _too_few(taken, need)
            self._end += need
            if sync:
                self._sync()
        except OSError as error:
            path = self._path
            self.close()
            raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Finish the present file: cut it to what is in it, and let go of it. Writing begins another one."""
        handle, self._handle = self._handle, -1
        self._capacity = 0
        if handle < 0:
            return
        with suppress(OSError):  # a disk that fails: the reader copes with what is there
            os.ftruncate(handle, self._end)
            if not self._end:
                self._path.unlink(missing_ok=True)
        os.close(handle)  # and with it goes the lock

    def _is_gone(self) -> bool:
        """Somebody deleted the file that is written; only finished ones are the reader's to delete.

        Looked at when `_look_at` has come, a few times a second: what was in it is gone in any case.
        """
        self._look_at = self._monotonic() + _LOOK_S
        return os.fstat(self._handle).st_nlink == 0

    def _sync(self) -> None:
        os.fdatasync(self._handle)
        if not self._named:
            for directory in (self._directory, self._directory.parent):
                with _opened(directory, os.O_RDONLY | os.O_DIRECTORY) as handle:
                    os.fsync(handle)
            self._named = True

    def _renew(self, need: int) -> None:
        """Go on in a new file that has room for `need` bytes and all that was promised."""
        need += self._reserved
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            left = self._limit - self._used()
            if need > left:
                raise StoreError(
                    f"{self._directory} is full: {self._limit} bytes wait for the store (audit.spool_bytes)"
                )
            capacity = max(need, min(self._segment, left))
            path, handle = self._allocated(capacity)
        except OSError as error:
            raise StoreError(f"{self._directory}: no room can be made: {error.strerror or error}") from error
        self.close()
        self._path, self._handle, self._capacity = path, handle, capacity
        self._end, self._named = 0, False

    def _used(self) -> int:
        """Bytes of all files there are, counting of the present one what is written."""
        used = sum(size for _, size in _sizes(self._directory))
        if self._handle >= 0 and os.fstat(self._handle).st_nlink:
            used -= self._capacity - self._end
        return used

    def _allocated(self, capacity: int) -> tuple[Path, int]:
        """A file of that size, nobody else's. Readers leave an empty one alone: it has no lock yet."""
        path = self._directory / f"{self._series}-{self._number:08d}{SUFFIX}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._number += 1
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.posix_fallocate(handle, 0, capacity)
        except OSError:
            path.unlink(missing_ok=True)
            os.close(handle)
            raise
        return path, handle


class SpoolReader:
    """Reads what all writers in `directory` wrote. Calls block; OSError comes through."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def files(self) -> list[str]:
        """Their names, the oldest writer first."""
        return sorted(name for name, size in _sizes(self._directory) if size)

    def read(self, name: str, position: int, limit: int) -> SpoolBatch:
        """At most `limit` entries from `position` on. A file that is gone reads as finished."""
        try:
            with _opened(self._directory / name, os.O_RDONLY) as handle:
                # Asked first: what a dead writer left cannot grow while it is read.
                dead = _unlocked(handle)
                found = _batch(_rest(handle, position), position, limit, dead=dead)
                if found.damaged and not dead:
                    # Perhaps page by page, while it was written: the frames behind say that it is by now.
                    found = _batch(_rest(handle, position), position, limit, dead=False)
                return found
        except FileNotFoundError:
            return SpoolBatch(entries=(), damaged=(), position=position, finished=True)

    def waiting(self, positions: Mapping[str, int]) -> int:
        """Bytes written behind these positions (0 for a file that is not named), in all files."""
        total = 0
        for name in self.files():
            with suppress(FileNotFoundError), _opened(self._directory / name, os.O_RDONLY) as handle:
                total += len(_rest(handle, positions.get(name, 0)).rstrip(b"\0"))
        return total

    def scrub(self, name: str, start: int, end: int) -> None:
        """Zeros from `start` to `end`, where its writer will not come again."""
        with suppress(FileNotFoundError), _opened(self._directory / name, os.O_WRONLY) as handle:
            os.pwrite(handle, bytes(end - start), start)

    def remove(self, name: str) -> None:
        """Delete it; nothing when it is gone already."""
        (self._directory / name).unlink(missing_ok=True)


def _too_few(taken: int, need: int) -> NoReturn:
    raise OSError(f"only {taken} of {need} bytes were taken")


def _sizes(directory: Path) -> Iterator[tuple[str, int]]:
    """Names and sizes of the files; what is deleted meanwhile, or never was, is not among them.

    Nor is what no writer makes: a link, a directory, a name that no store could keep.
    """
    with suppress(FileNotFoundError), os.scandir(directory) as found:
        for it in found:
            if it.name.endswith(SUFFIX) and it.name.isascii():
                with suppress(FileNotFoundError):
                    status = it.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield it.name, status.st_size


def _batch(data: bytes, start: int, limit: int, *, dead: bool) -> SpoolBatch:
    """At most `limit` entries of `data`, which stands at `start` in its file."""
    entries: list[bytes] = []
    damaged: list[tuple[int, int]] = []
    at = 0
    finished = False
    while len(entries) < limit:
        entry = _entry(data, at)
        if entry is not None:
            entries.append(entry)
            at += FRAME.size + len(entry)
            continue
        behind = _next_frame(data, at)
        if behind is not None:
            damaged.append((start + at, behind - at))
            at = behind
            continue
        if dead:  # with a living writer the rest may be a frame that is just being written
            torn = len(data[at:].rstrip(b"\0"))
            if torn:
                damaged.append((start + at, torn))
            at = len(data)
            finished = True
        break
    return SpoolBatch(entries=tuple(entries), damaged=tuple(damaged), position=start + at, finished=finished)


def _entry(data: bytes, at: int) -> bytes | None:
    """The entry of a whole, sound frame at this place."""
    if at + FRAME.size > len(data):
        return None
    length, crc = FRAME.unpack_from(data, at)
    entry = data[at + FRAME.size : at + FRAME.size + length]
    return entry if 0 < length == len(entry) and crc32(entry) == crc else None


def _next_frame(data: bytes, at: int) -> int | None:
    """Where the first sound frame behind `at` begins. Entries are JSON objects: braces show the way."""
    brace = data.find(b"{", at + FRAME.size + 1)
    while brace >= 0:
        if _entry(data, brace - FRAME.size) is not None:
            return brace - FRAME.size
        brace = data.find(b"{", brace + 1)
    return None


def _rest(handle: int, position: int) -> bytes:
    return os.pread(handle, max(0, os.fstat(handle).st_size - position), position)


def _unlocked(handle: int) -> bool:
    """Whether no living writer holds the file."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags)
    try:
        yield handle
    finally:
        os.close(handle)


_: type[Spool] = SpoolFile
__: type[SpoolReaderPort] = SpoolReader
