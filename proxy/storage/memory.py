"""A store without a disk, for tests: real transactions and snapshots, gone with the process.

Its state is one immutable value, replaced by each step of a transaction, so a snapshot is a reference and a
rollback an assignment. Rows are the exception, for the sake of long logs: one list that only grows, of which
a state sees the first `size`; what a transaction leaves beyond them when it fails is cut off again.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from proxy.core.audit import Row
from proxy.core.merkle import Frontier
from proxy.ports import StoreError
from proxy.ports.records import (
    AuditFilter,
    Records,
    Segment,
    StoredCheckpoint,
    SubjectKey,
    ToggleLine,
    ToggleVersion,
)
from proxy.storage.gaps import unsound
from proxy.storage.portable import write_portable

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _State:
    rows: list[Row | None] = field(default_factory=list)  # None: dropped
    tree: Frontier = field(default_factory=Frontier)
    checkpoints: Mapping[int, StoredCheckpoint] = field(default_factory=dict)  # by size
    segments: Mapping[int, Segment] = field(default_factory=dict)  # by first number
    keys: Mapping[bytes, SubjectKey] = field(default_factory=dict)  # by tag
    positions: Mapping[str, int] = field(default_factory=dict)  # by name of the spool file
    toggles: tuple[ToggleVersion, ...] = ()


class _Audit:
    """`AuditRecords` within one transaction."""

    def __init__(self, state: _State) -> None:
        self.state = state

    def tree(self) -> Frontier:
        return self.state.tree

    def append(self, rows: Sequence[Row], tree: Frontier) -> None:
        size = self.state.tree.size
        if [row.seq for row in rows] != list(range(size, tree.size)):
            raise ValueError(f"these rows do not lead from {size} to {tree.size} entries")
        self.state.rows.extend(rows)
        self.state = replace(self.state, tree=tree)

    def find(self, wanted: AuditFilter, *, before: int | None, limit: int) -> list[Row]:
        end = self.state.tree.size if before is None else min(before, self.state.tree.size)
        found: list[Row] = []
        for seq in range(end - 1, -1, -1):
            if len(found) >= limit:
                break
            if (row := self.state.rows[seq]) is not None and _matches(row, wanted):
                found.append(row)
        return found

    def walk(self, first: int, end: int) -> Iterator[Row]:
        rows = self.state.rows
        for seq in range(max(first, 0), min(end, self.state.tree.size)):
            if (row := rows[seq]) is not None:
                yield row

    def count(self, first: int, end: int) -> int:
        return sum(1 for _ in self.walk(first, end))

    def checkpoints(self, above: int = -1, limit: int = 1_000) -> list[StoredCheckpoint]:
        kept = self.state.checkpoints
        return [kept[size] for size in sorted(size for size in kept if size > above)[:limit]]

    def last_checkpoint(self) -> StoredCheckpoint | None:
        kept = self.state.checkpoints
        return kept[max(kept)] if kept else None

    def add_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        kept = _with(self.state.checkpoints, checkpoint.size, checkpoint)
        self.state = replace(self.state, checkpoints=kept)

    def segments(self) -> list[Segment]:
        return [self.state.segments[first] for first in sorted(self.state.segments)]

    def add_segment(self, segment: Segment) -> None:
        self.state = replace(self.state, segments=_with(self.state.segments, segment.first, segment))

    def drop_segment(self, first: int, at: str) -> int:
        if (segment := self.state.segments.get(first)) is None:
            raise ValueError(f"no segment begins with entry {first}")
        deleted = self.count(first, first + segment.size)
        # snapshots and a rollback keep the list as it is, so this needs one of its own
        rows = list(self.state.rows)
        rows[first : first + segment.size] = [None] * segment.size
        dropped = replace(segment, dropped_at=segment.dropped_at or at)
        self.state = replace(self.state, rows=rows, segments={**self.state.segments, first: dropped})
        return deleted

    def key_by_tag(self, tag: bytes) -> SubjectKey | None:
        return self.state.keys.get(tag)

    def key_by_id(self, key_id: str) -> SubjectKey | None:
        return next((key for key in self.state.keys.values() if key.key_id == key_id), None)

    def add_key(self, key: SubjectKey) -> None:
        if self.key_by_id(key.key_id) is not None:
            raise ValueError(f"there is a key {key.key_id} already")
        self.state = replace(self.state, keys=_with(self.state.keys, key.tag, key))

    def erase_key(self, tag: bytes) -> bool:
        found = tag in self.state.keys
        self.state = replace(self.state, keys=_without(self.state.keys, tag))
        return found

    def spool_position(self, name: str) -> int:
        return self.state.positions.get(name, 0)

    def set_spool_position(self, name: str, position: int) -> None:
        self.state = replace(self.state, positions={**self.state.positions, name: position})

    def forget_spool(self, name: str) -> None:
        self.state = replace(self.state, positions=_without(self.state.positions, name))


class _Toggles:
    """`ToggleRecords` within one transaction."""

    def __init__(self, versions: tuple[ToggleVersion, ...]) -> None:
        self.versions = versions

    def append(self, version: ToggleVersion) -> None:
        newest = self.newest()
        if newest is not None and newest.version >= version.version:
            raise ValueError(f"there is a version {newest.version} of the toggles already")
        self.versions = (*self.versions, version)

    def newest(self) -> ToggleVersion | None:
        return self.versions[-1] if self.versions else None

    def get(self, version: int) -> ToggleVersion | None:
        return next((it for it in self.versions if it.version == version), None)

    def page(self, *, before: int | None, limit: int) -> list[ToggleLine]:
        found = [it for it in reversed(self.versions) if before is None or it.version < before]
        return [ToggleLine(**{name: getattr(it, name) for name in LINE}) for it in found[:limit]]


LINE = tuple(field.name for field in fields(ToggleLine))


class _MemoryRecords:
    def __init__(self, state: _State) -> None:
        self.audit = _Audit(state)
        self.toggles = _Toggles(state.toggles)

    @property
    def state(self) -> _State:
        return replace(self.audit.state, toggles=self.toggles.versions)


class MemoryStore:
    """A `Store` that keeps nothing beyond the process."""

    name = "memory://"

    def __init__(self) -> None:
        self._state = _State()
        self._writing = threading.Lock()
        self._closed = False

    def write(self, work: Callable[[Records], T]) -> T:
        with self._writing:
            self._usable()
            records = _MemoryRecords(self._state)
            try:
                done = work(records)
            except BaseException:
                del self._state.rows[self._state.tree.size :]
                raise
            self._state = records.state
            return done

    def write_all(self, works: Sequence[Callable[[Records], T]]) -> list[T | Exception]:
        self._usable()
        done: list[T | Exception] = []
        for work in works:
            try:
                done.append(self.write(work))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever wanted this work
                done.append(error)
        return done

    def read(self, work: Callable[[Records], T]) -> T:
        self._usable()
        return work(_MemoryRecords(self._state))

    def check(self) -> list[str]:
        return self.read(unsound)

    def backup(self, target: Path) -> None:
        self._usable()
        kept = _tables(self._state)
        write_portable(
            target, lambda table, columns: ([row[name] for name in columns] for row in kept[table])
        )

    def close(self) -> None:
        self._closed = True

    def _usable(self) -> None:
        if self._closed:
            raise StoreError(f"{self.name}: closed")


def _matches(row: Row, wanted: AuditFilter) -> bool:
    action = wanted.action
    return (
        (row.action.startswith(action) if action.endswith(".") else action in {"", row.action})
        and wanted.actor in {"", row.actor}
        and wanted.target in {"", row.target}
        and wanted.outcome in {"", row.outcome}
        and wanted.request_id in {"", row.request_id}
        and wanted.key_id in {"", row.key_id}
        and wanted.since <= row.at
        and (not wanted.until or row.at < wanted.until)
    )


def _with(table: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    if key in table:
        raise ValueError(f"there is one of {key!r} already")
    return {**table, key: value}


def _without(table: Mapping[K, V], key: K) -> Mapping[K, V]:
    return {it: value for it, value in table.items() if it != key}


def _tables(state: _State) -> dict[str, list[dict[str, Any]]]:
    """The same content as the SQL stores keep it."""
    tree = state.tree
    return {
        "audit_entries": [asdict(row) for row in state.rows[: tree.size] if row is not None],
        "audit_tree": [{"id": 0, "size": tree.size, "peaks": b"".join(tree.peaks)}],
        "audit_checkpoints": [asdict(it) for it in state.checkpoints.values()],
        "audit_segments": [asdict(it) for it in state.segments.values()],
        "audit_keys": [asdict(it) for it in state.keys.values()],
        "spool_positions": [{"name": name, "position": at} for name, at in state.positions.items()],
        "toggle_versions": [asdict(it) for it in state.toggles],
    }
