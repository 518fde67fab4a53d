"""What can happen to a database file, with real causes: told with file, cause and way out, and survived."""

import contextlib
import os
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from storing import adding, failing, size

from proxy.clock import monotonic
from proxy.ports import StoreError
from proxy.ports.records import SubjectKey
from proxy.storage.named_sql import migrations
from proxy.storage.sqlite import SqliteStore

STEPS = migrations("sqlite")
"""Read as who we are: another user may not come to this directory, which a checkout in a private one is."""


@contextlib.contextmanager
def mounted(directory, *options):
    """A file system of 1 MiB; needs root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    directory.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"mounting a small file system is not allowed here: {done.stderr.decode().strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def test_files_are_for_their_owner_alone(sqlite, tmp_path):
    sqlite.write(adding(1))
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(found) == {"fusebox.db", "fusebox.db-wal", "fusebox.db-shm", "fusebox.db.lock"}
    assert set(found.values()) == {0o600}


def test_every_commit_waits_for_the_disk(sqlite):
    settings = {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1}
    for name, value in settings.items():
        assert sqlite._writer.rows(f"PRAGMA {name}", {}) == [(value,)]


def test_a_full_disk_is_told_and_written_again_when_there_is_room(tmp_path):
    with mounted(tmp_path / "small") as small:
        store = SqliteStore(small / "a.db")
        acknowledged = store.write(adding(10))
        filler = small / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(1024 * 1024))
        with pytest.raises(StoreError, match=r"small/a\.db: its file system is full .*: free some space"):
            store.write(adding(2_000))
        assert store.read(size) == acknowledged
        filler.unlink()
        assert store.write(adding(100)) == 110
        assert store.check() == []
        store.close()


def test_a_limit_on_file_sizes_is_told_and_survived(tmp_path):
    """The same without root: the kernel refuses to let the file grow."""
    store = SqliteStore(tmp_path / "a.db")
    store.write(adding(10))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(StoreError, match=r"a\.db: its disk does not answer .* ulimit -f"):
            store.write(adding(5_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.write(adding(1)) == 11
    assert store.check() == []
    store.close()


def test_a_file_system_that_became_read_only(tmp_path):
    with mounted(tmp_path / "small") as small:
        store = SqliteStore(small / "a.db")
        store.write(adding(10))
        store.close()
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        with pytest.raises(StoreError, match=r"small/a\.db.*: cannot be opened: Read-only file system"):
            SqliteStore(small / "a.db")
        subprocess.run(["mount", "-o", "remount,rw", small], check=True)
        store = SqliteStore(small / "a.db")
        assert store.write(adding(1)) == 11
        store.close()


@contextlib.contextmanager
def unprivileged():
    """Without the rights of root, which no mode of a file stops."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public():
    """A directory that other users can come to."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


def test_a_directory_that_may_not_be_written_is_named(public):
    public.chmod(0o555)
    with (
        unprivileged(),
        pytest.raises(StoreError, match=r"a\.db.*: cannot be (opened|made): Permission denied"),
    ):
        SqliteStore(public / "a.db", steps=STEPS)
    assert list(public.iterdir()) == []


def test_a_file_that_may_not_be_read_is_named(public):
    path = public / "a.db"
    with unprivileged():
        SqliteStore(path, steps=STEPS).close()
        path.chmod(0o000)
        with pytest.raises(StoreError, match=r"a\.db: it cannot be opened .*this user"):
            SqliteStore(path, steps=STEPS)
        path.chmod(0o600)
        SqliteStore(path, steps=STEPS).close()


def test_a_file_that_may_only_be_read_is_read(public):
    path = public / "a.db"
    with unprivileged():
        store = SqliteStore(path, steps=STEPS)
        store.write(adding(1))
        store.close()
        path.chmod(0o444)
        with contextlib.closing(SqliteStore(path, steps=STEPS)) as store:
            assert store.read(size) == 1
            with pytest.raises(StoreError, match=r"a\.db: it cannot be written .*another user"):
                store.write(adding(1))
            assert store.check() == []


def test_a_lock_of_another_process_is_waited_for_and_told(tmp_path):
    store = SqliteStore(tmp_path / "a.db", busy_s=0.1)
    store.write(adding(1))
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun = monotonic()
    with pytest.raises(StoreError, match=r"a\.db: another process keeps it locked .*: end that process"):
        store.write(adding(1))
    assert 0.1 <= monotonic() - begun < 2
    assert store.read(size) == 1
    other.execute("ROLLBACK")
    other.close()
    assert store.write(adding(1)) == 2
    store.close()


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "a.db"
    path.write_bytes(b"no database " * 1_000)
    with pytest.raises(StoreError, match=r"a\.db: it is no SQLite database, or damaged .*: restore a backup"):
        SqliteStore(path)
    assert path.read_bytes() == b"no database " * 1_000


def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="is the database of another program"):
        SqliteStore(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_header_spoilt_while_it_is_open(sqlite):
    sqlite.write(adding(1_000))
    assert sqlite._truncate_wal()
    with sqlite.path.open("r+b") as file:
        file.write(b"garbage" * 100)
    assert "restore a backup" in sqlite.check()[0]
    with pytest.raises(StoreError, match=r"fusebox\.db: it is (no SQLite database|damaged)"):
        sqlite.read(lambda it: list(it.audit.walk(0, 1_000)))


def test_a_page_spoilt_in_the_middle_is_found(tmp_path):
    path = tmp_path / "a.db"
    store = SqliteStore(path)
    store.write(adding(3_000))
    store.close()
    pages = path.stat().st_size // 4096
    found = 0
    for page in range(2, pages, 17):
        spoilt = tmp_path / "spoilt.db"
        shutil.copy(path, spoilt)
        with spoilt.open("r+b") as file:
            file.seek(page * 4096)
            file.write(bytes(range(256)) * 16)
        try:
            store = SqliteStore(spoilt)
        except StoreError as error:
            told = [str(error)]
        else:
            told = store.check()
            store.close()
        assert told, f"page {page} of {pages}"
        assert all("spoilt.db" in line or "restore" in line or "missing" in line for line in told), told
        found += 1
    assert found > 10


@pytest.mark.parametrize("what", ["fusebox.db", "fusebox.db-wal"])
def test_a_file_deleted_while_it_is_open_is_not_written_into_the_void(sqlite, what):
    sqlite.write(adding(1))
    aside = sqlite.path.with_name("aside")
    sqlite.path.with_name(what).rename(aside)
    with pytest.raises(StoreError, match=rf"{what} was removed or replaced while in use.*: put it back"):
        sqlite.write(adding(1))
    aside.rename(sqlite.path.with_name(what))
    assert sqlite.write(adding(1)) == 2
    assert sqlite.check() == []


def test_a_file_deleted_during_a_commit_is_not_acknowledged(sqlite):
    def work(records):
        adding(1)(records)
        sqlite.path.unlink()

    with pytest.raises(StoreError, match="was removed or replaced while in use"):
        sqlite.write(work)


def test_text_that_is_no_utf8_is_shown_not_stumbled_over(sqlite):
    sqlite.write(adding(3, actor="bob"))
    with contextlib.closing(sqlite3.connect(sqlite.path, isolation_level=None)) as other:
        other.execute("UPDATE audit_entries SET actor = CAST(x'62ff62' AS TEXT) WHERE seq = 1")
    rows = sqlite.read(lambda it: list(it.audit.walk(0, 3)))
    assert [row.actor for row in rows] == ["bob", r"b\xffb", "bob"]


def test_a_missing_tree_is_told(sqlite):
    sqlite.write(adding(3))
    with contextlib.closing(sqlite3.connect(sqlite.path, isolation_level=None)) as other:
        other.execute("DELETE FROM audit_tree")
    for call in (lambda: sqlite.write(adding(1)), sqlite.check):
        with pytest.raises(StoreError, match="the row of audit_tree is missing"):
            call()


SECRETS = [bytes([number % 251]) * 4 + os.urandom(40) for number in range(300)]


def traces(directory, secrets):
    content = b"".join(path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file())
    return [secret for secret in secrets if secret in content]


def test_an_erased_key_leaves_no_trace_in_any_file(sqlite, tmp_path):
    def add(records):
        for number, secret in enumerate(SECRETS):
            records.audit.add_key(SubjectKey(key_id=f"k{number}", tag=secret[:16], wrapped=secret))

    sqlite.write(add)
    assert traces(tmp_path, SECRETS) == SECRETS
    for secret in SECRETS[::2]:
        assert sqlite.write(lambda it, secret=secret: it.audit.erase_key(secret[:16]))
    assert traces(tmp_path, SECRETS) == SECRETS[1::2]


def test_a_key_read_by_somebody_while_it_is_erased_is_gone_when_they_have_finished(tmp_path):
    sqlite = SqliteStore(tmp_path / "a.db", busy_s=10)
    key = SubjectKey(key_id="k", tag=b"tag", wrapped=SECRETS[0])
    sqlite.write(lambda it: it.audit.add_key(key))
    reading, ending = threading.Event(), threading.Event()

    def read(records):
        records.audit.tree()
        reading.set()
        ending.wait(20)

    thread = threading.Thread(target=sqlite.read, args=(read,))
    thread.start()
    reading.wait(20)
    begun = monotonic()
    assert sqlite.write(lambda it: it.audit.erase_key(b"tag"))
    assert monotonic() - begun < 5, "nobody waits for the reader"
    assert traces(tmp_path, [SECRETS[0]])
    ending.set()
    thread.join()
    assert not traces(tmp_path, [SECRETS[0]])
    sqlite.close()


def test_a_key_erased_by_a_process_that_was_killed_is_gone_after_the_next_start(tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from proxy.ports.records import SubjectKey
from proxy.storage.named_sql import migrations
from proxy.storage.sqlite import SqliteStore
store = SqliteStore(Path({str(tmp_path / "a.db")!r}))
store.write(lambda it: it.audit.add_key(SubjectKey(key_id="k", tag=b"tag", wrapped={SECRETS[1]!r})))
store._scrub = lambda: os.kill(os.getpid(), signal.SIGKILL)
store.write(lambda it: it.audit.erase_key(b"tag"))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=30)
    assert done.returncode == -9
    assert traces(tmp_path, [SECRETS[1]])
    store = SqliteStore(tmp_path / "a.db")
    assert not traces(tmp_path, [SECRETS[1]])
    assert store.read(lambda it: it.audit.key_by_id("k")) is None
    store.close()


def test_an_erasure_that_was_rolled_back_erases_nothing(sqlite):
    sqlite.write(lambda it: it.audit.add_key(SubjectKey(key_id="k", tag=b"tag", wrapped=b"w")))

    def work(records):
        records.audit.erase_key(b"tag")
        failing(records)

    assert isinstance(sqlite.write_all([work])[0], LookupError)
    assert sqlite.read(lambda it: it.audit.key_by_id("k")) is not None


def test_a_second_process_writes_beside(tmp_path):
    program = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from storing import adding
from proxy.storage.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
for _ in range(50):
    store.write(adding(1))
store.close()
"""
    path = tmp_path / "a.db"
    words = [sys.executable, "-c", program, str(path), str(Path(__file__).parent)]
    started = [subprocess.Popen(words) for _ in range(3)]
    assert [each.wait(timeout=60) for each in started] == [0, 0, 0]
    store = SqliteStore(path)
    assert store.read(size) == 150
    assert store.check() == []
    store.close()
