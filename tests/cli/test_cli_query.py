"""`fusebox query`: the event log asked, as table, JSON and CSV."""

import csv
import io
import sys
from pathlib import Path

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "eventlog"))
from eventing import Rig, error, ranking

pytest.importorskip("duckdb")

BETWEEN = ("--since", "2025-11-25T11:00:00Z", "--until", "2025-11-25T13:00:00Z")


@pytest.fixture
def log(config):
    config.write_text(config.read_text() + '[events]\ndirectory = "log"\n')
    rig = Rig(config.parent / "log")
    rig.take(*(ranking(number=at) for at in range(8)), error(number=1))
    yield rig
    rig.writer.close()


def test_a_query_is_a_table_json_or_csv(run, config, log):
    table = run("query", "error", "--config", config, *BETWEEN)
    assert table.exit_code == 0
    assert table.stdout.splitlines()[0].split() == [
        "COMPONENT",
        "SEVERITY",
        "ERRORS",
        "FAILED_REQUESTS",
        "ERROR_RATE_PER_1K",
    ]
    assert "cf         error     1       1                125" in table.stdout
    told = orjson.loads(run("query", "error", "--config", config, *BETWEEN, "--format", "json").stdout)
    assert told[0]["error_rate_per_1k"] == 125.0
    rows = list(
        csv.DictReader(
            io.StringIO(run("query", "error", "--config", config, *BETWEEN, "--format", "csv").stdout)
        )
    )
    assert [row["component"] for row in rows] == ["all", "cf"]


def test_the_directory_can_be_named_without_settings(run, log, tmp_path):
    result = run("query", "coverage", "--directory", log.directory, *BETWEEN, "--format", "json")
    assert orjson.loads(result.stdout)[0]["requests"] == 8


def test_torn_lines_are_told_beside_the_answer(run, config, log):
    (path,) = log.files()
    path.write_bytes(path.read_bytes()[:-9])
    result = run("query", "coverage", "--config", config, *BETWEEN, "--format", "json")
    assert orjson.loads(result.stdout)[0]["requests"] == 7
    assert "1 unreadable lines were left out" in result.stderr


def test_list_tells_every_query_and_what_it_takes(run):
    result = run("query", "list")
    assert result.exit_code == 0
    for name in ("coverage", "error", "latency"):
        assert f"\n{name} " in result.stdout
    told = orjson.loads(run("query", "list", "--json").stdout)
    assert {
        "name": "route",
        "type": "name",
        "default": "",
        "about": "of this route alone; empty: of all",
    } in (next(it["params"] for it in told if it["name"] == "coverage"))


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("covrage",), 1, "there is no query 'covrage'; there are: "),
        (("coverage", "--param", "routes=x"), 1, "coverage takes no parameter 'routes'; there are: route"),
        (("latency", "--param", "target_ms=fast"), 1, "target_ms should be a number, not 'fast'"),
        (("coverage", "--param", "route"), 2, "'route' should be name=value"),
        (
            ("coverage", "--since", "yesterday"),
            2,
            "should be a time like 2026-11-25T10:00:00Z, or so long ago",
        ),
        (("coverage", "--since", "2026-11-25T10:00:00"), 2, "lacks a time zone: write 2026-11-25T10:00:00Z"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_sentence(run, config, log, words, code, told):
    result = run("query", *words, "--config", config)
    assert result.exit_code == code
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_settings_without_an_event_log_are_told(run, config):
    result = run("query", "coverage", "--config", config)
    assert result.exit_code == 2
    assert "events.directory: is missing" in result.stderr


def test_a_log_that_was_never_written_is_told(run, config):
    config.write_text(config.read_text() + '[events]\ndirectory = "nowhere"\n')
    result = run("query", "coverage", "--config", config)
    assert result.exit_code == 1
    assert "nowhere: there is no event log" in result.stderr


def test_a_directory_without_any_event_is_not_taken_for_a_quiet_log(run, log, tmp_path):
    where = tmp_path / "elsewhere"
    where.mkdir()
    assert "holds no event at all" in run("query", "error", "--directory", where).stderr
    assert "holds no event" not in run("query", "error", "--directory", log.directory).stderr
