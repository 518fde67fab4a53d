"""Schemas go forward, once, whole, from every earlier version with what it holds."""

import contextlib
import sqlite3
import subprocess
import sys

import pytest
from storing import adding, entries, size, version

from proxy.core.merkle import Frontier
from proxy.core.store_url import parse
from proxy.ports import StoreError
from proxy.storage.named_sql import Migration, bound, migrations, pending, queries
from proxy.storage.sqlite import SqliteStore


class Sqlite:
    dialect = "sqlite"

    def __init__(self, path):
        self.path = path

    def open(self, **settings):
        return SqliteStore(self.path, **settings)

    def schema(self):
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            wanted = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
            return sorted(connection.execute(wanted).fetchall())


class Postgres:
    dialect = "postgresql"

    def __init__(self, url):
        self.url = url

    def open(self, **settings):
        from proxy.storage.postgres import PostgresStore

        return PostgresStore(parse(self.url), **settings)

    def schema(self):
        import psycopg

        with psycopg.connect(self.url) as connection:
            columns = connection.execute(
                "SELECT table_name, ordinal_position, column_name, data_type, collation_name, is_nullable, "
                "column_default FROM information_schema.columns WHERE table_schema = 'fusebox'"
            ).fetchall()
            indexes = connection.execute(
                "SELECT indexdef FROM pg_indexes WHERE schemaname = 'fusebox'"
            ).fetchall()
            return sorted(map(str, columns)) + sorted(map(str, indexes))


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request, tmp_path):
    if request.param == "sqlite":
        return Sqlite(tmp_path / "a.db")
    return Postgres(request.getfixturevalue("postgres_url"))


OLD_ROW = """INSERT INTO audit_entries (seq, entry, leaf, at, action, outcome, actor, target, request_id)
VALUES (:seq, :entry, :leaf, :at, :action, :outcome, :actor, :target, :request_id)"""


def put_first(session, rows, tree):
    """As the first version wrote."""
    for row in rows:
        names = ("seq", "entry", "leaf", "at", "action", "outcome", "actor", "target", "request_id")
        session.run(OLD_ROW, {name: getattr(row, name) for name in names})
    session.run("UPDATE audit_tree SET size = :size, peaks = :peaks",
                {"size": tree.size, "peaks": b"".join(tree.peaks)})  # fmt: skip


@pytest.mark.parametrize("steps", range(1, len(migrations("sqlite"))))
def test_from_every_earlier_version_with_what_it_holds(kind, steps, tmp_path):
    rows = entries(0, 5)
    tree = Frontier().extend(row.leaf for row in rows)
    old = kind.open(steps=migrations(kind.dialect)[:steps])
    with old._transaction() as session:
        put_first(session, rows, tree)
    old.close()
    before = kind.schema()
    new = kind.open()
    assert new.read(lambda it: (it.audit.tree(), list(it.audit.walk(0, 9)))) == (tree, rows)
    assert new.write(adding(1)) == 6
    new.write(lambda it: it.toggles.append(version(1)))
    assert new.read(lambda it: it.toggles.newest()) == version(1)
    assert new.check() == []
    new.close()
    assert kind.schema() != before
    if kind.dialect == "sqlite":
        fresh = Sqlite(tmp_path / "fresh.db")
        fresh.open().close()
        assert kind.schema() == fresh.schema()


def test_the_earlier_versions_are_there():
    for dialect in ("sqlite", "postgresql"):
        steps = migrations(dialect)
        assert [step.number for step in steps] == list(range(1, len(steps) + 1))
        assert len(steps) >= 2
    names = [[step.name for step in migrations(dialect)] for dialect in ("sqlite", "postgresql")]
    assert names[0] == names[1]


def test_the_postgresql_schema_is_the_same_from_every_earlier_version(postgres_server, postgres_url):
    kind = Postgres(postgres_url)
    kind.open().close()
    fresh = kind.schema()
    postgres_server.emptied()
    for steps in range(1, len(migrations("postgresql"))):
        kind.open(steps=migrations("postgresql")[:steps]).close()
        assert kind.schema() != fresh
        kind.open().close()
        assert kind.schema() == fresh
        postgres_server.emptied()


def test_opening_again_changes_nothing(kind):
    first = kind.open()
    first.write(adding(2))
    first.close()
    again = kind.open(existing=True)
    assert again.read(size) == 2
    again.close()


def test_a_step_that_fails_halfway_leaves_the_former_version(kind):
    kind.open().close()
    before = kind.schema()
    steps = migrations(kind.dialect)
    bad = Migration(
        number=len(steps) + 1,
        name="bad",
        sql="CREATE TABLE half (x integer);\nCREATE TABLE half (x integer);\n",
    )
    with pytest.raises(StoreError, match="already exists"):
        kind.open(steps=[*steps, bad])
    assert kind.schema() == before
    store = kind.open()
    assert store.write(adding(1)) == 1
    store.close()


def test_a_store_of_a_newer_version_is_refused(kind):
    steps = migrations(kind.dialect)
    later = Migration(number=len(steps) + 1, name="later", sql="CREATE TABLE later (x integer);\n")
    kind.open(steps=[*steps, later]).close()
    known = rf"newer version of fusebox \(store version {later.number}, this one knows {len(steps)}\)"
    with pytest.raises(StoreError, match=known):
        kind.open()


def test_a_store_of_another_build_is_refused(kind):
    steps = migrations(kind.dialect)
    other = Migration(number=2, name="other", sql=steps[1].sql + "-- not as shipped\n")
    kind.open(steps=[steps[0], other, *steps[2:]]).close()
    with pytest.raises(StoreError, match="step 2 of its schema is not the one that is shipped here"):
        kind.open()


def test_who_only_looks_brings_nothing_forward(kind):
    with pytest.raises(StoreError, match="there is no store: fusebox serve makes it"):
        kind.open(existing=True)
    kind.open(steps=migrations(kind.dialect)[:1]).close()
    before = kind.schema()
    newest = len(migrations(kind.dialect))
    with pytest.raises(
        StoreError, match=f"is of store version 1 and this is {newest}: fusebox serve brings it forward"
    ):
        kind.open(existing=True)
    assert kind.schema() == before


OPEN = """
import sys
from pathlib import Path
from proxy.storage.stores import open_store
sys.stdin.read(1)
store = open_store(sys.argv[1], Path(sys.argv[2]))
store.write(lambda records: records.audit.tree())
store.close()
"""


@pytest.mark.parametrize("steps", [0, 1])
def test_processes_that_start_at_the_same_time_migrate_once(kind, steps, tmp_path):
    """Both from nothing and from an earlier version."""
    if steps:
        kind.open(steps=migrations(kind.dialect)[:steps]).close()
    words = [sys.executable, "-c", OPEN, getattr(kind, "url", "sqlite:///a.db"), str(tmp_path)]
    started = [subprocess.Popen(words, stdin=subprocess.PIPE) for _ in range(4)]
    for each in started:
        each.stdin.write(b"go")
        each.stdin.close()
    assert [each.wait(timeout=60) for each in started] == [0] * 4
    store = kind.open(existing=True)
    assert store.check() == []
    store.close()


def test_pending_steps():
    steps = [Migration(number=number, name="x", sql=str(number)) for number in (1, 2, 3)]
    applied = {step.number: step.checksum for step in steps}
    assert pending("s", steps, {}, existing=False) == steps
    assert pending("s", steps, {1: applied[1]}, existing=False) == steps[1:]
    assert pending("s", steps, applied, existing=True) == []


def test_queries_are_named_and_whole():
    named = queries("audit.sql")
    assert named["spool_position"] == "SELECT position FROM spool_positions WHERE name = :name"
    assert all(text and not text.endswith(";") for text in named.values())
    assert bound(named["spool_position"]) == b"SELECT position FROM spool_positions WHERE name = %(name)s"
