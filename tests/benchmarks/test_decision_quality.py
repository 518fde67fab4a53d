"""The policies of others, as their documentation has them, and what is made of all runs."""

import importlib
import math
from dataclasses import replace

import pytest

from proxy.core.rollback.signals import FAILED, REQUESTS, Delta, Key, columns
from proxy.core.simulation.incident import Incident


@pytest.fixture
def others(load):
    return {it.name.split(",")[0].split()[0]: it for it in load("other_policies").OTHERS}


def tick(requests, failed, side="exposed"):
    counts = [0] * columns(1)
    counts[REQUESTS], counts[FAILED] = requests, failed
    return Delta(targets=(0.2,), cells={Key("r", "none", side): counts})


@pytest.fixture
def acts(load):
    """When the policy has rolled back, if so many of 100 requests fail in each tick of 5 s; None: not."""
    looking = load("other_policies").Looking

    def run(policy, failed, seconds=30_000, before=0):
        subject = looking(policy, 0.0)
        for at in range(5, seconds, 5):
            subject.feed(tick(100, failed(at) if at > before else 0), float(at))
            for moment in subject.step(float(at)):
                return moment.at - before
        return None

    return run


def test_a_window_acts_at_its_first_look_over_the_threshold(others, acts):
    assert acts(others["fixed"], lambda _: 1) == 5
    assert acts(others["10-minute"], lambda _: 1) == 5


def test_what_was_good_before_dilutes_a_long_window(others, acts):
    assert acts(others["10-minute"], lambda at: int(at % 10 == 0), before=3_000) > 60


def test_flagger_wants_five_failed_checks_in_a_row(others, acts):
    assert acts(others["Flagger"], lambda _: 1) == 5 + 55 + 3 * 60
    assert acts(others["Flagger"], lambda at: int(at % 300 < 150)) is None


def test_argo_wants_three_failed_measurements(others, acts):
    assert acts(others["Argo"], lambda _: 1) == 5 + 295 + 300


def test_burn_rates_want_both_windows(others, acts):
    assert acts(others["SRE"], lambda _: 2, before=3_600) > 1_000  # 20 times: the hour has to fill
    assert acts(others["SRE"], lambda at: int(at % 20 == 0)) is None  # 2.5 times: no page


def test_only_what_is_judged_is_counted(load):
    counted = load("other_policies").counted
    assert counted(tick(10, 3))[0] == 10
    assert counted(tick(10, 3, side="decided"))[0] == 0


def test_it_releases_once_nothing_is_over(load, others):
    subject = load("other_policies").Looking(others["fixed"], 0.0)
    moved = []
    for at in range(5, 300, 5):
        subject.feed(tick(100, 1 if at < 50 else 0), float(at))
        moved += subject.step(float(at))
    assert [it.to for it in moved] == ["ROLLED_BACK", "NORMAL"]
    assert subject.layers == ()


def test_a_person_releases_what_does_not_release_itself(load, others):
    subject = load("other_policies").Looking(others["Flagger"], 0.0, 600.0)
    moved = []
    for at in range(5, 1_500, 5):
        subject.feed(tick(100, 1), float(at))
        moved += subject.step(float(at))
    assert [(it.to, it.at) for it in moved] == [("ROLLED_BACK", 240), ("NORMAL", 840), ("ROLLED_BACK", 1_140)]


def test_quiet_days_have_every_p1_metric_where_they_say(load):
    made = load("decision_quality").quiet(1.0, 2, 5)
    assert isinstance(made, Incident)
    assert (made.usual.errors, made.usual.short, made.seconds) == (0.001, 0.05, 172_800)
    late = importlib.import_module("proxy.core.simulation.traffic").late
    assert late(made.usual, 0.2) == pytest.approx(0.05)
    assert late(load("decision_quality").quiet(0.5, 2, 5).usual, 0.2) == pytest.approx(0.025)


def test_who_never_acts_is_slower_than_everybody(load):
    quality = load("decision_quality")
    run = quality.Run(
        policy=quality.OURS, incident="a", seed=0, acts=True, acted_s=4.0,
        harmed=0, requests=1, withheld=0, flaps=0, false=0,
    )  # fmt: skip
    runs = [run, replace(run, incident="b", acted_s=None), replace(run, incident="c", acts=False)]
    assert quality.times(runs, quality.OURS) == [4.0, math.inf]
    assert quality.at([1.0, 2.0, 3.0, math.inf], 0.5) == 2.0
    assert quality.at([1.0, 2.0, 3.0, math.inf], 0.95) == math.inf
    slow = [replace(it, policy="slow", acted_s=20.0) for it in (run, run)]
    assert quality.ratio([run, run, *slow], "slow", 1).median == 0.2
