"""`fusebox audit erase`: a person forgotten, with and without a sidecar that runs."""

import threading
from contextlib import closing

import orjson
import pytest
from keeping import entry

from proxy.cli import audit_erase
from proxy.clock import monotonic
from proxy.control.audit import ERASED, append
from proxy.core.audit import spooled
from proxy.storage import directory
from proxy.storage.spool import SpoolFile, SpoolReader
from proxy.storage.sqlite import SqliteStore

ALICE = {"subject": "user-1", "private": ("subject", "reason"), "reason": "my secret"}


@pytest.fixture
def erase(audit):
    return lambda *words: audit("erase", "--reason", "she asked", *words)


@pytest.fixture
def spool(kept):
    """What a sidecar writes to; an entry about user-1 waits in it."""
    with closing(SpoolFile(kept.state / "spool")) as spool:
        spool.add(spooled(entry(30, **ALICE)))
        yield spool


def exported(audit):
    return [orjson.loads(line) for line in audit("export", "--open").stdout.splitlines()]


def test_what_was_sealed_is_gone_and_the_log_verifies(audit, erase, kept):
    """Recorded with who and why, by the id of the key."""
    done = erase("--subject", "user-1")
    assert done.exit_code == 0, done.output
    assert "backups" in done.stderr
    entries = exported(audit)
    assert all(it.get("erased") for it in entries[1:20:2])
    assert "my secret" not in str(entries)
    said = entries[20]
    assert (said["action"], said["actor"], said["reason"]) == (ERASED, "cli", "she asked")
    assert said["address"].startswith("local, uid ")
    assert "user-1" not in str(said)
    assert "10 entries erased" in audit("verify").stdout


def test_whom_nobody_knows_is_exit_1_and_recorded(erase, audit):
    """A mistyped name must not look like one that is forgotten."""
    done = erase("--subject", "user-9")
    assert done.exit_code == 1
    assert "nothing is sealed" in done.stderr
    assert exported(audit)[-1]["after"] == {"found": False}
    done = erase("--subject", "user-9", "--json")
    assert (done.exit_code, orjson.loads(done.stdout)) == (1, {"erased": False})
    assert orjson.loads(erase("--subject", "user-1", "--json").stdout) == {"erased": True}


def test_without_a_sidecar_what_waits_is_taken_in_and_erased_too(erase, audit, spool):
    """Later it would be sealed under a new key, and could be read."""
    spool.close()
    assert erase("--subject", "user-1").exit_code == 0
    assert [it["seq"] for it in exported(audit) if it.get("erased")] == [*range(1, 20, 2), 20]
    assert "my secret" not in audit("export", "--open").stdout


def test_beside_a_sidecar_it_waits_until_that_has_taken_it_in(erase, audit, kept, spool, monkeypatch):
    """It takes nothing in itself, or entries could be in the log twice."""
    monkeypatch.setattr(audit_erase, "POLL_S", 0.01)
    reader = SpoolReader(kept.state / "spool")
    (name,) = reader.files()
    waits = threading.Event()
    left = audit_erase._left

    def seen(*asked):
        if found := left(*asked):
            waits.set()
        return found

    monkeypatch.setattr(audit_erase, "_left", seen)

    def take_in():
        waits.wait(5)
        with closing(SqliteStore(kept.path)) as store:
            assert store.read(lambda it: it.audit.tree().size) == 20, "neither taken in nor erased by it"

            def take(records):
                append(records, [entry(30, **ALICE)], kept.sealer)
                records.audit.set_spool_position(name, reader.read(name, 0, 99).position)

            store.write(take)

    sidecar = threading.Thread(target=take_in)
    with directory.hold(kept.state):
        sidecar.start()
        done = erase("--subject", "user-1")
    sidecar.join()
    assert done.exit_code == 0, done.output
    assert [it.get("erased") for it in exported(audit)[20:]] == [True, None]


def test_a_sidecar_that_takes_nothing_in_keeps_it_from_happening(erase, audit, kept, spool, monkeypatch):
    """Said, and nothing is erased."""
    monkeypatch.setattr(audit_erase, "PATIENCE_S", 0.0)
    monkeypatch.setattr(audit_erase, "POLL_S", 0.0)
    began = monotonic()
    with directory.hold(kept.state):
        done = erase("--subject", "user-1")
    assert monotonic() - began < 20
    assert done.exit_code == 1
    assert "has not taken in" in done.stderr
    assert "nothing was erased" in done.stderr
    assert exported(audit)[1]["reason"] == "my secret"


def test_a_spool_that_is_empty_is_not_waited_for(erase, kept):
    """The usual case beside a sidecar."""
    with directory.hold(kept.state):
        assert erase("--subject", "user-1").exit_code == 0


@pytest.mark.parametrize("words", [("--subject", " "), ("--subject", "a", "--reason", "")])
def test_who_and_why_have_to_be_said(erase, words):
    done = erase(*words)
    assert done.exit_code == 2
    assert "should not be empty" in done.stderr


def test_without_its_keys_nobody_can_be_found(erase, kept):
    """The store names nobody."""
    (kept.state / "audit.key").unlink()
    done = erase("--subject", "user-1")
    assert done.exit_code == 1
    assert "audit.key" in done.stderr
