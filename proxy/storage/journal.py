"""A store used from the event loop, which never waits for a disk: threads do.

One thread writes. Whatever waits for it when it is free goes into one commit, so the rate of changes is not
that of the disk. While the store is known to be gone, changes are refused at once and the thread tries again
from time to time; so a store that cannot be opened at the start neither keeps the sidecar from starting nor
needs a restart later.
"""

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from proxy.clock import monotonic
from proxy.ports import StoreError
from proxy.ports.records import Records, Store

T = TypeVar("T")
_log = logging.getLogger("fusebox.store")

WAIT_S = 5.0
READ_WAIT_S = 60.0
"""Reading a long log takes its time; nobody's change waits for it."""
QUEUED = 1_000
READERS = 2
PROBE_S = 1.0
"""How often a store that failed is tried again; opening it, up to 16 times as long."""


class _Job(Generic[T]):
    """A work and who waits for it. Until a thread takes it, it can be withdrawn, and then nothing happens."""

    def __init__(self, work: Callable[[Records], T]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()
        self._mine = threading.Lock()  # whoever gets it decides: the thread, or whoever gave up

    def take(self) -> bool:
        """Whether it is the caller's now, to run or to withdraw."""
        return self._mine.acquire(blocking=False)

    def settle(self, outcome: "T | Exception") -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self.loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: "T | Exception") -> None:
        if self.future.done():
            return
        if isinstance(outcome, StoreError):
            self.future.set_exception(StoreError(str(outcome)))  # others may have got the same one
        elif isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class StoreJournal:
    """A `Journal` over the store that `opener` opens, `name` in messages. `start` it in the running loop.

    A change waits for at most `wait_s` seconds and reading for `read_wait_s`; `queued` of each may wait.
    """

    def __init__(
        self,
        opener: Callable[[], Store],
        name: str,
        *,
        wait_s: float = WAIT_S,
        read_wait_s: float = READ_WAIT_S,
        queued: int = QUEUED,
        probe_s: float = PROBE_S,
    ) -> None:
        self._opener = opener
        self._name = name
        self._wait_s = wait_s
        self._read_wait_s = read_wait_s
        self._queued = queued
        self._probe_s = probe_s
        self._store: Store | None = None
        self._opened = threading.Event()
        self._wakeup = threading.Condition()
        self._writes: deque[_Job[Any]] = deque()  # under _wakeup, as are the next two
        self._ending = False
        self._doubted = False  # reading failed: can it be written?
        self._reads: queue.Queue[_Job[Any] | None] = queue.Queue()
        self._failing = ""
        self._busy_since: float | None = None
        self._ended = asyncio.Event()

    @property
    def trouble(self) -> str:
        since = self._busy_since
        if since is not None and (lasts := monotonic() - since) > self._wait_s:
            return f"{self._name}: has not answered for {lasts:.0f} s; look at its disk"
        return self._failing

    def start(self) -> None:
        """Open the store and take works; returns at once, whether or not it can be opened."""
        loop = asyncio.get_running_loop()
        # Daemons: a disk that never answers must not keep the process from ending.
        threading.Thread(
            target=self._write_all, args=(loop,), name="fusebox-store-writer", daemon=True
        ).start()
        for _ in range(READERS):
            threading.Thread(target=self._read_all, name="fusebox-store-reader", daemon=True).start()

    async def write(self, work: Callable[[Records], T]) -> T:
        if self.trouble:
            raise StoreError(self.trouble)
        job = _Job(work)
        with self._wakeup:
            self._refuse_when(self._ending, "closed")
            self._refuse_when(len(self._writes) >= self._queued, f"busy: {self._queued} changes wait for it")
            self._writes.append(job)
            self._wakeup.notify()
        return await self._outcome(job, self._wait_s, "it may or may not have been written")

    async def read(self, work: Callable[[Records], T]) -> T:
        self._refuse_when(self._ending, "closed")
        self._refuse_when(self._reads.qsize() >= self._queued, f"busy: {self._queued} readers wait for it")
        if self._store is None and self._failing:
            raise StoreError(self._failing)
        job = _Job(work)
        self._reads.put(job)
        return await self._outcome(job, self._read_wait_s, "it was still being read")

    async def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits and end; after `timeout_s` seconds without it, if the disk does not answer."""
        with self._wakeup:
            self._ending = True
            self._wakeup.notify()
        for _ in range(READERS):
            self._reads.put(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()

    async def _outcome(self, job: _Job[T], wait_s: float, taken: str) -> T:
        try:
            async with asyncio.timeout(wait_s):
                return await job.future
        except TimeoutError:
            if not job.future.cancelled():
                raise  # the work's own
            known = "nothing was done" if job.take() else taken
            raise StoreError(f"{self._name}: no answer within {wait_s:g} s, {known}") from None
        finally:
            job.take()  # whoever was cancelled wants nothing any more

    def _refuse_when(self, refused: bool, why: str) -> None:  # noqa: FBT001 - reads as a sentence
        if refused:
            raise StoreError(f"{self._name}: {why}")

    # In the writing thread.

    def _write_all(self, loop: asyncio.AbstractEventLoop) -> None:
        store = self._open()
        while store is not None:
            jobs, ending = self._next()
            if jobs:
                self._commit(store, jobs)
            elif ending:
                break
            else:
                self._commit(store, ())
        for job in self._next()[0]:
            job.settle(StoreError(self._failing or f"{self._name}: closed"))
        if store is not None:
            with suppress(Exception):
                store.close()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._ended.set)

    def _open(self) -> Store | None:
        """The store as soon as it can be opened; None when the end comes first."""
        pause = self._probe_s
        while True:
            self._busy_since = monotonic()
            try:
                self._store = self._opener()
            except Exception as error:  # noqa: BLE001 - whatever it is, the sidecar goes on
                self._failed(error)
            else:
                self._opened.set()
                self._works()
                return self._store
            finally:
                self._busy_since = None
            with self._wakeup:
                while self._writes:
                    if (job := self._writes.popleft()).take():
                        job.settle(StoreError(self._failing))
                if self._ending or self._wakeup.wait_for(lambda: self._ending, pause):
                    return None
            pause = min(2 * pause, 16 * self._probe_s)

    def _next(self) -> tuple[list[_Job[Any]], bool]:
        """What is to be written; nothing when a store in trouble or doubt is to be tried, or at the end."""
        with self._wakeup:
            self._wakeup.wait_for(
                lambda: self._writes or self._ending or self._doubted,
                self._probe_s if self._failing else None,
            )
            self._doubted = False
            waiting, self._writes = self._writes, deque()
            return [job for job in waiting if job.take()], self._ending

    def _commit(self, store: Store, jobs: Sequence[_Job[Any]]) -> None:
        outcomes: Sequence[Any]
        self._busy_since = monotonic()
        try:
            outcomes = store.write_all([job.work for job in jobs] or [_touch])
        except Exception as error:  # noqa: BLE001 - this thread has to go on
            self._failed(error)
            outcomes = [StoreError(self._failing)] * len(jobs)
        else:
            self._works()
        finally:
            self._busy_since = None
        for job, outcome in zip(jobs, outcomes, strict=False):
            job.settle(outcome)

    def _failed(self, error: Exception) -> None:
        known = isinstance(error, StoreError)
        told = str(error) if known else f"{self._name}: {error!r}"
        if told != self._failing:
            _log.error("the store cannot be written: %s", told, exc_info=None if known else error)
        self._failing = told

    def _works(self) -> None:
        if self._failing:
            _log.warning("the store is written again", extra={"store": self._name})
        self._failing = ""

    # In a reading thread.

    def _read_all(self) -> None:
        while (job := self._reads.get()) is not None:
            if not job.take():
                continue
            self._opened.wait(self._wait_s)
            try:
                if self._store is None:
                    raise StoreError(self._failing or f"{self._name}: is not open yet")  # noqa: TRY301
                job.settle(self._store.read(job.work))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
                job.settle(error)
                if isinstance(error, StoreError):
                    self._doubt()

    def _doubt(self) -> None:
        with self._wakeup:
            self._doubted = True
            self._wakeup.notify()


def _touch(records: Records) -> None:
    """The smallest thing to write: the tree, as it is."""
    records.audit.append((), records.audit.tree())
