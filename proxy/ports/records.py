"""The store as services see it: one transaction at a time over everything that is kept.

A service hands a function over `Records` to `Store.write` or `Store.read`; the function runs in one
transaction, whole or not at all, and must not do anything that cannot be run again or thrown away.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, TypeVar

from proxy.core.audit import Row, column
from proxy.core.merkle import Frontier

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries; empty means any. `since` and `until` are RFC 3339, inclusive and exclusive."""

    action: str = ""  # exact, or a prefix that ends with "." ("breaker.")
    actor: str = ""
    target: str = ""
    outcome: str = ""
    request_id: str = ""
    key_id: str = ""
    since: str = ""
    until: str = ""

    def __post_init__(self) -> None:
        # what is looked for has to be cut and made safe as the columns are
        for each in fields(self):
            text = getattr(self, each.name).encode(errors="replace").decode()
            object.__setattr__(self, each.name, column(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """`size` entries from `first` on, a perfect subtree with this `root`. `dropped_at` empty: still there."""

    first: int
    size: int
    root: bytes
    last_at: str
    sealed_at: str
    dropped_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheckpoint:
    """A signed checkpoint as it was given out. `note` is the whole signed text."""

    size: int
    root: bytes
    at: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectKey:
    """The key that seals a subject's fields. `tag` finds it by subject, `wrapped` is the encrypted key."""

    key_id: str
    tag: bytes
    wrapped: bytes


class AuditRecords(Protocol):
    """The log, its tree and its keys."""

    def tree(self) -> Frontier:
        """The tree as committed; inside a write it is locked until the transaction ends."""

    def append(self, rows: Sequence[Row], tree: Frontier) -> None:
        """Add rows whose numbers go on from `tree().size`; `tree` holds them all. ValueError otherwise."""

    def find(self, wanted: AuditFilter, *, before: int | None, limit: int) -> list[Row]:
        """The newest first, with numbers below `before`."""

    def walk(self, first: int, end: int) -> Iterator[Row]:
        """In order of number, `first` <= seq < `end`; what is missing is simply not there."""

    def count(self, first: int, end: int) -> int:
        """How many rows there are with `first` <= seq < `end`."""

    def checkpoints(self, above: int = -1, limit: int = 1_000) -> list[StoredCheckpoint]:
        """By size, those of more than `above` entries; at most `limit`, so that nobody holds all of them."""

    def last_checkpoint(self) -> StoredCheckpoint | None:
        """The one of the largest size."""

    def add_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        """ValueError when there is one of this size."""

    def segments(self) -> list[Segment]:
        """By number."""

    def add_segment(self, segment: Segment) -> None:
        """ValueError when there is one that begins with this number."""

    def drop_segment(self, first: int, at: str) -> int:
        """Delete its entries and mark it; returns how many were deleted. ValueError: no such segment."""

    def key_by_tag(self, tag: bytes) -> SubjectKey | None: ...
    def key_by_id(self, key_id: str) -> SubjectKey | None: ...

    def add_key(self, key: SubjectKey) -> None:
        """ValueError when there is one of this id or tag."""

    def erase_key(self, tag: bytes) -> bool:
        """Forget it beyond recovery from this store's own files; whether there was one."""

    def spool_position(self, name: str) -> int:
        """Bytes of this spool file that the log already holds; 0 for an unknown one."""

    def set_spool_position(self, name: str, position: int) -> None: ...
    def forget_spool(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToggleLine:
    """A version of the toggles, as its history tells it. Numbers grow, with gaps."""

    version: int
    at: str  # RFC 3339
    actor: str
    reason: str
    kind: str  # how it came about: `control.toggles.Kind`
    expires_at: str  # RFC 3339; empty: for good
    diff: bytes  # JSON: {name: {"before", "after"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToggleVersion(ToggleLine):
    """The same with the whole document (`core.toggle_values.written`) and what is still to return."""

    document: bytes
    returns: bytes  # JSON: what `core.toggle_changes.Return` holds


class ToggleRecords(Protocol):
    """Every version of the toggles that there was."""

    def append(self, version: ToggleVersion) -> None:
        """ValueError when there is one of this number or a higher one."""

    def newest(self) -> ToggleVersion | None: ...
    def get(self, version: int) -> ToggleVersion | None: ...

    def page(self, *, before: int | None, limit: int) -> list[ToggleLine]:
        """The newest first, with numbers below `before`."""


class Records(Protocol):
    """One transaction. Later subjects (accounts, …) become further attributes."""

    @property
    def audit(self) -> AuditRecords: ...

    @property
    def toggles(self) -> ToggleRecords: ...


class Store(Protocol):
    """A store, used from any thread. Every call blocks; `StoreError` names the store and the cause."""

    @property
    def name(self) -> str:
        """How messages call it; no password in it."""

    def write(self, work: Callable[[Records], T]) -> T:
        """Run in one transaction; durable on return. An exception of `work` rolls back and comes through."""

    def write_all(self, works: Sequence[Callable[[Records], T]]) -> list[T | Exception]:
        """Several in one commit, each whole or not at all for itself; durable on return."""

    def read(self, work: Callable[[Records], T]) -> T:
        """Run over one consistent snapshot."""

    def check(self) -> list[str]:
        """What is wrong with it, in words; empty: sound."""

    def backup(self, target: Path) -> None:
        """A consistent copy while others write; never over a file that exists."""

    def close(self) -> None: ...


class Journal(Protocol):
    """A store used from the event loop: one writing thread, commits shared by whoever waits."""

    async def write(self, work: Callable[[Records], T]) -> T:
        """As `Store.write`; StoreError at once while the store is known to be gone."""

    async def read(self, work: Callable[[Records], T]) -> T: ...

    @property
    def trouble(self) -> str:
        """Why it cannot be written at present; empty: it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolBatch:
    """What one read of a spool file gave. `damaged` holds (position, bytes) of what was skipped."""

    entries: tuple[bytes, ...]  # JSON, as `core.audit.parse` takes it
    damaged: tuple[tuple[int, int], ...]
    position: int  # where to go on
    finished: bool  # this is the end, and nobody will write on


class SpoolReader(Protocol):
    """All spool files of a state directory, read by one process. Calls block; OSError comes through."""

    def files(self) -> list[str]:
        """Their names, oldest first."""

    def read(self, name: str, position: int, limit: int) -> SpoolBatch:
        """At most `limit` entries from `position` on."""

    def waiting(self, positions: Mapping[str, int]) -> int:
        """Bytes written behind these positions (0 for a file that is not named), in all files."""

    def scrub(self, name: str, start: int, end: int) -> None:
        """Wipe what the store has by now: the file may be written on for weeks, and it is not sealed."""

    def remove(self, name: str) -> None:
        """Delete it; nothing when it is gone already."""


class Spool(Protocol):
    """Where entries wait durably until the store has them; written by one process, read by one."""

    @property
    def trouble(self) -> str:
        """Why there was no room when it was last asked for; empty: there was."""

    def room(self, size: int) -> bool:
        """Reserve `size` bytes for one entry, given back by `add` or `release`; False: full."""

    def release(self, size: int) -> None: ...

    def add(self, entry: bytes, *, reserved: int = 0, sync: bool = False) -> None:
        """Kept against the death of this process on return, with `sync` against that of the machine too.

        StoreError when it cannot be kept.
        """
