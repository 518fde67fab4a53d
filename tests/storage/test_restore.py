"""Backups loaded into stores: only whole ones, only where nothing is lost."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from storing import AT, adding, size, version

from proxy.core.store_url import parse
from proxy.ports import StoreError
from proxy.ports.records import StoredCheckpoint, SubjectKey
from proxy.storage.memory import MemoryStore
from proxy.storage.named_sql import migrations
from proxy.storage.restore import _out_of_the_way, restore
from proxy.storage.sqlite import SqliteStore
from proxy.storage.stores import open_store

STAMP = "20260101T000000Z"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request):
    return "sqlite:///var/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def backup(tmp_path):
    store = MemoryStore()
    store.write(adding(1_234, target="é\x00\\N\t"))
    store.write(lambda it: it.audit.add_key(SubjectKey(key_id="k", tag=b"\x00\\", wrapped=b"\xff\x00")))
    store.write(lambda it: it.audit.add_checkpoint(StoredCheckpoint(size=5, root=b"", at=AT, note="a\nb\n")))
    store.write(lambda it: it.toggles.append(version(7, diff=b"\x00\xff")))
    store.backup(tmp_path / "backup.db")
    return tmp_path / "backup.db"


def content(store):
    return store.read(
        lambda it: (
            it.audit.tree(),
            list(it.audit.walk(0, 10_000)),
            it.audit.key_by_id("k"),
            it.audit.checkpoints(),
            it.audit.spool_position("a"),
            it.toggles.newest(),
        )
    )


def kept(url, base):
    with closing(open_store(url, base)) as store:
        assert store.check() == []
        return content(store)


def test_into_a_store_that_is_not_there(backup, url, tmp_path):
    done = restore(backup, parse(url), tmp_path, replace=False, stamp=STAMP)
    assert (done.entries, done.aside) == (1_234, "")
    assert kept(url, tmp_path) == kept(f"sqlite:///{backup.name}", tmp_path)


def test_into_a_store_that_is_empty(backup, url, tmp_path):
    open_store(url, tmp_path).close()
    assert restore(backup, parse(url), tmp_path, replace=False, stamp=STAMP).aside == ""
    assert kept(url, tmp_path)[0].size == 1_234


@pytest.mark.parametrize(
    "work", [adding(1), lambda it: it.audit.set_spool_position("a", 1)], ids=["entries", "positions"]
)
def test_a_store_that_holds_something_is_not_touched(backup, url, work, tmp_path):
    with closing(open_store(url, tmp_path)) as store:
        store.write(work)
    before = kept(url, tmp_path)
    with pytest.raises(StoreError, match="holds something already: --replace moves it aside"):
        restore(backup, parse(url), tmp_path, replace=False, stamp=STAMP)
    assert kept(url, tmp_path) == before


def test_a_store_that_is_replaced_is_kept_aside(backup, url, tmp_path):
    with closing(open_store(url, tmp_path)) as store:
        store.write(adding(3))
    before = kept(url, tmp_path)
    done = restore(backup, parse(url), tmp_path, replace=True, stamp=STAMP)
    assert kept(url, tmp_path)[0].size == 1_234
    if url.startswith("sqlite"):
        assert done.aside == str(tmp_path / "var" / f"a.db.before-{STAMP}")
        assert kept(f"sqlite:///{done.aside}", tmp_path) == before
        assert sorted(path.name for path in (tmp_path / "var").iterdir()) == [
            "a.db", f"a.db.before-{STAMP}", f"a.db.before-{STAMP}.lock", "a.db.lock"
        ]  # fmt: skip
        assert stat.S_IMODE((tmp_path / "var" / "a.db").stat().st_mode) == 0o600
    else:
        import psycopg

        assert done.aside == "schema fusebox_before_20260101t000000z"
        with psycopg.connect(url) as connection:
            assert connection.execute(f"SELECT size FROM {done.aside.split()[1]}.audit_tree").fetchone() == (
                3,
            )
            connection.execute(f"DROP SCHEMA {done.aside.split()[1]} CASCADE")


def test_a_damaged_store_counts_as_one_that_holds_something(backup, tmp_path):
    (tmp_path / "a.db").write_bytes(b"garbage" * 1_000)
    with pytest.raises(StoreError, match="--replace"):
        restore(backup, parse("sqlite:///a.db"), tmp_path, replace=False, stamp=STAMP)
    done = restore(backup, parse("sqlite:///a.db"), tmp_path, replace=True, stamp=STAMP)
    assert kept("sqlite:///a.db", tmp_path)[0].size == 1_234
    assert Path(done.aside).read_bytes().startswith(b"garbage")


def test_the_log_beside_a_file_goes_with_it(tmp_path):
    """Left where it is, it would be played into the restored file."""
    for name in ("a.db", "a.db-wal", "a.db-shm"):
        (tmp_path / name).write_text(name)
    aside = _out_of_the_way(tmp_path / "a.db", ".before")
    assert aside == str(tmp_path / "a.db.before")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.db.before": "a.db", "a.db.before-wal": "a.db-wal", "a.db.before-shm": "a.db-shm"
    }  # fmt: skip


@pytest.mark.parametrize("replace", [False, True])
def test_a_store_in_use_is_not_touched(backup, url, replace, tmp_path):
    store = open_store(url, tmp_path)
    try:
        with pytest.raises(StoreError, match="is in use: end the sidecar"):
            restore(backup, parse(url), tmp_path, replace=replace, stamp=STAMP)
        assert store.write(adding(1)) == 1
    finally:
        store.close()


def test_nobody_opens_a_store_while_it_is_restored(backup, tmp_path, monkeypatch):
    seen = []

    def look(made, path):
        with pytest.raises(StoreError, match="is being restored") as caught:
            open_store("sqlite:///a.db", tmp_path)
        seen.append(caught)
        made.rename(path)

    monkeypatch.setattr("proxy.storage.restore.publish", look)
    restore(backup, parse("sqlite:///a.db"), tmp_path, replace=False, stamp=STAMP)
    assert seen


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", "there is no such file"),
        ("text", "is no backup of a store"),
        ("empty", "is no backup of a store"),
        ("cut", "damaged"),
        ("rows", "1 of the entries 0 to 1233 are missing, the first is 77"),
        ("foreign", "is no backup of a store"),
        ("newer", "newer version"),
    ],
)
def test_what_is_no_sound_backup_is_refused(backup, what, said, url, tmp_path):
    if what == "missing":
        backup.unlink()
    elif what == "text":
        backup.write_text("no backup\n" * 1_000)
    elif what == "empty":
        backup.write_bytes(b"")
    elif what == "cut":
        backup.write_bytes(backup.read_bytes()[:50_000])
    else:
        with closing(sqlite3.connect(backup, isolation_level=None)) as connection:
            connection.execute(
                {
                    "rows": "DELETE FROM audit_entries WHERE seq = 77",
                    "foreign": "DROP TABLE schema_migrations",
                    "newer": "INSERT INTO schema_migrations VALUES (999, 'x', 'x', '')",
                }[what]
            )
    with pytest.raises(StoreError, match=rf"backup\.db: .*{said}"):
        restore(backup, parse(url), tmp_path, replace=True, stamp=STAMP)
    assert [
        path.name for path in tmp_path.rglob("*") if "a.db" in path.name and "lock" not in path.name
    ] == []


def test_an_older_backup_is_brought_to_the_newest_version(url, tmp_path):
    old = SqliteStore(tmp_path / "old.db", steps=migrations("sqlite")[:1])
    with old._transaction() as session:
        session.command("INSERT INTO audit_entries VALUES (0, x'', x'', 'at', 'a', 'o', '', '', '')")
        session.command("UPDATE audit_tree SET size = 1, peaks = zeroblob(32)")
    old.backup(tmp_path / "backup.db")
    old.close()
    before = (tmp_path / "backup.db").read_bytes()
    restore(tmp_path / "backup.db", parse(url), tmp_path, replace=False, stamp=STAMP)
    with closing(open_store(url, tmp_path)) as store:
        assert store.read(size) == 1
        assert [row.key_id for row in store.read(lambda it: list(it.audit.walk(0, 9)))] == [""]
    assert (tmp_path / "backup.db").read_bytes() == before


def test_nothing_can_be_restored_into_memory(backup, tmp_path):
    with pytest.raises(StoreError, match="keeps nothing"):
        restore(backup, parse("memory://"), tmp_path, replace=False, stamp=STAMP)
