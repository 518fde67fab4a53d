"""Compaction: every event stays exactly once, wherever it is killed; and what is deleted in the end."""

import os

import pytest
from eventing import NOON, Rig, body, error, ranking

pytest.importorskip("duckdb")

from proxy.core.events import EventsSettings
from proxy.eventlog import compaction
from proxy.eventlog.compaction import Compacted, compact
from proxy.eventlog.files import listed
from proxy.eventlog.keeping import LOCK, locked, tidy
from proxy.eventlog.query import Queries
from proxy.eventlog.sources import partitions
from proxy.eventlog.templates import QueryError, parsed, template

IDS = parsed("ids", "-- All.\nSELECT request_id FROM events.ranking WHERE timestamp_ms >= {since} ORDER BY 1")
DAY = 86_400.0
COUNT = 40


def ids(directory):
    found = Queries(directory, NOON - DAY, NOON + 9 * DAY).run(IDS, {})
    return [row[0] for row in found.rows]


EXPECTED = sorted(f"r{at}" for at in range(COUNT))


@pytest.fixture
def filled(tmp_path):
    """A log over two days, in finished files of two writers."""
    for writer in range(2):
        rig = Rig(tmp_path / "events", rotate_bytes=4096)
        rig.now = DAY / 2 - 10
        for at in range(writer, COUNT, 2):
            rig.now += 1
            rig.take(ranking(rig.now, at))
        rig.take(error(rig.now), error(rig.now, severity="critical"))
        rig.writer.close()
    return rig


def test_all_of_it_becomes_parquet_by_day_and_is_there_once(filled):
    before = len(listed(filled.directory / "ndjson" / "ranking"))
    done = compact(filled.directory, NOON)
    assert done.events == COUNT + 4
    assert done.files == before + 4
    assert done.torn == 0
    assert done.bytes_after < done.bytes_before
    assert listed(filled.directory / "ndjson" / "ranking") == []
    assert {day for day, _ in partitions(filled.directory, "ranking")} == {"2025-11-25", "2025-11-26"}
    assert {path.name.partition("-")[0] for _, path in partitions(filled.directory, "error")} == {
        "error",
        "error_critical",
    }
    assert ids(filled.directory) == EXPECTED
    assert compact(filled.directory, NOON) == Compacted()


def test_files_that_are_written_are_left_alone(filled):
    filled.writer.close()
    living = Rig(filled.directory)
    living.take(ranking(number=COUNT))
    compact(filled.directory, NOON)
    assert len(listed(filled.directory / "ndjson" / "ranking")) == 1
    assert ids(filled.directory) == sorted([*EXPECTED, f"r{COUNT}"])
    living.writer.close()


def test_torn_lines_are_counted_and_gone(filled):
    path = listed(filled.directory / "ndjson" / "ranking")[-1]
    path.write_bytes(path.read_bytes()[:-20])
    assert compact(filled.directory, NOON).torn == 1
    assert len(ids(filled.directory)) == COUNT - 1


class Killed(BaseException):
    """Nothing catches it, so nothing is put in order after it."""


STEPS = (("Path", "mkdir", "replace", "rename", "unlink"), ("os", "fsync"), ("shutil", "rmtree"))


@pytest.mark.parametrize("nth", range(1, 30, 2))
def test_killed_at_any_step_no_event_is_lost_or_there_twice(nth, filled, monkeypatch):
    """Readers see it so at once, and the next run finishes or forgets what was begun."""
    seen = 0

    def dying(step):
        def taken(*args, **kwargs):
            nonlocal seen
            seen += 1
            if seen == nth:
                raise Killed
            return step(*args, **kwargs)

        return taken

    with monkeypatch.context() as patch:
        for owner, *names in STEPS:
            for name in names:
                holder = getattr(compaction, owner)
                patch.setattr(holder, name, dying(getattr(holder, name)))
        with pytest.raises(Killed):
            compact(filled.directory, NOON)
    assert ids(filled.directory) == EXPECTED
    compact(filled.directory, NOON)
    assert ids(filled.directory) == EXPECTED
    assert not (filled.directory / "compacting.json").exists()
    assert list((filled.directory / "staging").glob("*")) == []


def test_two_do_not_compact_at_once(filled):
    with (
        locked(filled.directory / "compacting.lock", alone=True),
        pytest.raises(QueryError, match="being compacted already"),
    ):
        compact(filled.directory, NOON)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(QueryError, match="nowhere: there is no event log"):
        compact(tmp_path / "nowhere", NOON)


def tidied(rig, days, **settings):
    return {
        path.name.partition("-")[0] if path.suffix == ".parquet" else path.parent.name
        for path in tidy(rig.directory, EventsSettings(directory="x", **settings), NOON + days * DAY)
    }


def aged(rig):
    for path in (rig.directory / "ndjson").glob("*/*"):
        os.utime(path, (NOON, NOON))


def test_each_kind_is_kept_for_its_time_as_ndjson(filled):
    aged(filled)
    assert tidied(filled, 29) == set()
    assert tidied(filled, 31) == {"error"}
    assert tidied(filled, 91) == {"ranking", "error_critical"}
    assert not list((filled.directory / "ndjson").glob("*/*"))


def test_each_kind_is_kept_for_its_time_as_parquet(filled):
    compact(filled.directory, NOON)
    assert tidied(filled, 30) == set()
    assert tidied(filled, 32) == {"error"}
    assert tidied(filled, 93) == {"ranking", "error_critical"}
    assert not list((filled.directory / "parquet").glob("*/*"))


def test_where_it_is_too_large_the_oldest_go_first(filled):
    files = listed(filled.directory / "ndjson" / "ranking")
    for age, path in enumerate(reversed(files)):
        os.utime(path, (NOON - age, NOON - age))
    total = sum(path.stat().st_size for path in (filled.directory / "ndjson").glob("*/*"))
    settings = EventsSettings(directory="x")
    object.__setattr__(settings, "max_bytes", total - 1)
    assert tidy(filled.directory, settings, NOON) == [files[0]]


def test_nothing_is_deleted_while_somebody_reads(filled):
    aged(filled)
    with locked(filled.directory / LOCK, alone=False):
        assert tidied(filled, 365) == set()
    assert tidied(filled, 365) == {"ranking", "error", "error_critical"}


def test_what_is_being_written_stays_however_old(filled):
    living = Rig(filled.directory)
    living.take(ranking(number=COUNT))
    aged(filled)
    tidied(filled, 365)
    assert len(listed(filled.directory / "ndjson" / "ranking")) == 1
    living.writer.close()


def test_the_writer_tidies_once_a_minute(tmp_path):
    rig = Rig(tmp_path, retention_days=1)
    rig.take(ranking(number=1))
    rig.writer.close()
    aged(rig)
    rig.writer.tick()
    assert len(rig.files()) == 1
    rig.now = 2 * DAY
    rig.writer.tick()
    assert rig.files() == []


def days(directory):
    found = Queries(directory, NOON - DAY, NOON + 500 * DAY).run(template("days"), {})
    return {str(row[0]): row[1:] for row in found.rows}


def test_a_day_that_is_over_is_summed_once_and_again_when_more_came(filled):
    filled.take(ranking(DAY / 2 - 5, 90, answer=body(covered=5), seconds=0.3, failed=True, side="control"))
    filled.take(ranking(DAY / 2 - 5, 91, answer=body(covered=0), side="drill"))
    filled.writer.close()
    assert compact(filled.directory, NOON).days == 0
    assert compact(filled.directory, NOON + DAY).days == 1
    assert compact(filled.directory, NOON + DAY).days == 0
    (counted,) = days(filled.directory).values()
    assert counted[0] == 18 + 1
    assert counted[1:] == pytest.approx((18.5 / 19, 0, 1000 / 19, 1 / 19))
    late = Rig(filled.directory)
    late.take(ranking(0.0, 92))
    late.writer.close()
    assert compact(filled.directory, NOON + DAY).days == 1
    assert days(filled.directory)["2025-11-25"][0] == 20
    assert compact(filled.directory, NOON + 2 * DAY).days == 1
    assert set(days(filled.directory)) == {"2025-11-25", "2025-11-26"}


def test_aggregates_outlive_the_events_and_any_lack_of_room(filled):
    compact(filled.directory, NOON + 2 * DAY)
    before = days(filled.directory)
    assert tidied(filled, 93) == {"ranking", "error", "error_critical"}
    settings = EventsSettings(directory="x")
    object.__setattr__(settings, "max_bytes", 0)
    assert tidy(filled.directory, settings, NOON + 93 * DAY) == []
    assert compact(filled.directory, NOON + 93 * DAY).days == 0
    assert days(filled.directory) == before
    assert tidied(filled, 403) == {"aggregate.parquet"}
