"""From trouble to rollback: which state, which layers, for whom, and why."""

from dataclasses import replace

import pytest
from scripted import ACT, EU, GREEN, P1, P2, SHARED, UNSURE, US, Bench, p1_in, states

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.engine import IllegalMove, World
from proxy.core.rollback.stages import TOGGLES
from proxy.core.rollback.verdicts import Critical
from proxy.core.toggles import BASELINES, Scope

OPEN = Critical("breaker_open", "cf", "open for 3 s")


def laid(bench):
    """Stage and scope of what lies there."""
    return [(patch.stage, patch.scope) for patch in bench.engine.layers]


def test_as_long_as_nothing_is_wrong_nothing_lies_over_the_toggles():
    bench = Bench().says(exposed=GREEN)
    assert bench.step(100) == []
    assert (bench.engine.state, bench.engine.layers, bench.judge.learning) == ("NORMAL", (), True)


def test_a_p1_breach_degrades_and_is_confirmed_before_it_rolls_back():
    bench = Bench().says(exposed=P1, staged=P1)
    moves = bench.step()
    assert states(moves) == ["DEGRADED", "ROLLBACK_PENDING"]
    assert laid(bench) == [("1", Scope())]
    assert bench.judge.awaited == [bench.now]
    assert not bench.judge.learning
    assert bench.engine.next_at == bench.now + ACT.confirm_s
    assert bench.until("ROLLED_BACK", 10) == ACT.confirm_s
    (patch,) = bench.engine.layers
    assert (patch.stage, patch.toggles, patch.low, patch.high) == ("2", TOGGLES["2"], 0, BUCKETS)
    assert patch.toggles["exposure_percent"] == 75  # of stage 1: stages are cumulative
    for it in bench.moves:
        assert [verdict.trigger for verdict in it.causes] == ["error_p1"]
        assert it.reason == "error_p1: 20 % of 500 requests, allowed 0.1 %"
        assert it.by == "fusebox"
    assert bench.moves[-1].was == moves[-1].layers != bench.moves[-1].layers


def test_a_p2_breach_degrades_and_no_more():
    bench = Bench().says(exposed=P2, staged=P2)
    assert states(bench.step(3600)) == ["DEGRADED"]


def test_a_p1_breach_that_control_shares_does_not_go_past_degraded():
    bench = Bench().says(exposed=SHARED, staged=SHARED)
    assert states(bench.step(600)) == ["DEGRADED"]
    bench.says(staged=P1)
    assert states(bench.step(10)) == ["ROLLBACK_PENDING", "ROLLED_BACK"]


def test_what_control_turns_out_to_share_is_not_rolled_back():
    """In the first second of an outage few requests of control have shown it."""
    bench = Bench().says(exposed=P1, staged=P1)
    bench.step(1)
    assert bench.engine.state == "ROLLBACK_PENDING"
    bench.says(exposed=SHARED, staged=SHARED)
    assert states(bench.step(600)) == ["DEGRADED"]


def test_a_spike_that_has_passed_is_not_rolled_back():
    bench = Bench().says(exposed=P1)
    bench.step()
    bench.judge.over = True
    bench.says(staged=GREEN, exposed=GREEN)
    assert states(bench.step(ACT.degraded_green_s + 2)) == ["DEGRADED", "NORMAL"]
    assert bench.engine.layers == ()


def test_evidence_begins_anew_with_a_rollback_and_again_when_what_was_under_way_has_ended():
    bench = Bench().says(exposed=P1, staged=P1)
    bench.world = World(settle_s=2.0)
    bench.step(4)
    came = [it for it in bench.judge.restarts if it[0] == "staged"]
    assert came == [("staged", 1003.0)]
    bench.step(2)
    assert bench.judge.restarts[-3:] == [(side, 1005.0) for side in ("exposed", "staged", "recovered")]


def test_what_was_under_way_neither_raises_a_stage_nor_widens_it():
    bench = Bench().says(exposed=p1_in(EU), staged=P1)
    bench.world = World(settle_s=50.0)
    bench.until("ROLLED_BACK", 10)
    bench.says(exposed=P1)
    assert bench.step(49) == []
    assert [it.event for it in bench.step(1)] == ["widened"]


def test_as_long_as_p1_goes_on_the_next_stage_follows():
    bench = Bench().says(exposed=P1, staged=P1)
    bench.step(3 + 2 * ACT.escalate_s)
    assert states(bench.moves) == ["DEGRADED", "ROLLBACK_PENDING", *["ROLLED_BACK"] * 3]
    assert [it.stage for it in bench.moves] == ["1", "1", "2", "3", "emergency"]
    gaps = [later.at - it.at for it, later in zip(bench.moves[2:], bench.moves[3:], strict=False)]
    assert gaps == [ACT.escalate_s, ACT.escalate_s]
    assert bench.engine.layers[0].toggles["kill_switch"]
    assert bench.step(200) == []


def test_p2_alone_does_not_raise_the_stage():
    bench = Bench().rolled_back().says(staged=P2)
    assert bench.step(ACT.hold_s - 1) == []


def test_the_segment_that_explains_it_is_taken_back_and_no_one_else():
    bench = Bench().says(exposed=p1_in(EU), staged=P1)
    bench.step(4)
    assert laid(bench) == [("2", Scope(region=("eu",)))]
    bench.says(exposed=GREEN, staged=GREEN)
    assert set(bench.engine.judgements) == {"staged", "exposed"}


def test_a_segment_that_toggles_cannot_name_means_all():
    bench = Bench().says(exposed=p1_in(EU._replace(dimension="route", value="recommendations")), staged=P1)
    bench.step(4)
    assert laid(bench) == [("2", Scope())]


def test_a_second_breach_outside_widens_and_one_inside_does_not():
    bench = Bench().says(exposed=p1_in(EU), staged=GREEN)
    bench.step(4)
    bench.says(exposed=p1_in(EU))  # late ones, of before
    assert bench.step(4) == []
    bench.says(exposed=p1_in(US))
    (widened,) = bench.step()
    assert widened.event == "widened"
    assert laid(bench) == [("2", Scope(region=("eu",))), ("2", Scope(region=("us",)))]
    bench.says(exposed=P1)
    bench.step()
    assert laid(bench) == [("2", Scope())]
    assert set(bench.engine.judgements) == {"exposed", "staged"}
    bench.step(1)
    assert set(bench.engine.judgements) == {"staged"}


def test_only_the_segment_that_goes_on_is_raised():
    bench = Bench().rolled_back().says(staged=p1_in(EU))
    bench.step(ACT.escalate_s)
    assert laid(bench) == [("3", Scope(region=("eu",))), ("2", Scope())]


def test_what_is_critical_goes_straight_to_emergency():
    bench = Bench().says(exposed=GREEN)
    bench.step(10)
    bench.world = World(criticals=(OPEN,))
    (found,) = bench.step()
    assert (found.to, found.stage, found.criticals) == ("ROLLED_BACK", "emergency", (OPEN,))
    assert found.reason == "breaker_open cf: open for 3 s"
    assert bench.engine.layers[0].toggles == TOGGLES["emergency"]
    assert bench.step(ACT.hold_s - 1) == []


def test_every_state_but_an_override_heeds_what_is_critical():
    for lead in (["warned"], ["warned", "pending"], ["rolled back"], ["rolled back", "released"]):
        bench = Bench().says(exposed=P2 if lead == ["warned"] else P1, staged=P1 if "pending" in lead else P2)
        bench.step()
        if "rolled back" in lead:
            bench.rolled_back()
        if "released" in lead:
            bench.engine.release(bench.now, "ann", "mended")
        bench.world = World(criticals=(OPEN,))
        bench.step(1)
        assert bench.engine.stage == "emergency", lead
    bench.engine.override(bench.now, "ann", "we know", "content_only")
    assert bench.step(1000) == []
    assert bench.engine.stage == "content_only"


def test_while_killed_by_hand_nothing_is_judged_and_no_clock_runs():
    bench = Bench().says(exposed=P1, staged=P1)
    bench.step(1)
    bench.world = replace(bench.world, killed=True)
    assert bench.step(10_000) == []
    with pytest.raises(IllegalMove, match="leads nowhere from ROLLBACK_PENDING"):
        bench.engine.release(bench.now, "ann", "on")
    bench.world = World(settle_s=0)
    bench.step(1)
    assert bench.engine.state == "ROLLBACK_PENDING"
    assert {side for side, at in bench.judge.restarts if at > 11_000} == {"staged", "exposed", "recovered"}
    bench.step(2)
    assert bench.engine.state == "ROLLED_BACK"


def test_what_a_kill_made_it_forget_is_not_told_as_over():
    bench = Bench().says(exposed=P1)
    bench.step(1)
    bench.world = replace(bench.world, killed=True)
    bench.step(10)
    bench.world = World(settle_s=0)
    bench.judge.over = True
    found = bench.step(1)[0]
    assert (found.event, found.to) == ("passed", "DEGRADED")
    assert found.reason == "killed in the meantime: what led here has to show again"
    bench = Bench().says(exposed=P1)
    bench.step(1)
    bench.judge.over = True
    assert bench.step(1)[0].reason.startswith("what came since says that it has passed")


def test_a_watching_machine_tells_what_it_would_do_and_lays_nothing():
    bench = Bench(replace(ACT, mode="watch")).says(exposed=P1)
    bench.step(3)
    assert states(bench.moves) == ["DEGRADED", "ROLLBACK_PENDING", "ROLLED_BACK"]
    assert not bench.engine.applied
    bench.step(ACT.hold_s - 10)
    assert bench.engine.stage == "2"  # it never sees a stage at work, so it raises none
    bench.says(exposed=GREEN)
    bench.until("NORMAL", 1000)
    assert bench.engine.next_at is None


def test_off_judges_nothing_and_takes_no_orders():
    bench = Bench(replace(ACT, mode="off")).says(exposed=P1)
    assert bench.step(100) == []
    with pytest.raises(IllegalMove, match="off"):
        bench.engine.start(bench.now, "ann", "why not")


def test_a_change_of_mode_takes_off_what_the_machine_has_laid_by_itself():
    for mode in ("watch", "off"):
        bench = Bench().rolled_back()
        (found,) = bench.engine.reconfigure(replace(ACT, mode=mode), bench.now)
        assert (found.to, found.layers, found.reason) == ("NORMAL", (), f'[rollback] mode is "{mode}"')
    bench = Bench()
    bench.engine.start(bench.now, "ann", "by hand")
    assert bench.engine.reconfigure(replace(ACT, mode="watch"), bench.now) == ()
    assert bench.engine.applied
    assert bench.engine.reconfigure(replace(ACT, mode="watch", hold_s=1), bench.now) == ()


def test_by_hand_it_rolls_back_from_anywhere_and_stays_until_released():
    bench = Bench().says(exposed=GREEN, staged=GREEN, recovered=GREEN)
    scope = Scope(region=("eu",))
    (found,) = bench.engine.start(bench.now, "ann", "complaints", "3", scope)
    assert (found.by, found.reason, found.stage) == ("ann", "complaints", "3")
    assert laid(bench) == [("3", scope)]
    assert bench.step(100_000) == []
    assert (bench.engine.pinned, bench.engine.next_at) == (True, None)
    bench.engine.release(bench.now, "bob", "mended")
    assert bench.engine.state == "RECOVERY_VERIFY"
    bench.until("NORMAL", 900)


def test_by_hand_no_lower_stage_takes_the_place_of_a_higher_one():
    bench = Bench()
    bench.engine.start(bench.now, "ann", "bad", "3")
    with pytest.raises(IllegalMove, match="opens nothing"):
        bench.engine.start(bench.now, "ann", "less", "2")
    with pytest.raises(IllegalMove, match="opens nothing"):
        bench.engine.start(bench.now, "ann", "less", "2", Scope(region=("eu",)))
    assert bench.engine.stage == "3"
    bench.engine.start(bench.now, "ann", "worse", "emergency", Scope(region=("eu",)))
    assert laid(bench) == [("emergency", Scope(region=("eu",))), ("3", Scope())]


def test_a_trial_tells_what_would_lie_there_and_changes_nothing():
    bench = Bench()
    (found,) = bench.engine.start(bench.now, "ann", "what if", dry_run=True)
    assert [patch.stage for patch in found.layers] == ["2"]
    assert (bench.engine.state, bench.engine.layers, bench.judge.restarts) == ("NORMAL", (), [])


def test_an_override_holds_its_baseline_as_it_stands_while_triggers_are_judged_and_shown():
    bench = Bench().rolled_back()
    (found,) = bench.engine.override(bench.now, "ann", "I know better", "collaborative_only")
    (patch,) = bench.engine.layers
    assert (patch.stage, patch.exact, patch.toggles) == (
        "collaborative_only", True, BASELINES["collaborative_only"],
    )  # fmt: skip
    assert (found.to, found.stage) == ("MANUAL_OVERRIDE", "collaborative_only")
    bench.says(staged=P1, exposed=P1)
    assert bench.step(10_000) == []
    assert bench.engine.judgement.breaches("P1")
    bench.engine.release(bench.now, "ann", "enough")
    (patch,) = bench.engine.layers
    assert (bench.engine.state, patch.stage, patch.low) == ("RECOVERY_VERIFY", "collaborative_only", 100)


def test_no_baseline_of_that_name_is_said_with_those_there_are():
    with pytest.raises(IllegalMove, match="no baseline 'nothing'; there are: emergency"):
        Bench().engine.override(0.0, "ann", "x", "nothing")


def test_a_normal_override_names_toggles_and_no_scopes():
    bench = Bench()
    bench.engine.override(bench.now, "ann", "off with it", "normal")
    assert not [name for name in bench.engine.layers[0].toggles if name.endswith("_scope")]


def test_degraded_goes_back_after_lasting_green_and_not_for_a_moment_of_it():
    bench = Bench().says(exposed=P2, staged=P2)
    bench.step()
    bench.says(staged=GREEN)
    bench.step(ACT.degraded_green_s - 10)
    bench.says(staged=P2)
    bench.step(1)
    bench.says(staged=GREEN, exposed=GREEN)
    assert ACT.degraded_green_s <= bench.until("NORMAL", 200) <= ACT.degraded_green_s + 2


def test_what_degrades_again_and_again_stays_longer_each_time():
    bench = Bench()
    took = []
    for _ in range(3):
        bench.says(exposed=P2, staged=P2)
        bench.until("DEGRADED", 2)
        bench.says(exposed=GREEN, staged=GREEN)
        took.append(round(bench.until("NORMAL", 1000) / ACT.degraded_green_s))
    assert took == [1, 2, 4]


def test_degraded_goes_back_without_green_where_few_requests_show_no_breach():
    bench = Bench().says(exposed=P2, staged=UNSURE)
    bench.step()
    bench.says(exposed=UNSURE)
    bench.step(3 * ACT.degraded_green_s)
    assert bench.engine.state == "DEGRADED"
    bench.came("staged", ACT.minimum_requests)
    assert states(bench.step()) == ["NORMAL"]
