"""What SQL stores share: transactions as `ports.records.Store` promises them, on connections of any kind."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from proxy.ports import StoreError
from proxy.ports.records import Records
from proxy.storage.gaps import unsound
from proxy.storage.sql_records import Session, SqlRecords

T = TypeVar("T")
S = TypeVar("S", bound="SqlSession")


class SqlSession(Session, ABC):
    """One connection, in a transaction or between two."""

    erasing = False  # the transaction deleted what must leave no trace

    def erased(self) -> None:
        self.erasing = True

    @abstractmethod
    def command(self, sql: str) -> None:
        """Run one statement that has neither values nor rows."""

    @abstractmethod
    def close(self) -> None: ...


class SqlStore(ABC, Generic[S]):
    """One connection writes, others read; each is used by one thread at a time.

    Exceptions of the driver that mean that the store cannot be used become StoreError for everybody who
    shares the transaction; those about one statement belong to the work that made it.
    """

    errors: tuple[type[Exception], ...]  # all that the driver raises
    harmless: tuple[type[Exception], ...]  # those about one statement and its values

    def __init__(self, name: str) -> None:
        self.name = name
        self._writing = threading.Lock()
        self._idle: list[S] = []  # readers; append and pop are atomic
        self._closed = False
        self._scrub_due = False

    def write(self, work: Callable[[Records], T]) -> T:
        with self._transaction() as session:
            return work(SqlRecords(session))

    def write_all(self, works: Sequence[Callable[[Records], T]]) -> list[T | Exception]:
        with self._transaction() as session:
            return [self._one_of_many(session, work) for work in works]

    def read(self, work: Callable[[Records], T]) -> T:
        self._usable()
        session = self._reading()
        fit = False
        try:
            done = work(SqlRecords(session))
            session.command("COMMIT")
            fit = True
        except self.errors as error:
            raise self._told(error) from error
        except BaseException:
            with suppress(*self.errors):
                session.command("ROLLBACK")
                fit = True
            raise
        else:
            return done
        finally:
            if fit and not self._closed:
                self._idle.append(session)
            else:
                session.close()
            if self._scrub_due and self._writing.acquire(
                blocking=False
            ):  # perhaps this reader was in the way
                try:
                    self._scrub_if_due()
                finally:
                    self._writing.release()

    def check(self) -> list[str]:
        found = self._check_files()
        return found or self.read(unsound)

    def close(self) -> None:
        self._closed = True
        with self._writing:
            self._close_writer()
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _transaction(self) -> Iterator[S]:
        with self._writing:
            self._usable()
            session: S | None = None
            try:
                session = self._begin_write()
                session.erasing = False
                yield session
                session.command("COMMIT")
                self._committed()
            except BaseException as error:
                if session is not None:
                    with suppress(*self.errors):
                        session.command("ROLLBACK")
                if isinstance(error, self.errors):
                    raise self._told(error) from error
                raise
            self._scrub_due |= session.erasing
            self._scrub_if_due()

    def _scrub_if_due(self) -> None:
        """The writing lock is held."""
        if self._scrub_due and not self._closed:
            self._scrub_due = not self._scrub()

    def _reading(self) -> S:
        """A connection in a read transaction."""
        try:
            while self._idle:
                with suppress(IndexError, *self.errors):
                    session = self._idle.pop()
                    try:
                        self._begin_read(session)
                    except BaseException:  # it was idle while the server was restarted; there are others
                        session.close()
                        raise
                    return session
            session = self._reader()
            self._begin_read(session)
        except self.errors as error:
            raise self._told(error) from error
        return session

    def _one_of_many(self, session: S, work: Callable[[Records], T]) -> T | Exception:
        session.command("SAVEPOINT work")
        erasing = session.erasing
        try:
            done: T | Exception = work(SqlRecords(session))
        except Exception as error:
            if isinstance(error, self.errors) and not isinstance(error, self.harmless):
                raise
            session.command("ROLLBACK TO SAVEPOINT work")
            session.erasing = erasing
            done = self._told(error) if isinstance(error, self.errors) else error
        session.command("RELEASE SAVEPOINT work")
        return done

    def _usable(self) -> None:
        if self._closed:
            raise StoreError(f"{self.name}: closed")

    @abstractmethod
    def _begin_write(self) -> S:
        """The writing connection, in a transaction that no other writer shares."""

    @abstractmethod
    def _committed(self) -> None:
        """StoreError when a commit that succeeded is nevertheless not kept."""

    @abstractmethod
    def _reader(self) -> S:
        """A further connection that reads."""

    @abstractmethod
    def _begin_read(self, session: S) -> None:
        """Begin a transaction over one snapshot."""

    @abstractmethod
    def _close_writer(self) -> None: ...

    @abstractmethod
    def _scrub(self) -> bool:
        """Take what was deleted out of the files; False when that has to be tried again."""

    @abstractmethod
    def _check_files(self) -> list[str]:
        """What the database itself finds wrong."""

    @abstractmethod
    def _told(self, error: Exception) -> StoreError:
        """An exception of the driver: which store, what happened, the way out."""
