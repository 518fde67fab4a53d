"""Loads a backup into a store: into none, an empty one, or in the place of one that is moved aside.

The backup is copied, brought to the newest version and checked before the store is touched. Nobody may have
the store open, and nobody can open it until this is over.
"""

import fcntl
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from proxy.core.store_url import StorePlace
from proxy.ports import StoreError
from proxy.storage.new_file import belong, beside, publish
from proxy.storage.portable import opened_copy, tables
from proxy.storage.sqlite import hold, make_single

CONTENT_FREE = ("audit_tree", "schema_migrations")
"""Tables that hold something in a store where nothing was ever recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """How many entries the log has now, and where the former store is; empty: there was none."""

    entries: int
    aside: str


def restore(backup: Path, place: StorePlace, base_dir: Path, *, replace: bool, stamp: str) -> Restored:
    """Load `backup` into the store at `place`; StoreError changes nothing.

    A store that holds something is refused, or with `replace` moved aside under a name that ends in `stamp`.
    """
    if place.kind == "sqlite":
        return _into_sqlite(backup, base_dir / place.path, replace=replace, stamp=stamp)
    if place.kind == "postgresql":
        from proxy.storage.postgres_restore import into_postgres  # noqa: PLC0415 - needs an extra

        return into_postgres(backup, place, replace=replace, stamp=stamp)
    raise StoreError(f"{place.name}: keeps nothing, so nothing can be restored into it: see storage.url")


def not_empty(name: str) -> StoreError:
    return StoreError(
        f"{name}: holds something already: --replace moves it aside and restores in its place; "
        "to look at a backup, name another file in storage.url of a copy of the settings"
    )


def _into_sqlite(backup: Path, path: Path, *, replace: bool, stamp: str) -> Restored:
    lock = hold(path, fcntl.LOCK_EX)
    try:
        holds = path.exists() and _holds_something(path)
        if holds and not replace:
            raise not_empty(str(path))
        with beside(path) as made:
            with opened_copy(backup, made) as copy:
                entries = log_size(copy)
                make_single(copy)
            belong(made)
            aside = _out_of_the_way(path, f".before-{stamp}" if holds else "")
            publish(made, path)
        return Restored(entries=entries, aside=aside)
    finally:
        os.close(lock)


def _holds_something(path: Path) -> bool:
    """What cannot be read may hold something. Closing also folds the log beside it into the file."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            names = [name for name, _ in tables(connection) if name not in CONTENT_FREE]
            return any(connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in names)  # noqa: S608
    except sqlite3.Error:
        return True


def _out_of_the_way(path: Path, ending: str) -> str:
    """Move the file aside, its companions first: found beside another file they would spoil it."""
    aside = Path(f"{path}{ending}")
    for companion in ("-wal", "-shm", ""):
        file = Path(f"{path}{companion}")
        if file.exists():
            if ending:
                file.rename(f"{aside}{companion}")
            else:
                file.unlink()
    return str(aside) if ending else ""


def log_size(copy: sqlite3.Connection) -> int:
    [size] = copy.execute("SELECT size FROM audit_tree").fetchone()
    return int(size)
