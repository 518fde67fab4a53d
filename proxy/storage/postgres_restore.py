"""Loads a backup into PostgreSQL, in one transaction."""

import sqlite3
import tempfile
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

from proxy.core.store_url import StorePlace
from proxy.ports import StoreError
from proxy.storage.named_sql import migrations
from proxy.storage.portable import opened_copy, tables
from proxy.storage.postgres import OPEN_LOCK, SCHEMA, PostgresSession, connect, migrate
from proxy.storage.postgres_faults import told
from proxy.storage.restore import CONTENT_FREE, Restored, log_size, not_empty


def into_postgres(backup: Path, place: StorePlace, *, replace: bool, stamp: str) -> Restored:
    """As `restore`. The former store stays in the same database, its schema under another name."""
    with tempfile.TemporaryDirectory(prefix="fusebox-restore-") as directory:
        made = Path(directory) / "copy.db"
        made.touch(mode=0o600)
        with opened_copy(backup, made) as copy:
            try:
                return _load(copy, place, replace=replace, stamp=stamp)
            except psycopg.Error as error:
                raise told(place, error) from error


def _load(copy: sqlite3.Connection, place: StorePlace, *, replace: bool, stamp: str) -> Restored:
    session = PostgresSession(place.name, connect(place))
    try:
        [(alone,)] = session.rows("SELECT pg_try_advisory_lock(:key)", {"key": OPEN_LOCK})
        if not alone:
            raise StoreError(f"{place.name}: is in use: end the sidecars (and any command) that run on it")
        with session.connection.transaction():
            session.command("SET LOCAL statement_timeout = '1h'")
            aside = ""
            if _holds_something(session):
                if not replace:
                    raise not_empty(place.name)
                aside = f"{SCHEMA}_before_{stamp.lower()}"
                rename = SQL("ALTER SCHEMA {} RENAME TO {}").format(Identifier(SCHEMA), Identifier(aside))
                session.connection.execute(rename)
            migrate(session, migrations("postgresql"), existing=False)
            for table, columns in tables(copy):
                _fill(session, copy, table, columns)
        return Restored(entries=log_size(copy), aside=f"schema {aside}" if aside else "")
    finally:
        session.close()


def _holds_something(session: PostgresSession) -> bool:
    wanted = "SELECT tablename FROM pg_tables WHERE schemaname = :schema"
    names = [name for (name,) in session.rows(wanted, {"schema": SCHEMA}) if name not in CONTENT_FREE]
    some = SQL("SELECT 1 FROM {}.{} LIMIT 1")
    return any(
        session.connection.execute(some.format(Identifier(SCHEMA), Identifier(name))).fetchone()
        for name in names
    )


def _fill(session: PostgresSession, copy: sqlite3.Connection, table: str, columns: list[str]) -> None:
    session.connection.execute(SQL("DELETE FROM {}").format(Identifier(table)))
    names = SQL(", ").join(map(Identifier, columns))
    into = SQL("COPY {} ({}) FROM STDIN").format(Identifier(table), names)
    with session.connection.cursor() as cursor, cursor.copy(into) as rows:
        for row in copy.execute(f"SELECT {', '.join(columns)} FROM {table}"):  # noqa: S608 - names from the schema
            rows.write_row(row)
