"""What is PostgreSQL's own: limits on waiting, faults told without the password, traces of keys, who may."""

import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from storing import adding, size

from proxy.core.store_url import parse
from proxy.demo.processes import free_port
from proxy.ports import StoreError
from proxy.ports.records import SubjectKey
from proxy.storage.stores import open_store

psycopg = pytest.importorskip("psycopg")
PASSWORD = "correct-horse-battery"


@pytest.fixture
def store(postgres_url, tmp_path):
    made = open_store(postgres_url, tmp_path)
    yield made
    made.close()


@pytest.fixture
def direct(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SET search_path = fusebox")
        yield connection


def test_nothing_waits_without_end(store):
    settings = dict(
        store._writer.rows(
            "SELECT name, setting FROM pg_settings WHERE name IN ('lock_timeout',"
            " 'statement_timeout', 'idle_in_transaction_session_timeout', 'synchronous_commit')",
            {},
        )
    )
    assert settings == {
        "lock_timeout": "4000",
        "statement_timeout": "30000",
        "idle_in_transaction_session_timeout": "60000",
        "synchronous_commit": "on",
    }
    info = store._writer.connection.info.get_parameters()
    assert (info["connect_timeout"], info["tcp_user_timeout"]) == ("5", "15000")


def test_commits_wait_for_the_disk_whatever_the_server_is_set_to(postgres_url, store, direct, tmp_path):
    direct.execute("ALTER ROLE fusebox SET synchronous_commit = off")
    try:
        with closing(open_store(postgres_url, tmp_path)) as other:
            assert other._writer.rows("SHOW synchronous_commit", {}) == [("on",)]
    finally:
        direct.execute("ALTER ROLE fusebox RESET synchronous_commit")


def test_a_server_that_may_lose_commits_is_told(store, direct):
    """`fsync` cannot be switched for a session; the question is asked of what it says."""
    direct.execute(
        "CREATE VIEW pg_settings AS SELECT name, "
        "CASE name WHEN 'fsync' THEN 'off' ELSE setting END AS setting FROM pg_catalog.pg_settings"
    )
    assert store.check() == []
    told = store._check_files
    store._begin_read = lambda session: (
        session.command("BEGIN"), session.command("SET LOCAL search_path = fusebox, pg_catalog")
    )  # fmt: skip
    assert "fsync = off: a power cut may lose" in told()[0]


def test_another_writer_is_waited_for_and_told(store, direct):
    store.write(adding(1))
    with direct.transaction():
        direct.execute("SELECT * FROM audit_tree FOR UPDATE")
        store._writer.command("SET lock_timeout = '100ms'")
        with pytest.raises(StoreError, match=r"another writer keeps it locked .*; 55P03"):
            store.write(adding(1))
        assert store.read(size) == 1
    assert store.write(adding(1)) == 2


def test_a_connection_ended_by_the_server_is_made_anew(store, direct):
    assert store.write(adding(1)) == 1
    assert store.read(size) == 1
    direct.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'fusebox' AND pid <> pg_backend_pid()"
    )
    assert store.read(size) == 1
    assert store.write(adding(1)) == 2


def test_a_connection_ended_in_a_transaction_loses_all_of_it(store, direct):
    def work(records):
        adding(3)(records)
        direct.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fusebox'"
        )
        return size(records)

    with pytest.raises(StoreError, match="connection"):
        store.write(work)
    assert store.read(size) == 0
    assert store.write(adding(1)) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("/postgres", "/nowhere"), "does not exist"),
        ((PASSWORD, "wrong-secret"), "authentication failed"),
        (("fusebox:", "nobody:"), "authentication failed"),
    ],
)
def test_what_keeps_it_from_being_opened_is_told_without_the_password(postgres_url, change, said, tmp_path):
    url = postgres_url.replace(*change)
    with pytest.raises(StoreError, match=f"it refuses the connection .*{said}") as caught:
        open_store(url, tmp_path)
    assert PASSWORD not in str(caught.value)
    assert "wrong-secret" not in str(caught.value)


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(
        StoreError, match=r"^postgresql://me@127\.0\.0\.1:\d+/x: it cannot be reached .*refused"
    ):
        open_store(f"postgresql://me:{PASSWORD}@127.0.0.1:{free_port()}/x", tmp_path)


def test_options_that_nobody_knows_are_told_without_the_url(tmp_path):
    with pytest.raises(StoreError) as caught:
        open_store(f"postgresql://me:{PASSWORD}@localhost/x?nonsense={PASSWORD}", tmp_path)
    assert str(caught.value) == (
        "postgresql://me@localhost/x: storage.url holds something that PostgreSQL does not know"
    )
    assert caught.value.__cause__ is None


def test_a_user_who_may_not_make_a_schema_is_told_what_to_grant(postgres_url, direct, tmp_path):
    direct.execute("DROP ROLE IF EXISTS small")
    direct.execute(f"CREATE ROLE small LOGIN PASSWORD '{PASSWORD}'")
    try:
        url = postgres_url.replace("fusebox:", "small:")
        with pytest.raises(StoreError, match=r"this user may not do that .*: GRANT CREATE ON DATABASE"):
            open_store(url, tmp_path)
        direct.execute("CREATE SCHEMA fusebox AUTHORIZATION small")
        with closing(open_store(url, tmp_path)) as made:
            assert made.write(adding(1)) == 1
            assert made.check() == []
    finally:
        direct.execute("DROP SCHEMA IF EXISTS fusebox CASCADE")
        direct.execute("DROP ROLE small")


def test_a_schema_of_somebody_else_is_refused(postgres_url, direct, tmp_path):
    direct.execute("CREATE SCHEMA fusebox")
    direct.execute("CREATE TABLE fusebox.theirs (x integer)")
    with pytest.raises(StoreError, match="its schema fusebox belongs to another program"):
        open_store(postgres_url, tmp_path)


def test_two_stores_on_one_database_write_in_turn(postgres_url, store, tmp_path):
    def write(one):
        for _ in range(30):
            one.write(adding(1))

    with closing(open_store(postgres_url, tmp_path)) as other:
        threads = [threading.Thread(target=write, args=(one,)) for one in (store, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert other.read(size) == 60
        assert other.check() == []


def test_an_erased_key_is_gone_from_the_tables_files(store, direct, postgres_server):
    """What the server's own log holds goes with its recycling; docs/operations.md says so."""
    secret = b"secret-of-the-subject-to-be-erased"
    key = SubjectKey(key_id="k", tag=b"tag", wrapped=secret)

    def in_tables():
        direct.execute("CHECKPOINT")
        files = (postgres_server.home / "data" / "base").rglob("*")
        return any(secret in path.read_bytes() for path in files if path.is_file())

    store.write(lambda it: it.audit.add_key(key))
    assert in_tables()
    assert store.write(lambda it: it.audit.erase_key(b"tag"))
    assert not store._scrub_due
    assert not in_tables()


def test_a_missing_driver_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "proxy.storage.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)

    class Lacking:
        def find_spec(self, name, path=None, target=None):
            if name == "psycopg":
                raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.delitem(sys.modules, "psycopg")
    monkeypatch.setattr(sys, "meta_path", [Lacking(), *sys.meta_path])
    with pytest.raises(StoreError, match=r"pip install 'fusebox\[postgres\]'"):
        open_store("postgresql://me:secret@localhost/x", tmp_path)


def test_the_place_tells_no_password():
    place = parse(f"postgresql://me:{PASSWORD}@db.example:5433/x?sslmode=require")
    assert place.name == "postgresql://me@db.example:5433/x"
    assert PASSWORD not in repr(place)
    assert Path(place.path) == Path()
