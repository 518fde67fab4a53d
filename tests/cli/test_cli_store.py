"""`fusebox store`: what is told, with which exit code, and what stands in the audit log."""

import json
import stat
from contextlib import closing

import pytest

from proxy.core.audit import parse
from proxy.storage.spool import SpoolReader
from proxy.storage.sqlite import SqliteStore


def touch(records):
    records.audit.set_spool_position("a", 7)


@pytest.fixture
def database(config):
    path = config.parent / "var" / "fusebox.db"
    with closing(SqliteStore(path)) as store:
        store.write(touch)
    return path


def test_a_sound_store_is_ok(run, config, database):
    result = run("store", "check", "--config", config)
    assert (result.exit_code, result.stdout) == (0, f"{database}: ok\n")
    told = json.loads(run("store", "check", "--json", "--config", config).stdout)
    assert told == {"ok": True, "store": str(database), "problems": []}


def test_everything_wrong_is_told_and_exits_1(run, config, database):
    with closing(SqliteStore(database)) as store, store._transaction() as session:
        session.command("UPDATE audit_tree SET size = 5")
    result = run("store", "check", "--config", config)
    assert result.exit_code == 1
    assert "the tree of 5 entries is damaged" in result.stderr
    assert "5 of the entries 0 to 4 are missing, the first is 0" in result.stderr
    result = run("store", "check", "--json", "--config", config)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False
    assert len(json.loads(result.stdout)["problems"]) == 2


@pytest.mark.parametrize("words", [("check",), ("backup", "new.db")])
def test_without_a_store_none_is_made(run, config, words):
    result = run("store", *words, "--config", config)
    assert result.exit_code == 1
    assert "there is no store: fusebox serve makes it" in result.stderr
    assert not (config.parent / "var" / "fusebox.db").exists()


def test_a_backup_beside_whoever_has_it_open_and_back(run, config, database, tmp_path):
    target = tmp_path / "backup.db"
    with closing(SqliteStore(database)):
        result = run("store", "backup", target, "--config", config)
        assert result.exit_code == 0
        assert result.stdout == f"{database} is saved in {target}: {target.stat().st_size} bytes\n"
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        result = run("store", "restore", target, "--replace", "--config", config)
        assert (result.exit_code, "is in use: end the sidecar" in result.stderr) == (1, True)
    result = run("store", "restore", target, "--config", config)
    assert (result.exit_code, "--replace moves it aside" in result.stderr) == (1, True)
    last = config.parent / "var" / "audit.last"
    last.write_text("of the store that goes")
    result = run("store", "restore", target, "--replace", "--reason", "drill", "--json", "--config", config)
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["entries"] == 0
    assert told["aside"].startswith(f"{database}.before-20")
    assert not last.exists(), "the sidecar would not sign what was restored"
    with closing(SqliteStore(database)) as store:
        assert store.read(lambda it: it.audit.spool_position("a")) == 7


def test_a_backup_is_never_written_over_a_file(run, config, database, tmp_path):
    result = run("store", "backup", config, "--config", config)
    assert (result.exit_code, "is there already" in result.stderr) == (1, True)


def test_the_restored_log_will_tell_of_it(run, config, database, tmp_path):
    run("store", "backup", tmp_path / "backup.db", "--config", config)
    database.unlink()
    result = run("store", "restore", tmp_path / "backup.db", "--reason", "disk died", "--config", config)
    assert result.exit_code == 0
    assert "0 entries in the audit log" in result.stdout
    result = run("store", "restore", tmp_path / "backup.db", "--config", config)
    assert result.exit_code == 1
    spool = SpoolReader(config.parent / "var" / "spool")
    first, second = sorted(
        ([parse(it) for it in spool.read(name, 0, 100).entries] for name in spool.files()), key=len
    )
    assert [(it.action, it.outcome) for it in first] == [("store.restore", "accepted")]
    assert (first[0].reason, first[0].actor, first[0].target) == (
        "disk died",
        "cli",
        str(tmp_path / "backup.db"),
    )
    assert [it.outcome for it in second] == ["accepted", "failed"]
    assert "--replace" in second[1].reason


def test_it_works_while_other_settings_are_wrong(run, config, database):
    config.write_text(config.read_text() + '[listen]\naddress = "nonsense"\n')
    assert run("store", "check", "--config", config).exit_code == 0


@pytest.mark.parametrize(
    ("url", "said", "code"),
    [
        ("nonsense", "storage.url names no store that is known here", 1),
        ("memory://", "keeps nothing", 1),
        ("postgresql://me:hush@127.0.0.1:1/x", "it cannot be reached", 1),
        (5, "storage.url", 2),
    ],
)
def test_stores_that_cannot_be_used(run, config, url, said, code):
    config.write_text(config.read_text() + f"[storage]\nurl = {json.dumps(url)}\n")
    result = run("store", "check", "--config", config)
    assert result.exit_code == code
    assert said in result.stderr
    assert "hush" not in result.output
