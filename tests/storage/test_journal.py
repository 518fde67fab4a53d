"""The store behind the event loop: shared commits, deadlines, troubles that come and go."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading

import pytest
from storing import adding, failing, size

from proxy.clock import monotonic
from proxy.ports import StoreError
from proxy.storage.journal import StoreJournal
from proxy.storage.memory import MemoryStore
from proxy.storage.sqlite import SqliteStore
from proxy.storage.stores import open_store


@contextlib.asynccontextmanager
async def running(opener, **settings):
    journal = StoreJournal(opener, "the store", **{"probe_s": 0.02} | settings)
    journal.start()
    try:
        yield journal
    finally:
        await journal.close()


async def until(condition, seconds=20):
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        await asyncio.sleep(0.005)


def begun(waiting):
    return asyncio.ensure_future(waiting)  # noqa: TID251 - awaited below


class Held:
    """A work that lasts until it is let go, as on a disk that does not answer."""

    def __init__(self):
        self.begun, self.free = threading.Event(), threading.Event()

    def __call__(self, records):
        self.begun.set()
        assert self.free.wait(20)
        return adding(1)(records)


@pytest.fixture
def held():
    made = Held()
    yield made
    made.free.set()


class Counting(MemoryStore):
    commits = 0

    def write_all(self, works):
        self.commits += 1
        return super().write_all(works)


async def test_who_waits_at_the_same_time_shares_a_commit(held):
    store = Counting()
    async with running(lambda: store) as journal:
        first = begun(journal.write(held))
        await until(held.begun.is_set)
        others = asyncio.gather(*(journal.write(adding(1)) for _ in range(50)))
        await asyncio.sleep(0)
        held.free.set()
        assert await first == 1
        assert await others == list(range(2, 52))
        assert store.commits == 2


async def test_what_a_work_raises_is_its_own_and_no_trouble(tmp_path):
    async with running(lambda: SqliteStore(tmp_path / "a.db")) as journal:
        done = await asyncio.gather(
            journal.write(adding(1)), journal.write(failing), journal.write(adding(1)), return_exceptions=True
        )
        assert (done[0], type(done[1]), done[2]) == (1, LookupError, 2)
        with pytest.raises(LookupError, match="mine"):
            await journal.read(lambda _: (_ for _ in ()).throw(LookupError("mine")))
        with pytest.raises(StoreError, match="readonly"):
            await journal.read(adding(1))
        with pytest.raises(TimeoutError, match="its own"):
            await journal.write(lambda _: (_ for _ in ()).throw(TimeoutError("its own")))
        assert journal.trouble == ""


async def test_reading_goes_on_beside_a_write_that_hangs(held):
    async with running(MemoryStore) as journal:
        await journal.write(adding(2))
        hanging = begun(journal.write(held))
        await until(held.begun.is_set)
        assert await journal.read(size) == 2
        held.free.set()
        assert await hanging == 3


async def test_who_was_cancelled_while_waiting_changes_nothing(held):
    async with running(MemoryStore) as journal:
        first = begun(journal.write(held))
        await until(held.begun.is_set)
        waiting = begun(journal.write(adding(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        held.free.set()
        assert await first == 1
        assert await journal.write(adding(1)) == 2


async def test_a_cancelled_waiter_whose_work_runs_harms_nobody(held):
    async with running(MemoryStore) as journal:
        running_one = begun(journal.write(held))
        await until(held.begun.is_set)
        running_one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running_one
        held.free.set()
        assert await journal.write(adding(1)) == 2


async def test_nobody_waits_for_ever_and_is_told_what_is_known(held):
    async with running(MemoryStore, wait_s=0.05) as journal:
        first = begun(journal.write(held))
        await until(held.begun.is_set)
        with pytest.raises(StoreError, match=r"no answer within 0\.05 s, nothing was done"):
            await journal.write(adding(1))
        with pytest.raises(
            StoreError, match=r"no answer within 0\.05 s, it may or may not have been written"
        ):
            await first
        await until(lambda: "has not answered for" in journal.trouble)
        with pytest.raises(StoreError, match="has not answered"):
            await journal.write(adding(1))
        held.free.set()
        await until(lambda: not journal.trouble)
        assert await journal.write(adding(1)) == 2


async def test_a_full_queue_refuses_at_once(held):
    async with running(MemoryStore, queued=3) as journal:
        first = begun(journal.write(held))
        await until(held.begun.is_set)
        waiting = [begun(journal.write(adding(1))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="busy: 3 changes wait"):
            await journal.write(adding(1))
        held.free.set()
        assert await asyncio.gather(first, *waiting) == [1, 2, 3, 4]


async def test_a_store_that_cannot_be_opened_is_tried_again(tmp_path):
    directory = tmp_path / "var"
    directory.write_text("in the way")
    async with running(lambda: SqliteStore(directory / "a.db")) as journal:
        with pytest.raises(StoreError, match="is not a directory"):
            await journal.write(adding(1))
        assert "is not a directory" in journal.trouble
        for call in (journal.write, journal.read):
            with pytest.raises(StoreError, match="is not a directory"):
                await call(size)
        directory.unlink()
        await until(lambda: not journal.trouble)
        assert await journal.write(adding(1)) == 1


async def test_an_opening_that_hangs_is_a_trouble(tmp_path):
    go = threading.Event()

    def hanging():
        go.wait(20)
        return SqliteStore(tmp_path / "a.db")

    async with running(hanging, wait_s=0.05) as journal:
        await until(lambda: "has not answered for" in journal.trouble)
        with pytest.raises(StoreError, match="has not answered"):
            await journal.write(adding(1))
        go.set()
        await until(lambda: not journal.trouble)
        assert await journal.write(adding(1)) == 1


async def test_a_store_that_cannot_be_read_is_looked_at_though_nobody_writes():
    class Gone(MemoryStore):
        gone = True

        def read(self, work):
            if self.gone:
                raise StoreError("the store: gone")
            return super().read(work)

        def write_all(self, works):
            if self.gone:
                raise StoreError("the store: gone")
            return super().write_all(works)

    store = Gone()
    async with running(lambda: store) as journal:
        with pytest.raises(StoreError, match="gone"):
            await journal.read(size)
        await until(lambda: journal.trouble == "the store: gone")
        store.gone = False
        await until(lambda: not journal.trouble)
        assert await journal.read(size) == 0


async def test_a_lock_of_another_process_is_a_trouble_until_it_is_gone(tmp_path, caplog):
    path = tmp_path / "a.db"
    async with running(lambda: SqliteStore(path, busy_s=0.05)) as journal:
        await journal.write(adding(1))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"a\.db: another process keeps it locked"):
            await journal.write(adding(1))
        assert "locked" in journal.trouble
        assert await journal.read(size) == 1
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: not journal.trouble)
        assert await journal.write(adding(1)) == 2
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_a_server_that_was_stopped_is_used_again_by_itself(postgres_server, postgres_url, tmp_path):
    async with running(lambda: open_store(postgres_url, tmp_path)) as journal:
        assert await journal.write(adding(1)) == 1
        await journal.read(size)
        postgres_server.stop()
        try:
            with pytest.raises(StoreError, match=r"^postgresql://fusebox@127\.0\.0\.1:\d+/postgres: "):
                await journal.write(adding(1))
            assert journal.trouble
            with pytest.raises(StoreError, match="cannot be reached"):
                await journal.read(size)
        finally:
            await asyncio.to_thread(postgres_server.start)
        await until(lambda: not journal.trouble)
        assert await journal.read(size) in {1, 2}
        assert await journal.write(adding(1)) in {2, 3}


async def test_a_server_restarted_between_two_writes_is_not_noticed(postgres_server, postgres_url, tmp_path):
    async with running(lambda: open_store(postgres_url, tmp_path)) as journal:
        assert await journal.write(adding(1)) == 1
        assert await journal.read(size) == 1
        postgres_server.stop()
        await asyncio.to_thread(postgres_server.start)
        assert await journal.write(adding(1)) == 2
        assert await journal.read(size) == 2


async def test_closing_writes_what_waits_and_refuses_the_rest(tmp_path, held):
    journal = StoreJournal(lambda: SqliteStore(tmp_path / "a.db"), "the store")
    journal.start()
    first = begun(journal.write(held))
    await until(held.begun.is_set)
    waiting = begun(journal.write(adding(1)))
    await asyncio.sleep(0)
    closing = begun(journal.close())
    await asyncio.sleep(0)
    for call in (journal.write, journal.read):
        with pytest.raises(StoreError, match="closed"):
            await call(size)
    held.free.set()
    await closing
    assert (await first, await waiting) == (1, 2)
    await until(lambda: not any("fusebox-store" in thread.name for thread in threading.enumerate()))
    store = SqliteStore(tmp_path / "a.db")
    assert store.read(size) == 2
    store.close()


async def test_a_store_that_never_opened_is_closed_at_once(tmp_path):
    (tmp_path / "var").write_text("in the way")
    journal = StoreJournal(lambda: SqliteStore(tmp_path / "var" / "a.db"), "the store")
    journal.start()
    await until(lambda: journal.trouble)
    before = monotonic()
    await journal.close()
    assert monotonic() - before < 2


async def test_a_mistake_of_the_store_does_not_end_its_thread(caplog):
    class Odd(MemoryStore):
        odd = True

        def write_all(self, works):
            if self.odd:
                raise ZeroDivisionError("odd")
            return super().write_all(works)

    store = Odd()
    async with running(lambda: store) as journal:
        with pytest.raises(StoreError, match="ZeroDivisionError"):
            await journal.write(adding(1))
        store.odd = False
        await until(lambda: not journal.trouble)
        assert await journal.write(adding(1)) == 1


def test_no_thread_keeps_the_process_from_ending():
    """The disk never answers, neither opening nor closing, and the process ends all the same."""
    program = """
import asyncio, threading
from proxy.storage.journal import StoreJournal
async def main():
    journal = StoreJournal(lambda: threading.Event().wait(), "the store", wait_s=0.05)
    journal.start()
    try:
        await journal.write(len)
    except Exception as error:
        print(error)
    await journal.close(0.05)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "the store: no answer within 0.05 s, nothing was done\n"
    assert done.stderr == ""
