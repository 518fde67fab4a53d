"""`fusebox events`: files made Parquet, and what there is of them."""

import sys
from pathlib import Path

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "eventlog"))
from eventing import Rig, ranking

pytest.importorskip("duckdb")


@pytest.fixture
def log(config):
    config.write_text(config.read_text() + '[events]\ndirectory = "log"\n')
    rig = Rig(config.parent / "log")
    rig.take(*(ranking(number=at) for at in range(8)))
    rig.writer.close()
    return rig


def test_compacting_tells_what_it_did(run, config, log):
    result = run("events", "compact", "--config", config)
    assert result.exit_code == 0
    assert result.stdout.startswith("1 files, 8 events: ")
    again = orjson.loads(run("events", "compact", "--config", config, "--json").stdout)
    assert (again["files"], again["events"]) == (0, 0)


def test_status_tells_the_files_of_each_kind(run, config, log):
    def told():
        result = run("events", "status", "--directory", log.directory, "--json")
        return orjson.loads(result.stdout)["kinds"][0]

    before = told()
    assert (before["kind"], before["ndjson"], before["parquet"]) == ("ranking", 1, 0)
    run("events", "compact", "--config", config)
    after = told()
    assert (after["ndjson"], after["parquet"], after["days"]) == (0, 1, "2025-11-25 … 2025-11-25")
    assert "ranking     0" in run("events", "status", "--config", config).stdout


def test_a_log_that_was_never_written_is_told(run, config):
    config.write_text(config.read_text() + '[events]\ndirectory = "nowhere"\n')
    result = run("events", "compact", "--config", config)
    assert result.exit_code == 1
    assert "nowhere: there is no event log" in result.stderr


def test_check_warns_of_an_event_log_that_cannot_be_kept(run, config):
    (config.parent / "file").write_text("")
    config.write_text(config.read_text() + '[events]\ndirectory = "file/events"\n')
    result = run("check", "--config", config)
    assert result.exit_code == 0
    assert "events.directory" in result.stderr
    assert "is not a directory" in result.stderr
