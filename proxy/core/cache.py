"""What sources said, kept for a while within so many bytes.

Evicted as in S3-FIFO (Yang et al., SOSP 2023): who comes in waits in a small queue and moves to the main one
only if it is asked for meanwhile, or was evicted a short while ago. So keys that never come again (crawlers,
invented parameters) push out each other and not what is in use. Times are monotonic seconds handed in by the
caller; one thread calls.
"""

from collections import deque
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

from annotated_types import Ge, Gt

from proxy.core.audit_settings import STRICT

ENTRY_BYTES = 320
"""What an entry takes beside its key and its body, in CPython: measured, see the test."""
GHOST_BYTES = 128
"""What it takes to remember that a key was evicted."""
LARGEST = 16
"""An entry takes at most one part in so many of all bytes."""

_SMALL = 10  # the small queue may hold one byte in so many
_MOST_HITS = 3
_MOST_STEPS = 64  # in search of an entry that nobody uses; then the oldest goes all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """How much is kept, and for how long."""

    __pydantic_config__: ClassVar[Any] = STRICT
    max_bytes: Annotated[int, Ge(0)] = 64 * 1024 * 1024  # 0: there is no cache
    candidates_ttl_s: Annotated[float, Gt(0)] = 24 * 3600.0  # (facts 1)
    neighbours_ttl_s: Annotated[float, Gt(0)] = 7 * 24 * 3600.0  # (facts 1)
    warm_file: str = ""  # queries that are asked for beforehand; empty: none
    warm_per_s: Annotated[float, Gt(0)] = 20.0  # calls that are made for that
    stale_s: Annotated[float, Ge(0)] = 24 * 3600.0  # past the ttl, in place of a source that fails


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmList:
    """Where the warm list is, and when settings that name it were read: each time is reason to use it."""

    file: str
    read_at: float


class Lifetime(NamedTuple):
    """How long an entry is good, and for how long after that it is better than nothing."""

    ttl_s: float
    stale_s: float


class Entry:
    """An answer that is kept; `fresh` says whether it may stand in for asking."""

    __slots__ = ("at", "body", "hits", "key", "size", "small")

    def __init__(self, key: bytes, body: bytes, at: float, size: int, *, small: bool) -> None:
        self.key = key
        self.body = body  # empty: it was erased, or is too old
        self.at = at
        self.size = size  # in memory, all in all
        self.hits = 0
        self.small = small

    def fresh(self, now: float, life: Lifetime) -> bool:
        return now - self.at < life.ttl_s


class Cache:
    """Bodies by key. `bytes` is what all of it takes in memory, never more than `max_bytes`."""

    __slots__ = (
        "_empty", "_entries", "_forgotten", "_ghosts", "_main", "_small", "_small_bytes", "bytes",
        "evictions", "max_bytes",
    )  # fmt: skip

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self.evictions = 0
        self.max_bytes = max_bytes
        self._entries: dict[bytes, Entry] = {}
        self._small: deque[Entry] = deque()
        self._main: deque[Entry] = deque()
        self._small_bytes = 0
        self._empty = 0  # entries without a body
        self._ghosts: set[int] = set()  # hashes of keys that were evicted
        self._forgotten: deque[int] = deque()  # the same in their order, the next to be forgotten first

    def __len__(self) -> int:
        return len(self._entries) - self._empty

    def find(self, key: bytes, now: float, life: Lifetime) -> Entry | None:
        """The entry, fresh or stale. One that is older than both allow is erased."""
        entry = self._entries.get(key)
        if entry is None or not entry.body:
            return None
        if now - entry.at >= life.ttl_s + life.stale_s:
            self._erase(entry)
            return None
        if entry.hits < _MOST_HITS:
            entry.hits += 1
        return entry

    def put(self, key: bytes, body: bytes, now: float) -> bool:
        """Keep `body`, which is not empty, in place of what was there. False: it is too large."""
        size = len(key) + len(body) + ENTRY_BYTES
        entry = self._entries.get(key)
        if size * LARGEST > self.max_bytes:
            if entry is not None:
                self._erase(entry)
            return False
        if entry is None:
            known = hash(key) in self._ghosts
            entry = self._entries[key] = Entry(key, body, now, size, small=not known)
            self.bytes += size
            if known:
                self._main.append(entry)
            else:
                self._small.append(entry)
                self._small_bytes += size
        elif entry.body == body:  # as most are that come again: then memory stays as it is
            entry.at = now
            return True
        else:
            if not entry.body:
                self._empty -= 1
            entry.at = now
            self._fill(entry, body)
        while self.bytes > self.max_bytes:
            self._evict(entry)
        return True

    def erase(self, key: bytes) -> None:
        entry = self._entries.get(key)
        if entry is not None:
            self._erase(entry)

    def resize(self, max_bytes: int) -> None:
        """Go on within another bound; what is too much by it is evicted."""
        self.max_bytes = max_bytes
        while self._entries and self.bytes > max_bytes:
            self._evict(None)

    def _fill(self, entry: Entry, body: bytes) -> None:
        grown = len(body) - len(entry.body)
        entry.body = body
        entry.size += grown
        self.bytes += grown
        if entry.small:
            self._small_bytes += grown

    def _erase(self, entry: Entry) -> None:
        """Its place in the queue stays, so that nothing has to be searched; a later `put` fills it again."""
        if entry.body:
            self._empty += 1
            self._fill(entry, b"")
        entry.hits = 0

    def _evict(self, spared: Entry | None) -> None:
        main = self._main
        for _ in range(_MOST_STEPS):
            if self._small_bytes * _SMALL > self.max_bytes or not main:
                entry = self._small.popleft()
                self._small_bytes -= entry.size
                if not entry.hits and entry is not spared:
                    self._remember(hash(entry.key))
                    break
                entry.small = False
                entry.hits = 0
            else:
                entry = main.popleft()
                if not entry.hits and entry is not spared:
                    break
                entry.hits -= entry.hits > 0
            main.append(entry)
        else:
            entry = main.popleft()  # not the one just put in, which is the last where it is in there
        del self._entries[entry.key]
        self.bytes -= entry.size
        if entry.body:
            self.evictions += 1
        else:
            self._empty -= 1
        while len(self._forgotten) > len(self._entries):
            self._ghosts.discard(self._forgotten.popleft())
            self.bytes -= GHOST_BYTES

    def _remember(self, known: int) -> None:
        """A key that comes back once more is remembered until it would have been without that."""
        if known not in self._ghosts:
            self._ghosts.add(known)
            self._forgotten.append(known)
            self.bytes += GHOST_BYTES
