"""The templates run unchanged on Spark, on the same files, and answer what DuckDB answers.

`make test-spark` installs PySpark; everywhere else this is skipped.
"""

import random
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyspark")

sys.path.insert(0, str(Path(__file__).parents[1] / "eventlog"))
from eventing import NOON, Rig, body, error, ranking
from spark_tables import create, session

from proxy.eventlog.compaction import compact
from proxy.eventlog.query import Queries
from proxy.eventlog.templates import template, templates

SINCE, UNTIL = NOON - 3600, NOON + 14 * 3600
PARAMS = {
    "efficacy": {"rollback_time": "2025-11-25T18:00:00Z"},
    "latency": {"bucket_width": "2500", "target_ms": "75"},
    "health": {"step_s": "3600"},
    "traffic": {"step_s": "3600"},
}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Two days of traffic, half of it compacted, half of it NDJSON, with a torn line."""
    rig = Rig(tmp_path_factory.mktemp("log") / "events")
    chance = random.Random(5)
    for part in range(2):
        for at in range(400):
            number = part * 400 + at
            rig.now = number * 60.0
            failed = chance.random() < 0.05
            side = chance.choices(("exposed", "control", "staged", "decided", "drill"), (70, 10, 10, 8, 2))[0]
            rig.take(
                ranking(
                    rig.now,
                    number,
                    seconds=chance.expovariate(20),
                    user=b"u%d" % chance.randrange(50),
                    answer=body(covered=chance.choice((10, 10, 10, 7)), bucket=chance.randrange(10_000)),
                    failed=failed,
                    side=side,
                    arm=chance.choice(("none", "treatment_a", "treatment_b")),
                    cohort=chance.choice((b"cold", b"heavy")),
                )
            )
            if failed:
                severity = chance.choice(("error", "critical", "warning"))
                rig.take(error(rig.now, number, side=side, severity=severity))
        columns = {
            "subject": "rollback",
            "state_before": "NORMAL",
            "state_after": "DEGRADED",
            "event": "p1",
            "stage": "1",
            "actor": "fusebox",
            "reason": 'it\'s "so"',
            "triggers": ["error_p1", "coverage_p1"],
        }
        rig.take(("transition", rig.now, columns))
        rig.writer.close()
        if not part:
            compact(rig.directory, NOON + 86_400)  # so that there are aggregates
    torn = rig.files()[-1]
    torn.write_bytes(torn.read_bytes()[:-30])
    return rig.directory


@pytest.fixture(scope="module")
def spark(log, tmp_path_factory):
    made = session(tmp_path_factory.mktemp("warehouse"))
    create(made, log, SINCE, UNTIL)
    yield made
    made.stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", templates())
def test_spark_and_duckdb_answer_the_same(name, log, spark):
    given = PARAMS.get(name, {})
    here = Queries(log, SINCE, UNTIL).run(template(name), given)
    there = spark.sql(template(name).rendered(given, SINCE, UNTIL))
    assert there.columns == list(here.columns)
    rows = [tuple(row) for row in there.collect()]
    assert len(rows) == len(here.rows) > 0
    for one, other in zip(here.rows, rows, strict=True):
        for column, mine, theirs in zip(here.columns, one, other, strict=True):
            if isinstance(mine, int | float) and not isinstance(mine, bool):
                assert float(theirs) == pytest.approx(float(mine), rel=1e-6), (
                    column
                )  # DECIMAL has six digits there
            else:
                assert theirs == mine, column
