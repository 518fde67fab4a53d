"""What the data plane tells the event log, over real sockets."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import answering, reply, until
from recommending import many, offering, offers, stage
from test_overrides import KEY, header

from proxy.clock import monotonic
from proxy.core.breaker import BreakerSettings
from proxy.core.override import Overrides
from proxy.core.policy import Shadow
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import Key
from proxy.core.toggles import Toggles
from proxy.dataplane.emitting import Emitting

sys.path.insert(0, str(Path(__file__).parents[1] / "eventlog"))
from eventing import NOON, Rig

CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))
BROKEN = answering(reply(b"{}", status=b"500 Oops"))
EU = b"X-Region: eu\r\nX-Cohort: heavy\r\nX-Client: tv\r\n"


class Sink:
    def __init__(self):
        self.events = []

    def add(self, event, /):
        self.events.append(event)


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
def told(sink, tmp_path):
    """All that was told, as rows by kind."""

    def rows():
        rig = Rig(tmp_path / "events")
        rig.take(*sink.events)
        rig.writer.close()
        sink.events.clear()
        kinds = ("ranking", "error", "error_critical", "request")
        found = {kind: rig.rows(kind) for kind in kinds if rig.rows(kind)}
        for kind in kinds:
            for path in rig.files(kind):
                path.unlink()
        return found

    return rows


async def test_a_ranking_event_says_what_the_answer_says(sink, told):
    async with stage(CF, CONTENT, events=Emitting(sink, 1.0)) as rig:
        got = await rig.recommend(4, fields=EU)
    found = told()
    assert list(found) == ["ranking"]
    (row,) = found["ranking"]
    assert (row["route"], row["side"], row["shadow"]) == ("films", "exposed", False)
    assert (row["region"], row["cohort"], row["client"]) == ("eu", "heavy", "tv")
    assert row["items"] == got.ids
    assert row["bucket"] == got.metadata["bucket"]
    assert (row["k"], row["k_returned"], row["coverage"]) == (4, 4, 1.0)
    assert (row["algorithm"], row["alpha"], row["failed"]) == ("hybrid_default", 0.6, False)
    assert row["request_id"] == got.answer.get("x-request-id").decode()
    assert row["latency_ms"] > 0
    assert "7" not in row["user_id"] or len(row["user_id"]) == 32


async def test_each_source_that_fails_is_an_error(sink, told):
    async with stage(BROKEN, BROKEN, events=Emitting(sink, 1.0)) as rig:
        await rig.recommend(4, fields=EU)
    found = told()
    (row,) = found["ranking"]
    assert (row["failed"], row["coverage"], row["k_returned"], row["shadow"]) == (True, 0.0, 4, False)
    assert {(it["component"], it["severity"], it["error_code"]) for it in found["error"]} == {
        ("cf", "error", "upstream_error"),
        ("content", "error", "upstream_error"),
    }
    assert {it["request_id"] for it in found["error"]} == {row["request_id"]}


async def test_a_broken_contract_is_critical_and_an_open_breaker_a_warning(sink, told):
    junk = answering(reply(b"<html>", b"Content-Type: text/html"))
    frail = {"content": {"breaker": BreakerSettings(consecutive_failures=1, minimum_calls=1)}}
    async with stage(junk, BROKEN, sources=frail, events=Emitting(sink, 1.0)) as rig:
        await rig.recommend(4)
        await rig.recommend(4)
    found = told()
    assert {(it["component"], it["error_code"]) for it in found["error_critical"]} == {
        ("cf", "upstream_invalid")
    }
    assert [it["error_code"] for it in found["error"] if it["severity"] == "warning"] == ["breaker_open"]


async def test_what_must_not_be_judged_is_shadow(sink, told):
    async with stage(
        CF, CONTENT, overrides=Overrides(enabled=True), signing_key=KEY, events=Emitting(sink, 1.0)
    ) as rig:
        await rig.recommend(4, fields=EU + header(policy_mode="collab_only"), aside=True)
        rig.plane.apply(replace(rig.plane.policy, toggles=Toggles(candidate_fallback_level="D")))
        await rig.recommend(4)
        await rig.recommend(4, b"&genres=drama")
        rig.plane.apply(replace(rig.plane.policy, toggles=Toggles(kill_switch=True)))
        await rig.recommend(4)
    rows = told()["ranking"]
    assert [(it["side"], it["shadow"]) for it in rows] == [("override", True)] + [("decided", True)] * 3
    assert [it["algorithm"] for it in rows[1:]] == ["popularity", "popularity", "kill_switch"]
    assert all(it["k_returned"] == 4 for it in rows)


async def test_a_second_plan_is_a_mirror_of_the_request_it_copies(sink, told):
    plan = {"shadow": Shadow(percent=100.0, toggles={"policy_mode": "collab_only"})}
    async with stage(CF, CONTENT, route=plan, events=Emitting(sink, 1.0)) as rig:
        await rig.recommend(4)
        await until(lambda: len(sink.events) == 2, "the copy's event")
    real, copy = told()["ranking"]
    assert (real["side"], real["algorithm"], real["shadow"]) == ("exposed", "hybrid_default", False)
    assert (copy["side"], copy["algorithm"], copy["shadow"]) == ("mirror", "collab_only", True)
    assert real["request_id"] == copy["request_id"]


async def test_a_request_that_is_refused_is_no_ranking(sink, told):
    async with stage(CF, CONTENT, events=Emitting(sink, 1.0)) as rig:
        assert (await rig.ask(b"GET /recommendations?k=x HTTP/1.1\r\nHost: x\r\n\r\n")).status == 400
        assert (await rig.ask(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")).status == 404
    found = told()
    assert list(found) == ["request"]
    (row,) = found["request"]
    assert (row["route"], row["status"], row["outcome"]) == ("none", 404, "no_route")


async def test_other_requests_are_sampled_by_themselves_and_failures_always_told(sink, told):
    async with stage(CF, CONTENT, events=Emitting(sink, 1.0, 1e-9)) as rig:
        for _ in range(3):
            await rig.ask(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not sink.events
        head = SimpleNamespace(request_id=b"r", user=b"", bound=None, method=b"GET", started=0.0)
        rig.plane.accounting._events.request(head, 1.0, 502, "reset")
    ((row,),) = told().values()
    assert (row["status"], row["weight"]) == (502, 1.0)


async def test_a_sample_says_for_how_many_it_stands(sink, told):
    async with stage(CF, BROKEN, events=Emitting(sink, 0.25)) as rig:
        for _ in range(40):
            await rig.recommend(4)
    found = told()
    assert 0 < len(found["ranking"]) < 30
    assert {row["weight"] for row in found["ranking"]} == {4.0}
    assert len(found["error"]) == 40


async def test_without_an_event_log_nothing_is_asked_for(sink):
    async with stage(CF, CONTENT) as rig:
        await rig.recommend(4)
        assert rig.plane.books.events is None


async def test_window_and_sql_agree_on_the_same_traffic(sink, tmp_path):
    """What triggers see and what the templates say of the same requests is the same."""
    pytest.importorskip("duckdb")
    from proxy.core.rollback.judge import Judge
    from proxy.eventlog.query import Queries
    from proxy.eventlog.templates import template

    good, few = offers(*many("cf", 20)), offers(*many("cf", 3))
    broken = reply(b"{}", status=b"500 Oops")
    answers = iter([good] * 30 + [broken] * 5 + [few] * 3 + [broken] * 2)

    async def script(wire):
        while True:
            await wire.request()
            wire.send(next(answers))

    settings = RollbackSettings(minimum_requests=1)
    start = monotonic()
    async with stage(
        script,
        offering(*many("co", 1)),
        overrides=Overrides(enabled=True),
        signing_key=KEY,
        events=Emitting(sink, 1.0),
        rollback=settings,
    ) as rig:
        for _ in range(38):
            await rig.recommend(12, fields=EU)
        for _ in range(2):
            await rig.recommend(4, fields=header(policy_mode="collab_only"), aside=True)
        now = monotonic()
        delta = rig.plane.books.take(now)
    judge = Judge(settings, start)
    judge.feed(delta, now)
    verdicts = {it.trigger: it for it in judge.judge(now).verdicts if not it.segment.dimension}
    log = Rig(tmp_path)
    log.take(*sink.events)
    log.writer.close()
    queries = Queries(tmp_path, NOON - 1, NOON + now + 1)

    def answered(name, **params):
        found = queries.run(template(name), params)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    (coverage,) = answered("coverage")
    assert coverage["requests"] == verdicts["coverage_p1"].n == 38
    assert 1 - coverage["avg_coverage"] == pytest.approx(verdicts["coverage_p1"].observed, abs=0.0005)
    error = answered("error")[0]
    assert error["failed_requests"] == 5
    assert error["error_rate_per_1k"] / 1000 == pytest.approx(verdicts["error_p1"].observed)
    (latency,) = answered("latency", target_ms="75")
    assert latency["late_share"] == pytest.approx(verdicts["latency_p2"].observed)
    assert Key("films", "none", "override") in delta.cells
