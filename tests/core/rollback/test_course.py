"""What the machine remembers outlives a restart, and a damaged memory is refused by the name of its fault."""

import json
from dataclasses import replace

import pytest
from scripted import ACT, GREEN, P1, P2, Bench

from proxy.core.rollback.course import Course, restored, saved
from proxy.core.rollback.engine import World
from proxy.core.rollback.stages import Part
from proxy.core.rollback.verdicts import Critical
from proxy.core.toggles import Scope

FULL = Course(
    state="ROLLED_BACK", since=10.0, clock=20.0, green_since=30.0, quiet_since=None, requests=7,
    parts=(Part(Scope(region=("eu", "us")), "3"), Part(Scope(), "1")), low=0, share=0.5, grown=15.0,
    target=Scope(cohort=("heavy",)), why="error_p1: 20 %", culprits=frozenset({"error_p1"}), ordered=True,
    pinned=True, failed=2, locked=True, rollbacks=(1.0, 9.0), warnings=(8.0,),
    known=frozenset({("breaker_open", "cf")}),
)  # fmt: skip


def reborn(bench, away=0.0):
    """Another process goes on, at another monotonic time."""
    raw = json.loads(json.dumps(bench.engine.saved(bench.now)))
    other = Bench(bench.engine.settings, raw, now=50.0)
    other.judge.says = bench.judge.says
    other.world = bench.world
    return other


def test_everything_is_remembered_as_how_long_ago_it_was():
    raw = json.loads(json.dumps(saved(FULL, 100.0)))
    assert restored(raw, 100.0) == FULL
    moved = restored(raw, 1_100.0)
    assert moved == replace(FULL.later(1_000.0), rollbacks=(1_001.0, 1_009.0), warnings=(1_008.0,))
    assert saved(moved, 1_100.0) == raw


@pytest.mark.parametrize(
    ("after", "left"),
    [(1, 2), (100, 200), (ACT.hold_s + 60, ACT.recovery_step_s - 60)],
)
def test_a_restart_goes_on_in_the_same_state_with_the_same_clocks(after, left):
    bench = Bench().says(exposed=P1, staged=P1)
    if after > ACT.confirm_s:
        bench.rolled_back()
    bench.step(after)
    other = reborn(bench)
    assert (other.engine.state, other.engine.layers, other.engine.stage) == (
        bench.engine.state, bench.engine.layers, bench.engine.stage,
    )  # fmt: skip
    assert other.engine.next_at - other.now == pytest.approx(left, abs=1.5)
    assert other.engine.since == pytest.approx(50.0 - (bench.now - bench.engine.since))
    assert other.step(left - 2) == []
    assert len(other.step(4)) == 1


def test_after_a_restart_a_confirmation_has_nothing_that_says_it_has_passed():
    """… and still says what it is about."""
    bench = Bench().says(exposed=P1)
    bench.step(1)
    other = reborn(bench)
    other.judge.over = True
    other.judge.says = {}
    (found,) = other.step(ACT.confirm_s)
    assert (found.to, found.reason) == ("ROLLED_BACK", "error_p1: 20 % of 500 requests, allowed 0.1 %")


def test_time_in_which_nothing_ran_counts_if_it_is_told():
    bench = Bench().rolled_back()
    raw = bench.engine.saved(bench.now)
    other = Bench(ACT, raw, now=50.0 - 1_000)
    other.now = 50.0
    assert [it.event for it in other.step()] == ["held"]


def test_a_mode_that_was_changed_meanwhile_takes_off_what_the_machine_laid_and_says_so():
    bench = Bench().rolled_back()
    raw = bench.engine.saved(bench.now)
    watch, off = replace(ACT, mode="watch"), replace(ACT, mode="off")
    engine = Bench(watch, raw).engine
    assert (engine.state, engine.applied) == ("ROLLED_BACK", True)
    assert [it.event for it in engine.reconfigure(watch, 1_000.0)] == ["switched"]
    assert engine.state == "NORMAL"
    bench.engine.start(bench.now, "ann", "bad")
    raw = bench.engine.saved(bench.now)
    engine = Bench(watch, raw).engine
    assert engine.reconfigure(watch, 1_000.0) == ()
    assert (engine.state, engine.applied) == ("ROLLED_BACK", True)
    assert [it.to for it in engine.reconfigure(off, 1_000.0)] == ["NORMAL"]


def test_a_mode_that_is_none_is_damage():
    raw = Bench().engine.saved(0.0) | {"mode": []}
    with pytest.raises(ValueError, match="mode cannot be"):
        Bench(ACT, raw)


def test_what_was_critical_before_a_restart_is_no_news_after_it():
    bench = Bench().says(exposed=GREEN)
    bench.world = World(criticals=(Critical("breaker_open", "cf", "open"),), settle_s=0)
    bench.until("ROLLED_BACK", 1)
    bench.until("RECOVERY_VERIFY", 400)
    assert reborn(bench).step(1) == []


def test_dwells_that_grow_are_remembered():
    bench = Bench().says(exposed=P2, staged=P2)
    bench.step()
    bench.says(staged=GREEN, exposed=GREEN)
    bench.until("NORMAL", 200)
    other = reborn(bench).says(exposed=P2)
    other.step()
    other.says(exposed=GREEN)
    assert other.until("NORMAL", 400) >= 2 * ACT.degraded_green_s


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"format": 2}, "format should be 1"),
        ({"state": "BROKEN"}, "state cannot be 'BROKEN'"),
        ({"state": ["NORMAL"]}, "state cannot be"),
        ({"state": "NORMAL"}, "does not go with"),
        ({"clock_s": "now"}, "clock_s cannot be 'now'"),
        ({"clock_s": float("nan")}, "clock_s cannot be 'nan'"),
        ({"state_s": None}, "state_s cannot be"),
        ({"green_s": True}, "green_s cannot be"),
        ({"requests": -1}, "requests cannot be"),
        ({"parts": [{"scope": {}, "stage": "2"}]}, "parts cannot be"),
        ({"parts": [{"scope": {"region": [], "cohort": [], "client": []}, "stage": "4"}]}, "parts cannot"),
        ({"parts": {}}, "parts cannot be"),
        ({"low": 10_001}, "low cannot be"),
        ({"share": 0}, "share cannot be"),
        ({"baseline": "nothing"}, "baseline cannot be"),
        ({"baseline": {}}, "baseline cannot be"),
        ({"target": {"region": ["eu"]}}, "target cannot be"),
        ({"why": 3}, "why cannot be"),
        ({"culprits": [1]}, "culprits cannot be"),
        ({"ordered": 1}, "ordered cannot be"),
        ({"known": [["breaker_open"]]}, "known cannot be"),
        ({"rollbacks_s": [1, "x"]}, "rollbacks_s cannot be"),
    ],
)
def test_damage_is_refused_and_named(damage, words):
    with pytest.raises(ValueError, match=words):
        restored(saved(FULL, 100.0) | damage, 100.0)


@pytest.mark.parametrize("name", saved(FULL, 100.0))
def test_nothing_may_be_missing(name):
    raw = saved(FULL, 100.0)
    del raw[name]
    with pytest.raises(ValueError, match=name):
        restored(raw, 100.0)
