"""Who is taken back: no more than the segment that explains it, as soon as that can be told."""

from random import Random

import pytest
from rollback_traffic import Traffic as Requests
from rollback_traffic import breach, verdict
from scripted import ACT, EU, GREEN, P1, P2, US, Bench, p1_in
from scripted import verdict as said

from proxy.core.rollback.signals import Key
from proxy.core.rollback.verdicts import ALL, Judgement, segment_of
from proxy.core.simulation.engine import simulate
from proxy.core.simulation.incident import Fault, Incident, Traffic
from proxy.core.simulation.replay import EXACT
from proxy.core.toggles import Scope

IN_EU = Scope(region=("eu",))
REGIONS = {"eu": 0.33, "us": 0.33, "asia": 0.34}


def laid(bench):
    return [(patch.stage, patch.scope) for patch in bench.engine.layers]


def p2_in(segment):
    return Judgement(verdicts=(said("ok"), said("breach", "P2")), warned=segment)


def moved(seed, **fault):
    incident = Incident(
        title="one region", seconds=420, traffic=Traffic(per_s=60, regions=REGIONS),
        faults=(Fault(source="cf", regions=("eu",), from_s=300, **fault),), rollback=ACT,
    )  # fmt: skip
    return simulate(incident, Random(seed).random, EXACT).moments


@pytest.mark.parametrize("seed", range(4))
def test_a_region_that_breaks_all_at_once_is_the_only_one_taken_back(seed):
    """In the first quarter of a second there are too few requests to tell where it is; then there are not."""
    back = next(it for it in moved(seed, kind="errors") if it.to == "ROLLED_BACK")
    assert back.at <= 304
    assert [(it.stage, it.scope) for it in back.layers] == [("2", IN_EU)]


def test_a_region_that_is_slow_is_degraded_alone():
    """Its p95 is over the target of P2, and not over that of P1."""
    moments = moved(1, kind="latency", share=0.3, add_ms=100)
    assert {it.to for it in moments} == {"DEGRADED"}
    assert [(it.stage, it.scope) for it in moments[0].layers] == [("1", IN_EU)]


def test_a_rollback_is_for_whom_it_is_seen_to_be_about_when_it_is_confirmed():
    bench = Bench().says(exposed=P1, staged=P1)
    bench.step()
    assert laid(bench) == [("1", Scope())]
    bench.says(staged=p1_in(EU))
    bench.until("ROLLED_BACK", 10)
    assert laid(bench) == [("2", IN_EU)]


def test_stage_1_stays_where_something_else_is_wrong():
    bench = Bench().says(exposed=P1, staged=P1)
    bench.step()
    bench.says(staged=Judgement(verdicts=p1_in(EU).verdicts, blamed=EU))  # of P2 it explains nothing
    bench.until("ROLLED_BACK", 10)
    assert laid(bench) == [("2", IN_EU), ("1", Scope())]


def test_all_of_what_is_degraded_is_no_more_than_that():
    bench = Bench().says(exposed=p2_in(EU), staged=P2)
    bench.step()
    assert laid(bench) == [("1", IN_EU)]
    assert bench.judge.carried == [("exposed", "staged", bench.now, EU)]
    bench.says(exposed=GREEN, staged=P1)
    bench.until("ROLLED_BACK", 10)
    assert laid(bench) == [("2", IN_EU)]


def test_what_breaches_in_two_places_is_taken_back_in_all():
    bench = Bench().says(exposed=p2_in(EU))
    bench.step()
    bench.says(exposed=p1_in(US), staged=P1)
    bench.until("ROLLED_BACK", 10)
    assert laid(bench) == [("2", Scope())]


def test_what_is_known_of_a_part_goes_along_when_it_is_called_otherwise_and_passes_by_its_own_requests():
    """Of everybody's requests a second without an error would say that it is over."""
    eu, us = (Key("r", "", "exposed", region) for region in (b"eu", b"us"))
    bad, fine = {"failed": 0.02}, {"failed": 0.0}
    traffic = Requests()
    others = [(us, 100, fine)]
    traffic.run(300, key=eu, rate=20, others=others, **fine)
    assert traffic.run(60, breach("error_p1"), key=eu, rate=20, others=others, **bad) is not None
    judge, now = traffic.judge, traffic.now
    judge.carry("exposed", "staged", now, EU)
    found = verdict(judge.judge(now, "staged"), "error_p1")
    assert (found.answer, found.segment) == ("breach", ALL)
    assert not [it for it in judge.judge(now).verdicts if it.segment == EU]
    judge.pending(now)
    traffic.run(2, key=us, rate=500, **fine)
    assert not judge.passed(traffic.now)
    traffic.run(60, key=eu._replace(side="staged"), rate=20, others=others, **fine)
    assert judge.passed(traffic.now)


def test_a_scope_is_a_segment_where_it_names_one():
    assert segment_of(Scope()) == ALL
    assert segment_of(IN_EU) == EU
    assert segment_of(Scope(region=("eu", "us"))) is None
    assert segment_of(Scope(region=("eu",), client=("tv",))) is None
