"""What comes in a tick: shares by side, what a fault hits and what spares from it."""

from collections import Counter
from random import Random

import pytest

from proxy.core.rollback.layers import Patch
from proxy.core.rollback.signals import FAILED, FILLED, HITS, LATE, READS, REQUESTS, SHORT, SLOTS
from proxy.core.simulation.incident import Fault, Incident, Traffic, Usual
from proxy.core.simulation.traffic import Generator, late, rate, segments
from proxy.core.toggles import STAGES, Scope

TARGETS = (0.075, 0.2)
PERFECT = Usual(errors=0, short=0, misses=0, median_ms=1, p95_ms=1.5)
STAGE_2 = (Patch("2", {**STAGES["1"], **STAGES["2"]}),)
STAGE_3 = (Patch("3", {**STAGES["1"], **STAGES["2"], **STAGES["3"]}),)


def generator(*faults, traffic=None, usual=PERFECT):
    incident = Incident(
        title="x", seconds=1_000, faults=faults, traffic=traffic or Traffic(per_s=200), usual=usual
    )
    return Generator(incident, TARGETS, Random(3).random)


def summed(tick, column, **which):
    return sum(
        counts[column]
        for key, counts in tick.delta.cells.items()
        if all(getattr(key, name) == value for name, value in which.items())
    )


def by_side(tick):
    sides = Counter()
    for key, counts in tick.delta.cells.items():
        sides[key.side] += counts[REQUESTS]
    return {side: n / tick.requests for side, n in sides.items()}


def test_segments_are_every_combination_and_all_of_the_traffic():
    made = segments(Traffic(regions={"eu": 3, "us": 1}, clients={"tv": 1, "web": 1}))
    assert {(it.region, it.client): it.share for it in made} == pytest.approx(
        {("eu", "tv"): 0.375, ("eu", "web"): 0.375, ("us", "tv"): 0.125, ("us", "web"): 0.125}
    )


def test_a_day_has_its_low_at_midnight_and_its_high_at_noon():
    day = Traffic(per_s=10, shape="diurnal", swing=0.5, day_s=100)
    assert [rate(day, at) for at in (0, 50, 100)] == pytest.approx([5, 15, 5])


def test_the_usual_latency_has_its_percentile_where_it_says():
    assert late(Usual(median_ms=20, p95_ms=75), 0.075) == pytest.approx(0.05)
    assert late(Usual(median_ms=20, p95_ms=75), 0.175, added_s=0.1) == pytest.approx(0.05)
    assert late(Usual(), 0.2, added_s=0.25) == 1.0


def test_what_is_usual_shows_in_its_columns():
    usual = Usual(errors=0.1, short=0.05, misses=0.3, median_ms=50, p95_ms=75)
    tick = generator(usual=usual).tick(0, 100, ())
    n = tick.requests
    assert n == pytest.approx(20_000, rel=0.05)
    assert summed(tick, FAILED) / n == pytest.approx(0.1, rel=0.1)
    assert summed(tick, SHORT) / n / 1_000 == pytest.approx(0.05, rel=0.1)
    assert 1 - summed(tick, FILLED) / summed(tick, SLOTS) == pytest.approx(0.05, rel=0.1)
    assert 1 - summed(tick, HITS) / summed(tick, READS) == pytest.approx(0.3, rel=0.1)
    assert summed(tick, LATE) / n == pytest.approx(0.05, rel=0.15)
    assert tick.harmed == 0


def test_exposed_control_staged_and_recovered_have_their_shares():
    traffic = Traffic(per_s=200, control_percent=20, control_upstream=True)
    made = generator(traffic=traffic)
    assert by_side(made.tick(0, 100, ())) == pytest.approx({"exposed": 0.8, "control": 0.2}, abs=0.02)
    assert by_side(made.tick(0, 100, (STAGE_2[0]._replace(low=2_500),))) == pytest.approx(
        {"recovered": 0.25, "staged": 0.5, "control": 0.25}, abs=0.02
    )


def test_without_a_control_upstream_who_is_not_exposed_is_never_judged():
    made = generator(traffic=Traffic(per_s=200, control_percent=20))
    assert by_side(made.tick(0, 100, ())) == pytest.approx({"exposed": 0.8, "decided": 0.2}, abs=0.02)


def test_a_layer_is_for_its_segment_only():
    made = generator(traffic=Traffic(per_s=200, regions={"eu": 1, "us": 1}))
    tick = made.tick(0, 50, (STAGE_2[0]._replace(scope=Scope(region=("us",))),))
    assert summed(tick, REQUESTS, region=b"eu", side="exposed") == summed(tick, REQUESTS, region=b"eu")
    assert summed(tick, REQUESTS, region=b"us", side="exposed") == 0


def test_a_fault_of_a_source_stops_hurting_once_it_is_not_asked():
    made = generator(Fault(kind="errors", from_s=0, source="cf"))
    before, after = made.tick(0, 10, ()), made.tick(10, 10, STAGE_2)
    assert before.harmed == before.requests == summed(before, FAILED)
    assert after.harmed == summed(after, FAILED) == 0
    assert after.requests > 0


def test_a_fault_behind_everything_hurts_until_nobody_is_asked():
    made = generator(Fault(kind="errors", from_s=0))
    assert made.tick(0, 10, STAGE_2).harmed > 0
    assert made.tick(0, 10, STAGE_3).harmed == 0


def test_a_fault_of_the_change_spares_control():
    traffic = Traffic(per_s=200, control_percent=50, control_upstream=True)
    tick = generator(Fault(kind="errors", from_s=0, side="exposed"), traffic=traffic).tick(0, 10, ())
    assert summed(tick, FAILED, side="control") == 0
    assert summed(tick, FAILED, side="exposed") == summed(tick, REQUESTS, side="exposed") > 0


def test_what_a_source_is_asked_beyond_its_capacity_fails():
    """Under the operator's mode content is asked by nobody, under stage 2 by all who are not control."""
    traffic = Traffic(per_s=200, policy_mode="collab_only")
    incident = Incident(title="x", seconds=9, traffic=traffic, usual=PERFECT, capacity={"content": 50})
    made = Generator(incident, TARGETS, Random(3).random)
    assert made.tick(0, 100, ()).harmed == 0
    tick = made.tick(100, 100, STAGE_2)
    assert summed(tick, FAILED) / summed(tick, REQUESTS, side="staged") == pytest.approx(
        1 - 50 / 150, abs=0.02
    )
    assert made.tick(200, 100, (STAGE_2[0]._replace(high=2_500),)).harmed == 0


def test_slower_requests_are_late_for_both_targets_only_if_slow_enough():
    tick = generator(Fault(kind="latency", from_s=0, add_ms=100, share=0.5)).tick(0, 100, ())
    assert summed(tick, LATE) / tick.requests == pytest.approx(0.5, rel=0.05)
    assert summed(tick, LATE + 1) == 0


def test_a_hanging_call_is_late_at_once_and_fails_when_it_ends():
    made = generator(Fault(kind="hang", from_s=0, until_s=1, hang_s=5))
    first = made.tick(0, 1, ())
    assert summed(first, LATE) == summed(first, LATE + 1) == first.requests
    assert summed(first, FAILED) == 0
    quiet, end = made.tick(1, 1, ()), made.tick(2, 4, ())
    assert summed(quiet, FAILED) == 0
    assert summed(end, FAILED) == first.requests


@pytest.mark.parametrize(
    ("fault", "at", "strength"),
    [
        (Fault(kind="errors", from_s=10), 9.9, 0.0),
        (Fault(kind="errors", from_s=10), 10, 1.0),
        (Fault(kind="errors", from_s=10, until_s=20), 20, 0.0),
        (Fault(kind="errors", from_s=10, shape="ramp", rise_s=100, share=0.4), 60, 0.2),
        (Fault(kind="errors", from_s=10, shape="ramp", rise_s=100, share=0.4), 500, 0.4),
        (Fault(kind="errors", from_s=10, shape="pulses", on_s=5, off_s=15), 14, 1.0),
        (Fault(kind="errors", from_s=10, shape="pulses", on_s=5, off_s=15), 15, 0.0),
        (Fault(kind="errors", from_s=10, shape="pulses", on_s=5, off_s=15), 31, 1.0),
    ],
)
def test_the_shape_of_a_fault(fault, at, strength):
    assert fault.strength(at) == pytest.approx(strength)


def test_the_same_seed_is_the_same_traffic():
    first, second = generator(usual=Usual()), generator(usual=Usual())
    assert [first.tick(at, 1, ()) for at in range(20)] == [second.tick(at, 1, ()) for at in range(20)]
