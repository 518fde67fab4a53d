"""The store in a SQLite file: WAL, commits on the disk before they are acknowledged, nothing left of secrets.

One connection writes, behind `BEGIN IMMEDIATE`, so that a second process on the same file (the command line)
is as safe as a second thread; readers have connections of their own and see one snapshot each, however long
they take. Beside the file lies FILE.lock: whoever has the store open holds it shared, restoring alone.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from proxy.clock import monotonic, rfc3339, wall
from proxy.ports import StoreError
from proxy.storage import directory
from proxy.storage.named_sql import Migration, migrations, pending
from proxy.storage.new_file import appearing, belong, sync_directory
from proxy.storage.sql_store import SqlSession, SqlStore
from proxy.storage.sqlite_faults import RESTORE, told

BUSY_S = 2.0
"""How long to wait for another process that writes."""

_PRAGMAS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=ON",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cell_size_check=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA journal_size_limit=67108864",  # what a long reader made the WAL grow to is given back
)
_RETRY_S = 0.01
_APPLIED = """CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, at TEXT NOT NULL
) STRICT"""


class SqliteSession(SqlSession):
    """One connection."""

    def __init__(self, store: str, connection: sqlite3.Connection) -> None:
        self._store = store
        self.connection = connection

    @property
    def store(self) -> str:
        return self._store

    def run(self, sql: str, values: Mapping[str, Any]) -> int:
        return self.connection.execute(sql, values).rowcount

    def run_many(self, sql: str, values: Sequence[Mapping[str, Any]]) -> None:
        self.connection.executemany(sql, values)

    def rows(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        try:
            return self.connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
        # Text that is no UTF-8 was not written here. Show it as it is: verifying has to see such rows.
        self.connection.text_factory = _tolerant
        try:
            return self.connection.execute(sql, values).fetchall()
        finally:
            self.connection.text_factory = str

    def command(self, sql: str) -> None:
        self.connection.execute(sql)

    def close(self) -> None:
        self.connection.close()


def _tolerant(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


class SqliteStore(SqlStore[SqliteSession]):
    """A `Store` in one file, made or migrated when opened; StoreError when it cannot be used.

    With `existing` it has to be there at its newest version. `locked=False` is for one that nobody knows yet.
    """

    errors = (sqlite3.Error, UnicodeDecodeError)  # the latter where a schema is damaged
    harmless = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)

    def __init__(
        self,
        path: Path,
        *,
        busy_s: float = BUSY_S,
        existing: bool = False,
        locked: bool = True,
        name: str = "",
        steps: Sequence[Migration] | None = None,
    ) -> None:
        super().__init__(name or str(path))
        self.path = path
        self._busy_s = busy_s
        self._steps = migrations("sqlite") if steps is None else steps
        self._lock = self._writer = None
        if existing and not path.exists():
            raise StoreError(f"{path}: there is no store: fusebox serve makes it")
        try:
            self._lock = hold(path, fcntl.LOCK_SH) if locked else None
            _make_file(path)
            self._writer = SqliteSession(self.name, self._connect())
            self._migrate(self._writer, existing=existing)
            self._truncate_wal()  # a process that was killed may have erased something and not come to this
            self._marks = {file: _mark(file) for file in (path, Path(f"{path}-wal"))}
        except BaseException as error:
            self._close_writer()
            if isinstance(error, self.errors):
                raise told(self.name, error) from error
            raise

    _lock: int | None
    _writer: SqliteSession | None

    def backup(self, target: Path) -> None:
        with appearing(target) as beside:
            # One step under one read lock: writers go on, and the copy is of one moment.
            try:
                with closing(self._connect()) as source, closing(sqlite3.connect(beside)) as copy:
                    source.backup(copy, pages=-1)
                    make_single(copy)
            except sqlite3.Error as error:
                raise StoreError(f"{target}: the backup failed: {told(self.name, error)}") from error

    def _begin_write(self) -> SqliteSession:
        self._in_place()
        assert self._writer is not None  # noqa: S101 - for the type: closed stores are refused before
        self._writer.command("BEGIN IMMEDIATE")
        return self._writer

    def _committed(self) -> None:
        self._in_place()

    def _reader(self) -> SqliteSession:
        self._in_place()
        connection = self._connect()
        connection.execute("PRAGMA query_only=ON")
        return SqliteSession(self.name, connection)

    def _begin_read(self, session: SqliteSession) -> None:
        session.command("BEGIN")

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._lock is not None:
            os.close(self._lock)
        self._writer = self._lock = None

    def _scrub(self) -> bool:
        """Deleted bytes are zeros in the file (secure_delete); they are still in the WAL until it is cut."""
        with suppress(sqlite3.Error):
            return self._truncate_wal()
        return False

    def _check_files(self) -> list[str]:
        try:
            with closing(self._connect()) as connection:
                found = [str(text) for (text,) in connection.execute("PRAGMA integrity_check(20)")]
                foreign = connection.execute("PRAGMA foreign_key_check").fetchall()
        except sqlite3.Error as error:
            return [str(told(self.name, error))]
        damaged = [f"{line} ({RESTORE})" for line in found if line != "ok"]
        return damaged + [f"{table}: row {row} refers to nothing" for table, row, *_ in foreign]

    def _told(self, error: Exception) -> StoreError:
        return told(self.name, error)

    def _connect(self) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode=rw"  # never made here: `_make_file` gives it its mode
        connection = sqlite3.connect(
            uri, uri=True, timeout=self._busy_s, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            _use_wal(connection, monotonic() + self._busy_s)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, session: SqliteSession, *, existing: bool) -> None:
        session.command("BEGIN IMMEDIATE")
        try:
            self._ours(session)
            session.command(_APPLIED)
            applied = dict(session.rows("SELECT number, checksum FROM schema_migrations", {}))
            steps = pending(self.name, self._steps, applied, existing=existing)
            for step in steps:
                self._step(session, step)
            session.command("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                session.command("ROLLBACK")
            raise

    def _ours(self, session: SqliteSession) -> None:
        tables = session.rows("SELECT name FROM sqlite_master WHERE type = 'table'", {})
        if tables and ("schema_migrations",) not in tables:
            raise StoreError(
                f"{self.name}: is the database of another program: name another file in storage.url"
            )

    def _step(self, session: SqliteSession, step: Migration) -> None:
        for statement in _statements(step.sql):
            session.command(statement)
        session.run(
            "INSERT INTO schema_migrations VALUES (:number, :name, :checksum, :at)",
            {"number": step.number, "name": step.name, "checksum": step.checksum, "at": rfc3339(wall())},
        )

    def _truncate_wal(self) -> bool:
        assert self._writer is not None  # noqa: S101 - as above
        self._writer.command("PRAGMA busy_timeout=0")  # a reader may take its time; there is a next time
        try:
            [(busy, _, _)] = self._writer.rows("PRAGMA wal_checkpoint(TRUNCATE)", {})
        finally:
            self._writer.command(f"PRAGMA busy_timeout={int(1000 * self._busy_s)}")
        return not busy

    def _in_place(self) -> None:
        """StoreError when the file was removed or exchanged: what is written now would be in no file."""
        for file, mark in self._marks.items():
            if _mark(file) != mark:
                raise StoreError(
                    f"{self.name}: {file.name} was removed or replaced while in use, so nothing more is "
                    "written: put it back, or end the sidecar, restore a backup and start again"
                )


def hold(path: Path, how: int) -> int:
    """A descriptor that holds the lock of the store in `path`; StoreError when it cannot be had at once."""
    lock = Path(f"{path}.lock")
    directory.make(path.parent)
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        belong(lock)
    except OSError as error:
        raise StoreError(f"{lock}: cannot be opened: {error.strerror or error}") from error
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if how == fcntl.LOCK_SH:
            raise StoreError(f"{path}: is being restored; try again when that has ended") from error
        raise StoreError(f"{path}: is in use: end the sidecar (and any command) that runs on it") from error
    return handle


def _make_file(path: Path) -> None:
    """Readable by its owner alone; SQLite gives its companions the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(f"{path}: cannot be made: {error.strerror or error}") from error
    sync_directory(path.parent)


def make_single(connection: sqlite3.Connection) -> None:
    """Let the database be one file, without a log beside it."""
    connection.execute("PRAGMA journal_mode=DELETE")


def _use_wal(connection: sqlite3.Connection, until: float) -> None:
    """The change to WAL does not wait for other processes by itself."""
    while True:
        try:
            [mode] = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
            if not busy or monotonic() > until:
                raise
            threading.Event().wait(_RETRY_S)
        else:
            break
    if mode != "wal":
        raise sqlite3.OperationalError(f"its file system does not allow a write-ahead log (mode {mode})")


def _statements(script: str) -> Iterator[str]:
    """One by one: `executescript` would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _mark(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
