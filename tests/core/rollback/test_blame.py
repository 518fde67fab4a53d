"""Which part of the traffic is to blame, and what control says about it."""

import pytest
from rollback_traffic import KEY, TARGETS, Traffic, breach, cell, delta, verdict

from proxy.core.rollback.segments import PART, Case, segments_of, shared
from proxy.core.rollback.segments import blamed as blamed_of
from proxy.core.rollback.settings import DEFAULT_TRIGGERS
from proxy.core.rollback.signals import LATE, Key
from proxy.core.rollback.triggers import measure
from proxy.core.rollback.verdicts import ALL, Segment
from proxy.core.rollback.window import Series

FINE = {"failed": 0.0003, "short": 0.004, "late": 0.01, "late_cold": 0.005}
OUT = {"failed": 1.0, "short": 0.9, "late": 0.9, "late_cold": 0.9}
MILD = FINE | {"failed": 0.03}
EU, US, JP = (KEY._replace(region=it, client=b"tv") for it in (b"eu", b"us", b"jp"))
CONTROL = KEY._replace(side="control")


def blamed(eu, us, jp, seconds=20, seed=1):
    """After so long in which each region fared like that."""
    traffic = Traffic(seed=seed)
    fine = [(US, 20, FINE), (JP, 10, FINE)]
    traffic.run(120, key=EU, rate=20, others=fine, **FINE)
    traffic.run(seconds, key=EU, rate=20, others=[(US, 20, us), (JP, 10, jp)], **eu)
    return traffic.judge.judge(traffic.now)


@pytest.mark.parametrize(("bad", "seconds"), [(OUT, 3), (MILD, 90)])
def test_the_region_that_breaks_alone_is_blamed(bad, seconds):
    assert blamed(FINE, FINE, bad, seconds).blamed == Segment("region", "jp")
    assert blamed(bad, FINE, FINE, seconds).blamed == Segment("region", "eu")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bad", [OUT, MILD])
def test_no_part_is_blamed_where_all_is_broken(bad, seed):
    """At no moment; in the first ones few requests have failed, and they may all be of one part."""
    traffic = Traffic(seed=seed)
    traffic.run(40, key=EU, rate=20, others=[(US, 20, FINE), (JP, 10, FINE)], **FINE)
    seen = set()
    others = [(US, 20, bad), (JP, 10, bad)]
    traffic.run(20, lambda judgement: seen.add(judgement.blamed), key=EU, rate=20, others=others, **bad)
    assert seen == {ALL}
    assert traffic.judge.judge(traffic.now).breaches("P1")


def test_two_of_three_regions_are_no_part():
    judgement = blamed(OUT, FINE, OUT)
    assert judgement.blamed == ALL
    assert judgement.breaches("P1")


def test_a_small_part_that_all_traffic_does_not_show_breaches_by_itself():
    """A fiftieth of the traffic loses all of its slots: two hundredths, where five are allowed."""
    traffic = Traffic(rate=98, tick=0.5)
    traffic.run(120, key=EU, others=[(JP, 2, FINE)], **FINE)
    lost = [(JP, 2, FINE | {"short": 1.0})]
    assert traffic.run(60, breach("coverage_p1"), key=EU, others=lost, **FINE) <= 15
    judgement = traffic.judge.judge(traffic.now)
    assert verdict(judgement, "coverage_p1").answer == "ok"
    assert {it.segment for it in judgement.breaches("P1")} == {Segment("region", "jp")}
    assert judgement.blamed == Segment("region", "jp")
    assert judgement.blamed.scope.region == ("jp",)


def test_what_toggles_can_name_is_blamed_rather_than_a_route():
    other = Key("similar", "treatment_a", "exposed", b"jp")
    traffic = Traffic(rate=40)
    traffic.run(120, key=EU, others=[(other, 10, FINE)], **FINE)
    traffic.run(20, key=EU, others=[(other, 10, OUT)], **FINE)
    assert traffic.judge.judge(traffic.now).blamed == Segment("region", "jp")


def series(*steps):
    """Of (n, failed) by second."""
    found = Series(LATE, 10.0)
    for second, (n, failed) in enumerate(steps):
        found.add(cell(n, failed=failed), second + 1.0)
    return found


CASE = [Case(measure(DEFAULT_TRIGGERS[2], TARGETS), 0.001, 0.0)]


def test_most_of_the_traffic_is_no_part_of_it():
    parts = [(Segment("region", "eu"), series((700, 700)))]
    assert blamed_of(CASE, series((1_000, 700)), parts) == ALL
    parts = [(Segment("region", "eu"), series((500, 500)))]
    assert blamed_of(CASE, series((1_000, 500)), parts) == Segment("region", "eu")


def test_a_few_failures_may_be_of_one_part_by_chance():
    few, many = series((50, 4)), series((50, 14))
    assert blamed_of(CASE, series((100, 4)), [(Segment("region", "eu"), few)]) == ALL
    assert blamed_of(CASE, series((100, 14)), [(Segment("region", "eu"), many)]) == Segment("region", "eu")


def test_the_smallest_part_is_blamed_and_a_route_only_where_nothing_else_explains_it():
    all_of_it = series((1_000, 90))
    route, small = (Segment("route", "r"), series((90, 90))), (Segment("cohort", "cold"), series((100, 90)))
    large = (Segment("region", "eu"), series((300, 90)))
    assert blamed_of(CASE, all_of_it, [large, route, small]) == Segment("cohort", "cold")
    assert blamed_of(CASE, all_of_it, [large, route]) == Segment("region", "eu")
    assert blamed_of(CASE, all_of_it, [route]) == Segment("route", "r")


@pytest.mark.parametrize(
    ("own", "control", "expected"),
    [
        ((4_000, 3_960), (1_000, 950), True),  # surely worse, but not by half
        ((40_000, 1_200), (10_000, 150), False),  # twice as much, surely
        ((400, 12), (100, 2), True),  # by half, but not surely
        ((400, 12), (100, 0), False),
        ((400, 400), (5, 0), False),
    ],
)
def test_what_shared_means(own, control, expected):
    assert shared(own, control, 0.001) is expected


def test_what_a_cell_is_part_of():
    assert segments_of(KEY) == (ALL, Segment("route", "recommendations"))
    assert segments_of(EU) == (
        ALL,
        Segment("route", "recommendations"),
        Segment("region", "eu"),
        Segment("client", "tv"),
    )
    assert 0.5 < PART < 0.67


def beside(own, control, seconds=20, control_rate=10):
    traffic = Traffic(rate=40)
    traffic.run(120, others=[(CONTROL, control_rate, FINE)], **FINE)
    traffic.run(seconds, others=[(CONTROL, control_rate, control)], **own)
    return traffic.judge.judge(traffic.now)


@pytest.mark.parametrize("bad", [OUT, MILD])
def test_what_control_has_as_badly_is_not_the_change(bad):
    judgement = beside(bad, bad)
    found = verdict(judgement, "error_p1")
    assert found.answer == "breach"
    assert found.shared
    assert found.control > found.threshold
    assert judgement.breaches("P1") == ()


@pytest.mark.parametrize("bad", [OUT, MILD])
def test_what_control_does_not_have_is(bad):
    found = verdict(beside(bad, FINE), "error_p1")
    assert (found.answer, found.shared) == ("breach", False)
    assert found.control < 0.002


def test_a_change_that_makes_what_both_have_much_worse_is_not_shared():
    found = verdict(beside(OUT, MILD), "error_p1")
    assert not found.shared


def test_a_control_of_few_requests_says_nothing():
    found = verdict(beside(OUT, OUT, seconds=3, control_rate=0.1), "error_p1")
    assert (found.answer, found.shared, found.control) == ("breach", False, None)


def test_a_shared_outage_is_known_to_be_shared_within_the_time_of_confirmation():
    for seed in range(5):
        traffic = Traffic(rate=40, seed=seed)
        traffic.run(120, others=[(CONTROL, 10, FINE)], **FINE)
        traffic.run(10, breach("error_p1"), others=[(CONTROL, 10, OUT)], **OUT)
        traffic.run(3, others=[(CONTROL, 10, OUT)], **OUT)
        assert traffic.judge.judge(traffic.now).breaches("P1") == ()


def test_each_side_has_a_judgement_of_its_own():
    traffic = Traffic()
    for _ in range(200):
        traffic.now += 0.25
        traffic.judge.feed(delta(exposed=cell(10), staged=cell(10, failed=10), control=cell(10)), traffic.now)
    answers = {
        side: verdict(traffic.judge.judge(traffic.now, side), "error_p1").answer
        for side in ("exposed", "staged", "control", "recovered")
    }
    assert answers == {"exposed": "ok", "staged": "breach", "control": "ok", "recovered": "no_data"}
    assert verdict(traffic.judge.judge(traffic.now, "staged"), "error_p1").control == 0.0
    assert {(it.side, it.segment.dimension) for it in traffic.judge.shares(traffic.now)} == {
        ("exposed", ""),
        ("staged", ""),
        ("control", ""),
    }


def test_who_is_asked_whether_it_has_passed_is_asked_about_what_a_stage_has_moved_away():
    """The machine lays a stage and begins anew in the step in which it asks for the first time."""
    for share, passed in ((0.0, True), (1.0, False)):
        traffic = Traffic()
        traffic.run(120, **FINE)
        traffic.run(5, breach("error_p1"), failed=1.0)
        for side in ("staged", "exposed"):
            traffic.judge.restart(side, traffic.now)
        traffic.judge.pending(traffic.now)
        assert not traffic.judge.passed(traffic.now)
        traffic.run(3, key=KEY._replace(side="staged"), failed=share)
        assert traffic.judge.passed(traffic.now) is passed
