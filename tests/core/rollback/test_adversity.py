"""What somebody would find out at 3 a.m.: the engine and its judge under traffic that is out to fool them."""

from random import Random

import pytest
from scripted import ACT

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
