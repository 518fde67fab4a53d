"""Drills of the rollback at virtual time: the data plane is `core.decide` and sources that obey faults."""

from dataclasses import replace

import pytest

from proxy.core.decide import Decider
from proxy.core.decision import Laid
from proxy.core.experiment import Experiment
from proxy.core.identity import Who
from proxy.core.policy import Policy, Route, Sources
from proxy.core.rollback.drills import Fault
from proxy.core.rollback.exercises import NAMES, STEPS, Clocks, Run, faults_of, obstacle, own, settings_of
from proxy.core.rollback.settings import DEFAULT_TRIGGERS, RollbackSettings
from proxy.core.rollback.signals import FAILED, FILLED, LATE, REQUESTS, SHORT, SLOTS, Delta, Key, columns
from proxy.core.scopes import Scopes
from proxy.core.toggles import Toggles

ROUTE = Route(name="films", path="/", kind="recommend", sources=Sources(cf="cf", content="co"))
POLICY = Policy(routes=(ROUTE,), upstreams={}, rollback=RollbackSettings(mode="watch"))
CLOCKS = Clocks(lead_s=2, confirm_s=2, hold_s=5, recovery_step_s=4, limit_s=600)
TARGETS = POLICY.rollback.targets
TICK_S = 0.25
K = 10


def cell(fault, sources):
    """One request of K slots, which asks these sources."""
    counts = [0] * (columns(len(TARGETS)))
    hit = {it.effect for it in fault if it.source in sources}
    whole = not {it.source for it in fault if it.effect == "empty"} >= set(sources)
    counts[REQUESTS], counts[SLOTS] = 1, K
    counts[FILLED], counts[SHORT] = (K, 0) if whole else (0, 1_000)
    counts[FAILED] = "error" in hit
    if "delay" in hit:
        slow = next(it.delay_ms for it in fault if it.effect == "delay") / 1000
        for at, target in enumerate(TARGETS):
            counts[LATE + at] = slow > target
    return counts


class Replayed:
    """A drill run through."""

    def __init__(self, name, *, users=40, policy=POLICY, until=600.0, **clocks):
        self.run = Run(name, policy, replace(CLOCKS, **clocks), drill_id="d", now=1_000.0)
        self.seen = set()
        now = 1_000.0
        while not self.run.over and now < 1_000 + until:
            now += TICK_S
            drill = self.run.drill
            decider = Decider(
                ROUTE, policy.toggles, Experiment(), Scopes.of(policy.toggles, None), layers=drill.layers
            )
            cells = {}
            for user in range(users):
                if (round(now / TICK_S) + user) % 8:  # each asks every two seconds
                    continue
                who = Who(b"%d" % user, b"", b"", b"")
                decision = decider.decide(who, who.user, user * 10_000 // users, Laid(aside="drill"))
                key = Key("films", decision.arm, decision.side)
                self.seen.add(decision.side)
                found = cell(drill.faults, decision.sources)
                before = cells.get(key, [0] * len(found))
                cells[key] = [*map(int.__add__, before, found)]
            self.run.feed(Delta(targets=TARGETS, cells=cells), now)
            self.run.step(now)
        self.criteria = {it.name: it for it in self.run.criteria(policy.rollback)}


@pytest.mark.parametrize("name", NAMES)
def test_each_drill_takes_its_path_and_holds_its_criteria(name):
    found = Replayed(name)
    assert found.run.over == "finished"
    assert [it for it in found.criteria.values() if not it.holds] == []
    assert {"drill", "drill_recovered"} < found.seen
    assert found.run.drill is None
    named = {"transitions", "recovery", "ended"} | ({"trigger"} if name != "rollback" else set())
    assert set(found.criteria) == named | ({"hold"} if name == "recovery" else set())


def test_by_hand_every_stage_is_gone_through():
    moves = Replayed("rollback").run.moves
    assert [it.stage for it in moves if it.event == "started"] == ["2", "3", "emergency"]
    assert {it.by for it in moves if it.event in {"started", "released"}} == {"drill"}


def test_the_fault_is_there_until_it_is_rolled_back_and_no_longer():
    run = Replayed("error").run
    back = next(it.at for it in run.moves if it.to == "ROLLED_BACK")
    assert run.broken_at < back == run.lifted_at
    run = Replayed("recovery").run
    assert run.lifted_at == next(it.at for it in run.moves if it.event == "relapsed")


def test_a_trigger_that_does_not_fire_fails_the_drill():
    """Nobody asks the source that breaks."""
    policy = replace(POLICY, toggles=Toggles(policy_mode="content_only"))
    found = Replayed("error", policy=policy, limit_s=60)
    assert found.run.over == "out_of_time"
    assert {name for name, it in found.criteria.items() if not it.holds} == {
        "trigger", "transitions", "recovery", "ended",
    }  # fmt: skip
    assert "60 s were not enough: it waited for the end of NORMAL" in found.criteria["ended"].seen


def test_what_is_broken_already_ends_it_before_it_breaks_anything():
    run = Run("error", POLICY, CLOCKS, drill_id="d", now=0.0)
    for tick in range(1, 8):
        counts = cell((Fault(source="cf", effect="error"),), ("cf",))
        cells = {Key("films", "none", "drill"): [10 * it for it in counts]}
        run.feed(Delta(targets=TARGETS, cells=cells), tick * TICK_S)
        run.step(tick * TICK_S)
    assert (run.over, run.broken_at, run.drill) == ("aborted", None, None)
    assert run.why.startswith("its requests were in trouble before anything was done to them: error_p1")


def test_without_requests_it_waits_for_them_and_ends_in_time():
    run = Replayed("error", users=0, limit_s=30).run
    assert (run.over, run.requests, run.broken_at) == ("out_of_time", 0, None)
    assert "waited for its requests" in run.why


def test_clocks_in_force_that_recover_too_slowly_fail_it_however_short_its_own_are():
    slow = replace(POLICY, rollback=RollbackSettings(recovery_step_s=400))
    recovery = Replayed("error", policy=slow).criteria["recovery"]
    assert not recovery.holds
    assert recovery.seen.endswith("by the clocks in force 2000 s of steps")


def test_what_is_over_does_nothing_more():
    run = Run("error", POLICY, CLOCKS, drill_id="d", now=0.0)
    assert run.drill.faults == ()
    run.end("aborted", "killed", 1.0)
    run.end("finished", "", 2.0)
    assert (run.over, run.why, run.drill, run.step(1.0)) == ("aborted", "killed", None, ())
    assert run.criteria(POLICY.rollback)[-1].seen == "killed"


def test_it_sees_its_own_requests_alone():
    cells = {Key("films", "none", side): [1] for side in ("exposed", "override", "drill_staged", "drill")}
    found = own(Delta(targets=TARGETS, cells=cells, upstreams={"cf": ()}))
    assert {key.side for key in found.cells} == {"staged", "exposed"}
    assert not found.upstreams


def test_a_drill_is_judged_by_the_triggers_in_force_and_acts_where_they_only_watch():
    found = settings_of(POLICY.rollback, CLOCKS)
    assert (found.mode, found.triggers, found.hold_s) == ("act", DEFAULT_TRIGGERS, 5)
    assert found.recovery_steps == STEPS


def test_what_cannot_be_drilled_is_said():
    assert obstacle("error", POLICY) == ""
    assert "recommends" in obstacle("error", replace(POLICY, routes=()))
    none = replace(POLICY, rollback=RollbackSettings(triggers=DEFAULT_TRIGGERS[3:]))
    assert "no P1 trigger for latency" in obstacle("latency", none)
    assert obstacle("rollback", none) == ""


def test_faults_break_what_the_drill_is_about():
    assert [it.effect for it in faults_of("coverage", POLICY)] == ["empty", "empty"]
    (slow,) = faults_of("latency", POLICY)
    assert (slow.source, slow.delay_ms) == ("cf", 300)
    only = replace(POLICY, routes=(replace(ROUTE, sources=Sources(content="co")),))
    assert [it.source for it in faults_of("error", only)] == ["content"]
    assert faults_of("rollback", POLICY) == ()
