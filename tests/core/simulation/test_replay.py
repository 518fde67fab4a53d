"""A replay: whoever decides is obeyed from the next tick on, and what came of it is told."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from proxy.core.rollback.layers import NO_LAYERS, Patch
from proxy.core.rollback.signals import REQUESTS
from proxy.core.simulation.expected import unmet
from proxy.core.simulation.incident import Expect, Fault, Incident, Traffic
from proxy.core.simulation.replay import Moment, Pace, replay
from proxy.core.toggles import STAGES, Scope

BACK = (Patch("2", {**STAGES["1"], **STAGES["2"]}),)
FINE = Pace(tick=1, calm=1)
OUTAGE = Incident(
    title="x",
    seconds=200,
    traffic=Traffic(per_s=20),
    faults=(Fault(kind="errors", source="cf", from_s=50, until_s=100),),
)


class Scripted:
    """Finds something at one time, and moves as it is told, by time."""

    def __init__(self, moves, found_at=1e9):
        self.moves = dict(moves)
        self.found_at = found_at
        self.state, self.layers, self.breaching = "NORMAL", NO_LAYERS, False
        self.fed = []

    def feed(self, delta, now):
        self.fed.append((now, sum(counts[REQUESTS] for counts in delta.cells.values())))

    def step(self, now):
        self.breaching = now >= self.found_at
        if now not in self.moves:
            return ()
        before, self.state = self.state, self.moves.pop(now)
        self.layers = BACK if self.state == "ROLLED_BACK" else NO_LAYERS
        return [Moment(now, before, self.state, "told", self.layers)]


def run(subject, incident=OUTAGE, pace=FINE, seed=1):
    return replay(incident, subject, (0.2,), Random(seed).random, pace)


def test_what_is_decided_holds_from_the_next_tick_on():
    subject = Scripted({53: "ROLLED_BACK", 120: "NORMAL"}, found_at=51)
    outcome = run(subject)
    asked = dict(subject.fed)
    assert outcome.harmed == sum(n for at, n in subject.fed if 50 < at <= 53) > 0
    assert outcome.withheld == sum(n * 1 for at, n in subject.fed if 53 < at <= 120)
    assert outcome.requests == sum(asked.values())


def test_times_count_from_the_beginning_and_from_the_end_of_what_broke():
    outcome = run(Scripted({53: "ROLLED_BACK", 120: "NORMAL"}, found_at=51))
    assert (outcome.detected_s, outcome.acted_s, outcome.recovered_s) == (1, 3, 20)
    assert (outcome.final, outcome.flaps, outcome.false, outcome.scope) == ("NORMAL", 0, 0, Scope())


def test_what_never_happened_has_no_time():
    outcome = run(Scripted({}))
    assert (outcome.detected_s, outcome.acted_s, outcome.scope) == (None, None, None)
    assert outcome.recovered_s == 1


def test_a_rollback_while_nothing_is_broken_is_false_and_one_more_is_a_flap():
    outcome = run(Scripted({10: "ROLLED_BACK", 20: "NORMAL", 60: "ROLLED_BACK", 130: "NORMAL"}))
    assert (outcome.false, outcome.flaps, outcome.acted_s) == (1, 1, 10)


def test_time_goes_finely_only_while_something_happens_and_no_tick_spans_an_edge():
    subject = Scripted({})
    run(subject, replace(OUTAGE, seconds=1_000), Pace(tick=0.5, calm=10, settled=20))
    ends = [at for at, _ in subject.fed]
    assert {50.0, 100.0, 1_000.0} <= set(ends)
    steps = {after - before for before, after in pairwise(ends[:-1]) if before > 200}
    assert steps == {10.0}
    assert len([at for at in ends if 50 < at <= 100]) == 100


def test_samples_are_bounded_and_cover_the_whole_run():
    outcome = run(Scripted({}), replace(OUTAGE, seconds=5_000))
    assert 1_000 <= len(outcome.samples) <= 1_200
    assert outcome.samples[-1].at == 5_000


def test_the_same_seed_is_the_same_run_and_another_seed_another():
    script = {53: "ROLLED_BACK"}
    assert run(Scripted(script)) == run(Scripted(script))
    assert run(Scripted(script)).requests != run(Scripted(script), seed=2).requests


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        (Expect(final=("NORMAL",), acts=True, within_s=3, detected_within_s=1, recovered_within_s=20), ()),
        (Expect(final=("DEGRADED",), acts=True), ("ends as NORMAL, not DEGRADED",)),
        (Expect(final=("NORMAL",), acts=True, within_s=2), ("rolled back after 3.0 s, not within 2",)),
        (Expect(final=("NORMAL",), acts=False), ("should not have been",)),
        (
            Expect(final=("NORMAL",), acts=True, recovered_within_s=9),
            ("normal again after 20.0 s",),
        ),
        (Expect(final=("NORMAL",), acts=True, regions=("eu",)), ("rolled back for all, not for region eu",)),
    ],
)
def test_what_was_expected_and_did_not_come_is_told(expect, words):
    told = unmet(expect, run(Scripted({53: "ROLLED_BACK", 120: "NORMAL"}, found_at=51)))
    assert len(told) == len(words)
    assert all(part in text for part, text in zip(words, told, strict=True))


def test_expecting_a_rollback_that_never_comes_is_told():
    told = unmet(Expect(final=("NORMAL",), acts=True, within_s=5), run(Scripted({})))
    assert told == ("not rolled back",)


def test_flaps_and_false_rollbacks_are_told():
    outcome = run(Scripted({10: "ROLLED_BACK", 20: "NORMAL", 60: "ROLLED_BACK", 130: "NORMAL"}))
    told = unmet(Expect(final=("NORMAL",), acts=True, flaps_at_most=0), outcome)
    assert told == ("1 rolled back while nothing was broken", "rolled back 1 more times, not at most 0")


def test_what_needs_no_traffic_can_be_acted_on_in_the_moment_it_breaks():
    outcome = run(Scripted({50: "ROLLED_BACK"}))
    assert (outcome.acted_s, outcome.false) == (0, 0)
