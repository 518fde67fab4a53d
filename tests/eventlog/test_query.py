"""Queries over NDJSON: what they answer, and what they leave out."""

import sys

import pytest
from eventing import NOON, body, error, ranking

from proxy.eventlog.query import Queries
from proxy.eventlog.templates import QueryError, template

pytest.importorskip("duckdb")


@pytest.fixture
def ask(rig):
    def asked(name, since=NOON - 600, until=NOON + 60, **params):
        found = Queries(rig.directory, since, until).run(template(name), params)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    return asked


def test_coverage_is_what_the_recommender_covered(rig, ask):
    rig.take(
        ranking(number=1, answer=body(k=10, covered=10)),
        ranking(number=2, answer=body(k=10, covered=5)),
        ranking(number=3, answer=body(k=20, covered=20, returned=15)),
        ranking(number=4, answer=body(k=10, covered=0), side="drill"),
    )
    (row,) = ask("coverage")
    assert row["requests"] == 3
    assert row["avg_coverage"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert row["underfill_rate"] == pytest.approx(100 / 3)


def test_error_rate_is_of_all_requests(rig, ask):
    """The source's template would say 1000 of each thousand (facts 2.4)."""
    rig.take(*(ranking(number=at) for at in range(400)))
    rig.take(
        error(number=1),
        error(number=1, component="content", severity="critical"),
        error(number=2),
        error(number=3, side="override"),
    )
    assert [
        (row["component"], row["severity"], row["errors"], row["failed_requests"], row["error_rate_per_1k"])
        for row in ask("error")
    ] == [
        ("all", "all", 3, 2, 5.0),
        ("cf", "error", 2, 2, 5.0),
        ("content", "critical", 1, 1, 2.5),
    ]


def test_without_errors_the_rate_is_zero(rig, ask):
    rig.take(ranking())
    assert [row["error_rate_per_1k"] for row in ask("error")] == [0.0]


def test_latency_is_by_bucket_and_cohort(rig, ask):
    for at in range(100):
        rig.take(
            ranking(number=at, seconds=at / 1000, answer=body(bucket=at * 100)),
            ranking(number=at, seconds=0.3, cohort=b"cold"),
        )
    cold, heavy = ask("latency")
    assert (cold["cohort"], cold["p95_latency"], cold["late_share"]) == ("cold", 300.0, 1.0)
    assert (heavy["cohort"], heavy["p95_latency"], heavy["late_share"]) == ("heavy", 94.0, 0.0)
    assert len(ask("latency", bucket_width="1000")) == 11
    assert ask("latency", target_ms="90")[1]["late_share"] == pytest.approx(0.09)


def test_only_what_is_between_the_two_times_counts(rig, ask):
    for at in (0.0, 10.0, 20.0):
        rig.now = at
        rig.take(ranking(at))
    assert ask("coverage", since=NOON + 10, until=NOON + 20)[0]["requests"] == 1


def test_over_midnight_both_days_count(rig, ask):
    rig.now = 12 * 3600.0
    rig.take(ranking(rig.now - 1), ranking(rig.now + 1))
    assert {row["event_date"] for row in rig.rows()} == {"2025-11-25", "2025-11-26"}
    assert ask("coverage", since=NOON + rig.now - 60, until=NOON + rig.now + 60)[0]["requests"] == 2


def test_a_torn_line_is_left_out_and_counted(rig):
    rig.take(ranking(number=1), ranking(number=2))
    (path,) = rig.files()
    path.write_bytes(path.read_bytes()[:-40])
    found = Queries(rig.directory, NOON - 600, NOON + 60).run(template("coverage"), {})
    assert (found.rows[0][0], found.torn) == (1, 1)


def test_an_empty_log_answers_with_nothing(rig, ask):
    rig.directory.mkdir()
    (row,) = ask("coverage")
    assert (row["requests"], row["avg_coverage"]) == (0, None)
    assert ask("latency") == []
    assert [row["errors"] for row in ask("error")] == [0]


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(QueryError, match=r"nowhere: there is no event log: \[events\]"):
        Queries(tmp_path / "nowhere", 0, 1)


@pytest.mark.parametrize("module", ["duckdb", "sqlglot"])
def test_without_the_extra_the_error_names_it(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(QueryError, match=rf"need {module}: .*pip install 'fusebox\[analytics\]'"):
        Queries(tmp_path, 0, 1)
