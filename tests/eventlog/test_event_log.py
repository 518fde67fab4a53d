"""The writer: files, rotation, losses; and the buffer before it."""

import errno
import os
import threading
from types import SimpleNamespace

import pytest
from eventing import KEY, NOON, Rig, body, error, ranking

from proxy.core.events import COLUMNS, EventsSettings
from proxy.eventlog import files
from proxy.eventlog.files import finished, listed
from proxy.eventlog.log import EventLog
from proxy.eventlog.rows import pseudonym


def test_a_ranking_event_has_the_fields_of_the_facts(rig):
    rig.take(ranking(1.5, answer=body(k=10, covered=7), seconds=0.0123))
    (row,) = rig.rows()
    assert set(row) == set(COLUMNS["ranking"])
    assert row["event_date"] == "2025-11-25"
    assert row["timestamp_ms"] == int((NOON + 1.5) * 1000)
    assert (row["k"], row["k_returned"], row["coverage"], row["latency_ms"]) == (10, 10, 0.7, 12.3)
    assert (row["cohort"], row["algorithm"], row["alpha"]) == ("heavy", "hybrid_default", 0.5)
    assert row["items"] == [f"film{at}" for at in range(1, 11)]


def test_every_kind_has_its_columns(rig):
    key = ranking()[4]
    rig.take(
        error(),
        ("request", 0.0, b"r", b"u", "payment", b"POST", 502, "reset", 0.1, 1.0),
        ("effect", 0.0, b"r", b"u", "payment", "billing.charge", "done", 200, ""),
        ("transition", 0.0, {"subject": "rollback", "state_before": "NORMAL", "state_after": "DEGRADED"}),
    )
    for kind in ("error", "request", "effect"):
        assert set(rig.rows(kind)[0]) == set(COLUMNS[kind])
    assert set(rig.rows("transition")[0]) <= set(COLUMNS["transition"])
    assert key.side == "exposed"


@pytest.mark.parametrize(
    ("side", "shadow"),
    [("exposed", False), ("control", False), ("staged", False), ("recovered", False)]
    + [(side, True) for side in ("decided", "override", "drill", "mirror", "warm")],
)
def test_what_must_not_be_judged_is_shadow(rig, side, shadow):
    rig.take(ranking(side=side))
    assert (rig.rows()[0]["side"], rig.rows()[0]["shadow"]) == (side, shadow)


def test_users_are_pseudonyms_that_only_the_key_can_make(rig):
    rig.take(ranking(user=b"alice"), ranking(user=b"bob"), ranking(user=b"alice"), ranking(user=b""))
    first, other, again, nobody = (row["user_id"] for row in rig.rows())
    assert first == again != other
    assert nobody is None
    assert first != pseudonym(b"x" * 32, b"alice")
    assert b"alice" not in rig.files()[0].read_bytes()
    assert pseudonym(b"", b"alice") is None


def test_an_answer_that_was_none_of_ours_covers_nothing(rig):
    rig.take(ranking(answer=b""))
    (row,) = rig.rows()
    assert (row["k"], row["k_returned"], row["coverage"], row["items"]) == (0, 0, None, [])


def test_a_file_is_finished_when_it_is_full_or_old(tmp_path):
    rig = Rig(tmp_path, rotate_bytes=4096, rotate_s=300)
    for at in range(20):
        rig.take(ranking(number=at))
    sizes = [path.stat().st_size for path in rig.files()]
    assert len(sizes) > 2
    assert all(4096 <= size < 4096 + 1000 for size in sizes[:-1])
    assert [finished(path) for path in rig.files()] == [True] * (len(sizes) - 1) + [False]
    rig.now = 300
    rig.writer.tick()
    assert finished(rig.files()[-1])
    assert [row["request_id"] for row in rig.rows()] == [f"r{at}" for at in range(20)]


def test_two_writers_have_files_of_their_own(tmp_path):
    one, other = Rig(tmp_path), Rig(tmp_path)
    one.take(ranking(number=1))
    other.take(ranking(number=2))
    assert len(one.files()) == 2
    assert {row["request_id"] for row in one.rows()} == {"r1", "r2"}


def test_critical_errors_have_files_of_their_own(rig):
    rig.take(error(number=1), error(number=2, severity="critical"))
    assert [row["request_id"] for row in rig.rows("error")] == ["r1"]
    assert [row["request_id"] for row in rig.rows("error_critical")] == ["r2"]


def test_files_are_for_nobody_else(rig):
    rig.take(ranking())
    assert rig.files()[0].stat().st_mode & 0o777 == 0o600
    assert rig.files()[0].parent.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def full(monkeypatch):
    """A disk that takes ten bytes of what is written, then nothing."""
    disk = SimpleNamespace(full=True)
    write = os.write

    def limited(handle, data):
        if disk.full:
            write(handle, data[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data)

    monkeypatch.setattr(files.os, "write", limited)
    return disk


def test_a_full_disk_costs_events_which_are_counted_and_tears_no_line(rig, full, caplog):
    full.full = False
    rig.take(ranking(number=1))
    full.full = True
    rig.take(ranking(number=2), ranking(number=3))
    assert rig.losses.events_dropped == 2
    assert rig.losses.events_stuck == 1
    assert "No space left" in rig.writer.trouble
    rig.take(ranking(number=4))  # not even tried
    assert rig.losses.events_dropped == 3
    full.full = False
    rig.now = 1.0
    rig.take(ranking(number=5))
    assert (rig.losses.events_stuck, rig.writer.trouble) == (0, "")
    assert [row["request_id"] for row in rig.rows()] == ["r1", "r5"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_an_event_that_cannot_be_written_down_costs_itself_only(rig):
    rig.take(ranking(number=1), ranking(answer=b"{"), ranking(number=3))
    assert [row["request_id"] for row in rig.rows()] == ["r1", "r3"]
    assert rig.losses.events_dropped == 1


def test_nothing_is_made_before_something_is_to_be_written(rig):
    rig.take()
    rig.writer.tick()
    assert not rig.directory.exists()
    assert listed(rig.directory) == []


def test_a_buffer_that_is_full_drops_and_counts_and_never_blocks(tmp_path, monkeypatch):
    going_on = threading.Event()
    monkeypatch.setattr(EventLog, "_write", lambda self: going_on.wait(10))
    losses = SimpleNamespace(events_dropped=0, events_stuck=0)
    log = EventLog(tmp_path, EventsSettings(directory="x", buffer_events=100), KEY, losses)
    for at in range(130):
        log.add(ranking(number=at))
    assert losses.events_dropped == 30
    going_on.set()
    log.close()


def test_closing_writes_what_waits(tmp_path):
    losses = SimpleNamespace(events_dropped=0, events_stuck=0)
    log = EventLog(tmp_path, EventsSettings(directory="x"), KEY, losses)
    for at in range(3_000):
        log.add(ranking(number=at))
    log.close(timeout_s=20)
    (path,) = listed(tmp_path / "ndjson" / "ranking")
    assert path.read_bytes().count(b"\n") == 3_000
    assert finished(path)
    assert losses.events_dropped == 0


@pytest.mark.parametrize(("fsync", "flushed"), [("never", 0), ("rotate", 1), ("batch", 4)])
def test_a_file_is_flushed_as_the_settings_say(fsync, flushed, tmp_path, monkeypatch):
    """Never, once it is finished, or after each batch and then once more."""
    calls = []
    monkeypatch.setattr(files.os, "fdatasync", calls.append)
    rig = Rig(tmp_path, fsync=fsync)
    for at in range(3):
        rig.take(ranking(number=at))
    rig.writer.close()
    assert len(calls) == flushed
