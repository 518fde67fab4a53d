"""Backups of every store have one form: a SQLite file of the same schema, whole in itself.

So a backup can be looked at, checked, and loaded into a store of another kind.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from proxy.ports import StoreError
from proxy.storage.new_file import appearing
from proxy.storage.sqlite import SqliteStore, make_single
from proxy.storage.sqlite_faults import told

Rows = Callable[[str, Sequence[str]], Iterable[Sequence[Any]]]
"""(table, columns) → its rows."""


def write_portable(target: Path, rows: Rows) -> None:
    """A new backup of these rows; StoreError when it cannot be written, or is there already."""
    with appearing(target) as beside:
        try:
            SqliteStore(beside, locked=False).close()  # the schema
            with closing(sqlite3.connect(beside, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                for table, columns in tables(connection):
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the schema
                    marks = ", ".join("?" * len(columns))
                    into = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
                    connection.executemany(into, rows(table, columns))
                connection.execute("COMMIT")
                make_single(connection)
        except sqlite3.Error as error:
            raise StoreError(f"the backup failed: {told(str(target), error)}") from error


def tables(connection: sqlite3.Connection) -> list[tuple[str, list[str]]]:
    """Names and columns of all that is kept; the list of migrations is each store's own."""
    wanted = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'schema_migrations' ORDER BY name"
    )
    return [
        (name, [column[1] for column in connection.execute(f"PRAGMA table_info({name})")])
        for (name,) in connection.execute(wanted).fetchall()
    ]


@contextmanager
def opened_copy(backup: Path, beside: Path) -> Iterator[sqlite3.Connection]:
    """A copy of `backup` in the new file `beside`, brought to the newest version and found sound.

    StoreError says why it is not fit to be restored; the backup itself is never changed.
    """
    if not backup.is_file():
        raise StoreError(f"{backup}: there is no such file")
    try:
        uri = f"{backup.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as source, closing(sqlite3.connect(beside)) as copy:
            source.backup(copy)
            copy.execute("SELECT number FROM schema_migrations").fetchall()
    except sqlite3.Error as error:
        raise StoreError(f"{backup}: is no backup of a store, or damaged ({error})") from error
    store = SqliteStore(beside, locked=False, name=str(backup))
    try:
        found = store.check()
    finally:
        store.close()
    if found:
        raise StoreError(f"{backup}: is damaged, so nothing was restored: {'; '.join(found)}")
    with closing(sqlite3.connect(beside, isolation_level=None)) as connection:
        yield connection
