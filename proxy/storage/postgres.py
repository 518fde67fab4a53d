"""The store in PostgreSQL, in a schema of its own, for sidecars that share one.

A writer locks the row of the tree first, so writers go one by one as in SQLite; each reader sees one moment.
Nothing waits without end: connecting, locks, statements, a silent network and a forgotten transaction are
limited. Whoever has the store open holds an advisory lock shared, restoring alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from proxy.clock import rfc3339, wall
from proxy.core.store_url import StorePlace
from proxy.ports import StoreError
from proxy.storage.named_sql import Migration, bound, migrations, pending
from proxy.storage.portable import write_portable
from proxy.storage.postgres_faults import told
from proxy.storage.sql_store import SqlSession, SqlStore

SCHEMA = "fusebox"
OPEN_LOCK = 0x66757365  # advisory, shared: somebody has the store open
_MIGRATE_LOCK = OPEN_LOCK + 1

_CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms that what was sent may stay unacknowledged
    "application_name": "fusebox",
}
_LOCK_TIMEOUT = "4s"
_SESSION = (
    "SET client_encoding = 'UTF8'",
    f"SET search_path = {SCHEMA}",
    "SET standard_conforming_strings = on",
    f"SET lock_timeout = '{_LOCK_TIMEOUT}'",
    "SET statement_timeout = '30s'",
    # what the server is set to, but never less than a disk
    """SELECT set_config(name, 'on', false) FROM pg_settings
        WHERE name = 'synchronous_commit' AND setting = 'off'""",
    "SET idle_in_transaction_session_timeout = '60s'",
)
_APPLIED = """CREATE TABLE IF NOT EXISTS schema_migrations (
    number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, at text NOT NULL
)"""
_THERE = """SELECT
    EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema),
    EXISTS (SELECT FROM pg_tables WHERE schemaname = :schema),
    EXISTS (SELECT FROM pg_tables WHERE schemaname = :schema AND tablename = 'schema_migrations')"""


class PostgresSession(SqlSession):
    """One connection."""

    def __init__(self, store: str, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._store = store
        self.connection = connection

    @property
    def store(self) -> str:
        return self._store

    def run(self, sql: str, values: Mapping[str, Any]) -> int:
        return self.connection.execute(bound(sql), values).rowcount

    def run_many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(bound(sql), values)

    def rows(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return self.connection.execute(bound(sql), values).fetchall()

    def command(self, sql: str) -> None:
        self.connection.execute(sql.encode())

    def close(self) -> None:
        self.connection.close()


class PostgresStore(SqlStore[PostgresSession]):
    """A `Store` in the schema `fusebox` of a database, made or migrated when opened."""

    errors = (psycopg.Error,)
    harmless = (psycopg.IntegrityError, psycopg.DataError, psycopg.ProgrammingError)

    def __init__(
        self, place: StorePlace, *, existing: bool = False, steps: Sequence[Migration] | None = None
    ) -> None:
        super().__init__(place.name)
        self._place = place
        self._steps = migrations("postgresql") if steps is None else steps
        self._writer: PostgresSession | None = None
        try:
            self._writer = self._open_writer()
            migrate(self._writer, self._steps, existing=existing)
        except BaseException as error:
            self._close_writer()
            if isinstance(error, psycopg.Error):
                raise self._told(error) from error
            raise

    def backup(self, target: Path) -> None:
        self._usable()
        session = self._reading()

        def rows(table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
            names = SQL(", ").join(map(Identifier, columns))
            with session.connection.cursor(table) as cursor:  # on the server: a table may be long
                yield from cursor.execute(SQL("SELECT {} FROM {}").format(names, Identifier(table)))

        try:
            write_portable(target, rows)
        except psycopg.Error as error:
            raise self._told(error) from error
        finally:
            session.close()

    def _begin_write(self) -> PostgresSession:
        if self._writer is not None:
            try:
                return _locked(self._writer)
            except psycopg.OperationalError:
                if not self._writer.connection.closed:
                    self._writer.command("ROLLBACK")
                    raise
        # The server was restarted. Nothing was under way yet, so this is safe to begin anew.
        self._close_writer()
        self._writer = self._open_writer()
        return _locked(self._writer)

    def _committed(self) -> None:
        """A commit that the server confirms is kept."""

    def _reader(self) -> PostgresSession:
        return PostgresSession(self.name, connect(self._place))

    def _begin_read(self, session: PostgresSession) -> None:
        session.command("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _scrub(self) -> bool:
        """Write the small table of keys anew; its old file is unlinked.

        What the server's own log still holds goes when it is recycled (docs/operations.md, Store).
        """
        if self._writer is None:
            return False
        with suppress(psycopg.Error):
            self._writer.command("SET lock_timeout = '100ms'")  # a reader may take its time
            try:
                self._writer.command("VACUUM FULL audit_keys")
            finally:
                self._writer.command(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
            return True
        return False

    def _check_files(self) -> list[str]:
        """PostgreSQL minds its files itself; whether it is set to lose what it acknowledged can be asked."""
        names = {"names": ["fsync", "full_page_writes"]}
        wanted = "SELECT name FROM pg_settings WHERE name = ANY(:names) AND setting = 'off' ORDER BY name"
        session = self._reading()
        try:
            return [
                f"{self.name}: the server runs with {name} = off: a power cut may lose what was acknowledged"
                for (name,) in session.rows(wanted, names)
            ]
        except psycopg.Error as error:
            return [str(self._told(error))]
        finally:
            session.close()

    def _told(self, error: Exception) -> StoreError:
        return told(self._place, error)

    def _open_writer(self) -> PostgresSession:
        session = PostgresSession(self.name, connect(self._place))
        try:
            [(free,)] = session.rows("SELECT pg_try_advisory_lock_shared(:key)", {"key": OPEN_LOCK})
        except BaseException:
            session.close()
            raise
        if not free:
            session.close()
            raise StoreError(f"{self.name}: is being restored; try again when that has ended")
        return session


def connect(place: StorePlace) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection in autocommit mode whose every wait is limited. What the url says itself holds."""
    try:
        asked = conninfo_to_dict(place.url)
    except psycopg.ProgrammingError:
        # without its cause, which may repeat the password
        raise StoreError(f"{place.name}: storage.url holds something that PostgreSQL does not know") from None
    connection = psycopg.connect(**{**_CONNECT, **asked}, autocommit=True)  # type: ignore[arg-type]
    try:
        for statement in _SESSION:
            connection.execute(statement.encode())
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(session: PostgresSession, steps: Sequence[Migration], *, existing: bool) -> None:
    """Bring the schema forward, one process at a time, whole or not at all."""
    with session.connection.transaction():
        session.command("SET LOCAL statement_timeout = '10min'")
        session.command("SET LOCAL lock_timeout = '2min'")
        session.command(f"SELECT pg_advisory_xact_lock({_MIGRATE_LOCK})")
        [(there, tables, known)] = session.rows(_THERE, {"schema": SCHEMA})
        if existing and not known:
            raise StoreError(f"{session.store}: there is no store: fusebox serve makes it")
        if tables and not known:
            raise StoreError(f"{session.store}: its schema {SCHEMA} belongs to another program")
        if not there:
            session.command(f"CREATE SCHEMA {SCHEMA}")
        session.command(_APPLIED)
        applied = dict(session.rows("SELECT number, checksum FROM schema_migrations", {}))
        for step in pending(session.store, steps, applied, existing=existing):
            session.command(step.sql)
            session.run(
                "INSERT INTO schema_migrations VALUES (:number, :name, :checksum, :at)",
                {"number": step.number, "name": step.name, "checksum": step.checksum, "at": rfc3339(wall())},
            )


def _locked(session: PostgresSession) -> PostgresSession:
    """In a transaction that no other writer shares."""
    session.command("BEGIN")
    session.command("SELECT id FROM audit_tree FOR UPDATE")
    return session
