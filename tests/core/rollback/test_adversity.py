"""What somebody would find out at 3 a.m.: the engine and its judge under traffic that is out to fool them."""

from dataclasses import replace
from random import Random

import pytest
from rollback_traffic import KEY, breach, of, verdict
from rollback_traffic import Traffic as Requests
from scripted import ACT

from proxy.core.rollback.engine import Engine, World
from proxy.core.rollback.judge import Judge
from proxy.core.rollback.verdicts import Segment
from proxy.core.simulation.engine import simulate
from proxy.core.simulation.incident import Fault, Incident
from proxy.core.simulation.replay import EXACT


def played(seconds, *faults):
    incident = Incident(title="adversity", seconds=seconds, faults=faults, rollback=ACT)
    return simulate(incident, Random(1).random, EXACT)


@pytest.mark.parametrize("every", [150, 300, 590])
def test_short_spikes_that_come_again_within_the_window_are_no_spikes_that_pass(every):
    """Two seconds without an answer every so often are more than 0.1 % of ten minutes, time after time."""
    fault = Fault(kind="errors", source="cf", shape="pulses", on_s=2, off_s=every - 2, from_s=60)
    outcome = played(60 + every + 20, fault)
    assert outcome.acted_s == pytest.approx(every, abs=6)


def test_bursts_of_failures_at_half_of_what_is_allowed_are_not_rolled_back():
    """They are not independent: each is a breach, and each has passed before it is confirmed."""
    fault = Fault(kind="errors", source="cf", shape="pulses", on_s=0.5, off_s=999.5, from_s=60)
    outcome = played(4_000, fault)
    assert outcome.rollbacks == 0
    assert outcome.detected_s is not None


def test_what_control_has_had_for_long_is_no_relapse_of_the_change():
    """A step of the recovery sees too little of control by itself to tell that it is not the change."""
    judge = (traffic := Requests()).judge
    theirs = [(KEY._replace(side="control"), 4, {"failed": 0.05})]
    traffic.run(300, rate=0, others=theirs)
    judge.restart("recovered", traffic.now)
    recovered, seen = KEY._replace(side="recovered"), []
    for _ in range(80):
        traffic.run(0.25, key=recovered, rate=50, others=theirs, failed=0.05)
        found = verdict(judge.judge(traffic.now, "recovered"), "error_p1")
        seen += [found.shared] if found.answer == "breach" else []
    assert seen
    assert all(seen)


def test_a_segment_under_a_stage_is_compared_with_control_of_that_segment():
    """Control of everybody else is well, so it would not have it as badly."""
    judge = (traffic := Requests()).judge
    eu, us = (KEY._replace(region=region) for region in (b"eu", b"us"))
    bad, fine = {"failed": 0.2}, {"failed": 0.0}
    control = [(us._replace(side="control"), 1_000, fine), (eu._replace(side="control"), 20, bad)]
    traffic.run(60, key=eu, rate=20, others=[(us, 100, fine), *control], **bad)
    judge.carry("exposed", "staged", traffic.now, Segment("region", "eu"))
    traffic.run(5, key=eu._replace(side="staged"), rate=20, others=[(us, 100, fine), *control], **bad)
    assert verdict(judge.judge(traffic.now, "staged"), "error_p1").shared


def test_a_judge_that_is_new_does_not_say_that_what_it_never_saw_has_passed():
    """A reload while a rollback is confirmed; as after a restart, what was found holds."""
    settings = replace(ACT, minimum_requests=ACT.minimum_requests + 1)
    engine, traffic = Engine(ACT, 1_000.0), Requests()
    while engine.state == "NORMAL":
        traffic.now += traffic.tick
        engine.feed(of({KEY: traffic.cell(50, {"failed": 0.5})}), traffic.now)
        engine.step(traffic.now, World())
    assert engine.state == "ROLLBACK_PENDING"
    engine.reconfigure(settings, traffic.now, Judge(settings, traffic.now))
    assert engine.step(traffic.now + 1, World()) == ()
    (found,) = engine.step(traffic.now + ACT.confirm_s, World())
    assert found.to == "ROLLED_BACK"


def test_an_outage_at_a_request_a_minute_is_found():
    """The window never holds `minimum_requests` then, and would wait for ever."""
    traffic = Requests(rate=1 / 60, tick=10.0)
    traffic.run(3_600, failed=0.0)
    assert traffic.run(900, breach("error_p1"), failed=1.0) is not None
