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


def test_a_time_that_ends_before_it_begins_is_told(tmp_path):
    with pytest.raises(QueryError, match="ends before it begins"):
        Queries(tmp_path, 1, 1)


@pytest.mark.parametrize("module", ["duckdb", "sqlglot"])
def test_without_the_extra_the_error_names_it(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(QueryError, match=rf"needs {module}: .*pip install 'fusebox\[analytics\]'"):
        Queries(tmp_path, 0, 1)


def test_efficacy_compares_before_and_after(rig, ask):
    for at in range(20):
        after = at >= 10
        rig.take(
            ranking(
                at - 10.0,
                at,
                answer=body(covered=10 if after else 4),
                seconds=0.02 if after else 0.3,
                failed=not after,
                side="staged" if after else "exposed",
            )
        )
    rig.take(ranking(5.0, 30, answer=body(covered=0), side="decided"))
    before, after = ask("efficacy", rollback_time="2025-11-25T12:00:00Z")
    assert (before["period"], before["requests"], before["fill_rate"]) == ("pre_rollback", 10, 100.0)
    assert (before["avg_coverage"], before["p95_latency"]) == (pytest.approx(0.4), 300.0)
    assert (before["error_rate_per_1k"], after["error_rate_per_1k"]) == (1000.0, 0.0)
    assert (after["requests"], after["fill_rate"], after["avg_coverage"]) == (11, 100.0, 1.0)


def test_traffic_is_compared_step_by_step_whatever_users_got(rig, ask):
    for at in range(6):
        rig.take(ranking(at * 10.0, at), ranking(at * 10.0, at + 100, side="drill"))
    rig.take(ranking(35.0, 50, side="decided"))
    first, second = ask("traffic", since=NOON, step_s="30")
    assert (first["from_ms"], first["requests"], first["change_percent"]) == (NOON * 1000, 3, None)
    assert (second["requests"], second["decided_percent"]) == (4, 25.0)
    assert second["change_percent"] == pytest.approx(100 / 3)


def test_assignment_names_who_was_in_two_buckets_or_arms(rig, ask):
    rig.take(
        ranking(number=1, user=b"steady"),
        ranking(number=2, user=b"steady", arm="treatment_a"),
        ranking(number=3, user=b"torn", answer=body(bucket=1)),
        ranking(number=4, user=b"torn", answer=body(bucket=2)),
        ranking(number=5, user=b"turned", arm="treatment_a"),
        ranking(number=6, user=b"turned", arm="treatment_b"),
        ranking(number=7, user=b"moved", arm="treatment_a"),
        ranking(number=8, user=b"moved", arm="treatment_b", answer=body(toggles_version=8)),
        ranking(number=9, user=b"", answer=body(bucket=1)),
        ranking(number=10, user=b"", answer=body(bucket=2)),
    )
    assert sorted((row["buckets"], row["arms"]) for row in ask("assignment")) == [(1, 2), (2, 0)]


def test_trigger_history_is_in_its_order(rig, ask):
    def moved(at, before, after, subject="rollback"):
        columns = {"subject": subject, "state_before": before, "state_after": after}
        return ("transition", at, columns | {"triggers": ["error_p1", "coverage_p1"], "reason": "why"})

    rig.take(
        moved(2.0, "DEGRADED", "ROLLED_BACK"),
        moved(1.0, "NORMAL", "DEGRADED"),
        moved(1.5, "closed", "open", "breaker cf"),
    )
    assert [row["state_after"] for row in ask("triggers")] == ["DEGRADED", "open", "ROLLED_BACK"]
    (row,) = ask("triggers", subject="breaker cf")
    assert row["triggers"] == "error_p1, coverage_p1"


def test_ndjson_and_parquet_are_asked_together(rig, ask):
    from proxy.eventlog.compaction import compact

    rig.take(*(ranking(number=at) for at in range(5)), error(number=1))
    rig.writer.close()
    compact(rig.directory, NOON)
    rig.take(*(ranking(number=at) for at in range(5, 10)), error(number=7))
    assert ask("coverage")[0]["requests"] == 10
    assert ask("error")[0]["error_rate_per_1k"] == 200.0


def test_moves_of_one_moment_are_in_the_order_they_were_made(rig, ask):
    def move(before, after):
        return (
            "transition",
            0.0,
            {"subject": "rollback", "state_before": before, "state_after": after, "triggers": []},
        )

    rig.take(move("DEGRADED", "ROLLBACK_PENDING"), move("NORMAL", "DEGRADED"))
    assert [row["state_after"] for row in ask("triggers")] == ["DEGRADED", "ROLLBACK_PENDING"]
