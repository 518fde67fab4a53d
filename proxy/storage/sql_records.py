"""`Records` in SQL: the same statements for every SQL store, over the few calls that differ between them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Any, Protocol

from proxy.core.audit import Row
from proxy.core.merkle import Frontier
from proxy.ports import StoreError
from proxy.ports.records import AuditFilter, Segment, StoredCheckpoint, SubjectKey, ToggleLine, ToggleVersion
from proxy.storage.named_sql import queries

SQL = queries("audit.sql")
TOGGLES = queries("toggles.sql")

_CHUNK = 1_000  # rows that `walk` holds at a time
_HASH = 32
_COLUMNS = ("seq", "entry", "leaf", "at", "action", "outcome", "actor", "target", "request_id", "key_id")
_values = attrgetter(*_COLUMNS)
_LINE = ("version", "at", "actor", "reason", "kind", "expires_at", "diff")
_NEWEST = 2**62  # above every number


class Session(Protocol):
    """One transaction of a SQL store. Values are bound by name."""

    @property
    def store(self) -> str: ...

    def run(self, sql: str, values: Mapping[str, Any]) -> int:
        """How many rows it changed."""

    def run_many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> None: ...

    def rows(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]: ...

    def erased(self) -> None:
        """Something was deleted that must leave no trace in the store's files once this is committed."""


class SqlAudit:
    """`AuditRecords` within one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def tree(self) -> Frontier:
        rows = self._session.rows(SQL["tree"], {})
        if not rows:
            raise StoreError(
                f"{self._session.store}: the row of audit_tree is missing, so the log cannot go on: "
                "restore a backup with fusebox store restore --replace"
            )
        size, peaks = rows[0]
        return Frontier(size, tuple(peaks[at : at + _HASH] for at in range(0, len(peaks), _HASH)))

    def append(self, rows: Sequence[Row], tree: Frontier) -> None:
        before = tree.size - len(rows)
        if any(row.seq != seq for seq, row in enumerate(rows, before)):
            raise ValueError(f"these rows do not lead from {before} to {tree.size} entries")
        values = {"before": before, "size": tree.size, "peaks": b"".join(tree.peaks)}
        if self._session.run(SQL["grow_tree"], values) != 1:
            raise ValueError(f"these rows begin at {before}, and the log does not end there")
        if rows:
            many = [dict(zip(_COLUMNS, _values(row), strict=True)) for row in rows]
            self._session.run_many(SQL["append"], many)

    def find(self, wanted: AuditFilter, *, before: int | None, limit: int) -> list[Row]:
        asked = {name: value for name, value in asdict(wanted).items() if value}
        values = {"before": _NEWEST if before is None else before, "limit": limit, **asked}
        conditions = [f"find_{name}" for name in asked]
        if wanted.action.endswith("."):
            conditions[conditions.index("find_action")] = "find_action_prefix"
            values["action_end"] = wanted.action[:-1] + "/"  # the character after "."
        sql = "\n".join(SQL[name] for name in ("find", *conditions, "find_order"))
        return [_row(row) for row in self._session.rows(sql, values)]

    def walk(self, first: int, end: int) -> Iterator[Row]:
        while True:
            values = {"first": first, "end": end, "limit": _CHUNK}
            rows = self._session.rows(SQL["walk"], values)
            yield from map(_row, rows)
            if len(rows) < _CHUNK:
                return
            first = rows[-1][0] + 1

    def count(self, first: int, end: int) -> int:
        [(found,)] = self._session.rows(SQL["count"], {"first": first, "end": end})
        return int(found)

    def checkpoints(self, above: int = -1, limit: int = 1_000) -> list[StoredCheckpoint]:
        rows = self._session.rows(SQL["checkpoints"], {"above": above, "limit": limit})
        return [_checkpoint(row) for row in rows]

    def last_checkpoint(self) -> StoredCheckpoint | None:
        rows = self._session.rows(SQL["last_checkpoint"], {})
        return _checkpoint(rows[0]) if rows else None

    def add_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        if not self._session.run(SQL["add_checkpoint"], asdict(checkpoint)):
            raise ValueError(f"there is a checkpoint of {checkpoint.size} entries already")

    def segments(self) -> list[Segment]:
        return [_segment(row) for row in self._session.rows(SQL["segments"], {})]

    def add_segment(self, segment: Segment) -> None:
        if not self._session.run(SQL["add_segment"], asdict(segment)):
            raise ValueError(f"there is a segment that begins with entry {segment.first} already")

    def drop_segment(self, first: int, at: str) -> int:
        rows = self._session.rows(SQL["segment"], {"first": first})
        if not rows:
            raise ValueError(f"no segment begins with entry {first}")
        end = first + _segment(rows[0]).size
        self._session.run(SQL["mark_dropped"], {"first": first, "at": at})
        return self._session.run(SQL["drop_entries"], {"first": first, "end": end})

    def key_by_tag(self, tag: bytes) -> SubjectKey | None:
        return _key(self._session.rows(SQL["key_by_tag"], {"tag": tag}))

    def key_by_id(self, key_id: str) -> SubjectKey | None:
        return _key(self._session.rows(SQL["key_by_id"], {"key_id": key_id}))

    def add_key(self, key: SubjectKey) -> None:
        if not self._session.run(SQL["add_key"], asdict(key)):
            raise ValueError(f"there is a key {key.key_id}, or one of this subject, already")

    def erase_key(self, tag: bytes) -> bool:
        found = self._session.run(SQL["erase_key"], {"tag": tag}) > 0
        if found:
            self._session.erased()
        return found

    def spool_position(self, name: str) -> int:
        rows = self._session.rows(SQL["spool_position"], {"name": name})
        return int(rows[0][0]) if rows else 0

    def set_spool_position(self, name: str, position: int) -> None:
        self._session.run(SQL["set_spool_position"], {"name": name, "position": position})

    def forget_spool(self, name: str) -> None:
        self._session.run(SQL["forget_spool"], {"name": name})


class SqlToggles:
    """`ToggleRecords` within one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(self, version: ToggleVersion) -> None:
        if not self._session.run(TOGGLES["append"], asdict(version)):
            newest = self.newest()
            raise ValueError(f"there is a version {newest.version if newest else '?'} of the toggles already")

    def newest(self) -> ToggleVersion | None:
        return _version(self._session.rows(TOGGLES["newest"], {}))

    def get(self, version: int) -> ToggleVersion | None:
        return _version(self._session.rows(TOGGLES["get"], {"version": version}))

    def page(self, *, before: int | None, limit: int) -> list[ToggleLine]:
        values = {"before": _NEWEST if before is None else before, "limit": limit}
        rows = self._session.rows(TOGGLES["page"], values)
        return [ToggleLine(**dict(zip(_LINE, row, strict=True))) for row in rows]


class SqlRecords:
    """One transaction."""

    def __init__(self, session: Session) -> None:
        self.audit = SqlAudit(session)
        self.toggles = SqlToggles(session)


def _row(values: tuple[Any, ...]) -> Row:
    seq, entry, leaf, at, action, outcome, actor, target, request_id, key_id = values
    return Row(
        seq=seq,
        entry=entry,
        leaf=leaf,
        at=at,
        action=action,
        outcome=outcome,
        actor=actor,
        target=target,
        request_id=request_id,
        key_id=key_id,
    )


def _checkpoint(values: tuple[Any, ...]) -> StoredCheckpoint:
    size, root, at, note = values
    return StoredCheckpoint(size=size, root=root, at=at, note=note)


def _segment(values: tuple[Any, ...]) -> Segment:
    first, size, root, last_at, sealed_at, dropped_at = values
    return Segment(
        first=first, size=size, root=root, last_at=last_at, sealed_at=sealed_at, dropped_at=dropped_at
    )


def _key(rows: list[tuple[Any, ...]]) -> SubjectKey | None:
    for key_id, tag, wrapped in rows:
        return SubjectKey(key_id=key_id, tag=tag, wrapped=wrapped)
    return None


def _version(rows: list[tuple[Any, ...]]) -> ToggleVersion | None:
    for row in rows:
        return ToggleVersion(**dict(zip((*_LINE, "document", "returns"), row, strict=True)))
    return None
