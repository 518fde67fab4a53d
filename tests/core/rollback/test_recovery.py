"""The way back: holds, steps by bucket, who is judged, what fails it, who gets back however few they are."""

from dataclasses import replace
from itertools import pairwise

import pytest
from scripted import ACT, EU, GREEN, P1, P2, SHARED, SILENT, UNSURE, US, Bench, p1_in, states, verdict

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.engine import IllegalMove, World
from proxy.core.rollback.recovery import next_low
from proxy.core.rollback.verdicts import Critical, Judgement
from proxy.core.toggles import Scope

OPEN = Critical("breaker_open", "cf", "open")
STEPS = [100, 500, 2_500, 5_000, BUCKETS]


def recovering(settings=ACT, **says):
    bench = Bench(settings).rolled_back()
    bench.until("RECOVERY_VERIFY", 4_000)
    return bench.says(**says)


def test_it_is_held_then_let_out_step_by_step_and_normal_within_fifteen_minutes_of_green():
    bench = Bench().rolled_back()
    began = bench.now
    assert bench.until("RECOVERY_VERIFY", 400) == ACT.hold_s
    lows = [bench.engine.layers[0].low]
    while bench.engine.state == "RECOVERY_VERIFY":
        bench.step(1)
        if bench.engine.layers and bench.engine.layers[0].low != lows[-1]:
            lows.append(bench.engine.layers[0].low)
    assert lows == STEPS
    assert bench.engine.state == "NORMAL"
    assert bench.engine.layers == ()
    assert bench.now - began <= 15 * 60 + 5


def test_where_few_are_exposed_the_steps_are_parts_of_those():
    bench = Bench().rolled_back()
    bench.world = World(exposure=10.0)
    lows = []
    while bench.engine.state != "NORMAL":
        bench.step(1)
        lows += [it.low for it in bench.engine.layers if it.low not in lows]
    assert lows == [0, 10, 50, 250, 500, BUCKETS]
    bench = Bench().rolled_back()
    bench.world = World(exposure=0.0)
    bench.until("RECOVERY_VERIFY", 400)
    assert bench.engine.layers[0].low == 100


def test_each_step_is_judged_by_who_is_let_out_alone_and_anew():
    bench = recovering()
    assert set(bench.engine.judgements) == {"staged"}  # of the step that let the first out
    bench.step(1)
    assert set(bench.engine.judgements) == {"recovered"}
    bench.says(staged=P1)
    bench.step(ACT.recovery_step_s)
    assert [it[0] for it in bench.judge.restarts[-2:]] == ["recovered", "recovered"]
    assert bench.engine.layers[0].low == 500


def test_a_breach_of_who_is_let_out_goes_back_to_the_same_stage_and_holds_longer_each_time():
    bench = Bench().rolled_back()
    holds = []
    for _ in range(5):
        holds.append(bench.until("RECOVERY_VERIFY", 4_000))
        bench.says(recovered=P1)
        (found,) = bench.step()
        assert (found.event, found.stage, found.layers[0].low) == ("relapsed", "2", 0)
        assert found.causes
    assert holds == [300, 600, 1_200, 2_400, 3_600]


def test_a_p2_breach_or_one_that_control_shares_does_not_fail_a_step():
    for view in (P2, SHARED):
        bench = recovering(recovered=view)
        bench.step(ACT.recovery_step_s * 4 + 1)
        assert bench.engine.layers[0].low == 500


def test_few_requests_without_a_breach_get_back_though_nothing_is_green():
    bench = recovering(recovered=UNSURE)
    while bench.engine.state != "NORMAL":
        bench.came("recovered", 1)
        bench.step(10)
        assert bench.now < 6_000
    assert states(bench.moves[3:]) == ["RECOVERY_VERIFY"] * 5 + ["NORMAL"]


def test_it_says_when_a_step_may_be_over_next():
    bench = recovering(recovered=SILENT)
    told = []
    while bench.engine.layers[0].low < BUCKETS:
        if bench.engine.next_at not in told:
            told.append(bench.engine.next_at)
        bench.step(1)
    assert [later - at for at, later in pairwise(told[:4])] == [120, 240, 120]
    bench.step(500)
    assert bench.engine.next_at is None


def test_no_recovery_begins_while_the_next_stage_is_about_to_follow():
    bench = Bench(replace(ACT, hold_s=5, escalate_s=60)).says(exposed=P1, staged=P1)
    bench.until("ROLLED_BACK", 10)
    assert [it.stage for it in bench.step(200)] == ["3", "emergency", "emergency"]
    assert bench.engine.state == "RECOVERY_VERIFY"


def test_few_requests_that_went_wrong_let_nobody_else_out():
    """Ten of ten are no breach before `minimum_requests`, and a step that begins anew would forget them."""
    wrong = replace(verdict("inconclusive"), observed=1.0, n=10)
    bench = recovering(recovered=Judgement(verdicts=(wrong,)))
    bench.came("recovered", 10)
    assert bench.step(10 * ACT.recovery_step_s) == []
    bench.says(recovered=SILENT)  # they have left the window
    assert states(bench.step()) == ["RECOVERY_VERIFY"]


def test_the_last_step_never_ends_on_silence():
    bench = recovering(recovered=SILENT)
    bench.step(10_000)
    assert (bench.engine.state, bench.engine.layers[0].low) == ("RECOVERY_VERIFY", BUCKETS)


def test_the_last_step_waits_for_what_had_led_to_the_rollback():
    bench = recovering()
    bench.step(ACT.recovery_step_s * 4)
    assert bench.engine.layers[0].low == BUCKETS
    other = replace(verdict("ok"), trigger="coverage_p1")
    above = replace(verdict("inconclusive"), observed=0.002)
    bench.says(recovered=Judgement(verdicts=(other, above)))
    for _ in range(10):
        bench.came("recovered", 100)
        bench.step(ACT.recovery_step_s)
    assert bench.engine.state == "RECOVERY_VERIFY"
    bench.says(recovered=Judgement(verdicts=(other, replace(above, observed=0.0005))))
    assert states(bench.step()) == ["NORMAL"]


def test_a_breach_outside_the_scope_fails_the_recovery_and_widens():
    bench = Bench().says(exposed=p1_in(EU), staged=GREEN)
    bench.until("ROLLED_BACK", 10)
    bench.says(exposed=GREEN, recovered=GREEN)
    bench.until("RECOVERY_VERIFY", 400)
    bench.says(exposed=p1_in(US))
    moves = bench.step(1)
    assert [it.event for it in moves] == ["relapsed", "widened"]
    assert [it.scope for it in bench.engine.layers] == [Scope(region=("eu",)), Scope(region=("us",))]


def test_an_open_breaker_may_mend_while_the_first_are_let_out():
    """While nobody is asked it cannot: it closes on trial calls."""
    bench = Bench().says(exposed=GREEN, recovered=GREEN)
    bench.world = World(criticals=(OPEN,), settle_s=0)
    bench.until("ROLLED_BACK", 1)
    bench.until("RECOVERY_VERIFY", 400)
    bench.step(ACT.recovery_step_s)
    assert bench.engine.layers[0].low == 100
    bench.world = World()
    bench.until("NORMAL", 900)


def test_what_is_critical_and_does_not_mend_goes_back_and_holds_longer():
    bench = Bench().says(exposed=GREEN, recovered=GREEN)
    bench.world = World(criticals=(OPEN,))
    bench.until("ROLLED_BACK", 1)
    bench.until("RECOVERY_VERIFY", 400)
    bench.came("recovered", ACT.minimum_requests)
    assert bench.until("ROLLED_BACK", 300) == 2 * ACT.recovery_step_s
    assert bench.moves[-1].criticals == (OPEN,)
    assert bench.until("RECOVERY_VERIFY", 700) == 2 * ACT.hold_s


def test_an_open_breaker_that_nobody_asks_fails_no_recovery():
    """Of few users nobody may be in the first buckets; so the next ones try, until somebody has."""
    bench = Bench().says(exposed=GREEN, recovered=SILENT)
    bench.world = World(criticals=(OPEN,))
    bench.until("ROLLED_BACK", 1)
    bench.until("RECOVERY_VERIFY", 400)
    bench.came("recovered", ACT.minimum_requests - 1)
    assert states(bench.step(4 * 4 * ACT.recovery_step_s)) == ["RECOVERY_VERIFY"] * 4
    assert bench.engine.layers[0].low == BUCKETS
    assert bench.step(10_000) == []
    bench.came("recovered", ACT.minimum_requests)
    assert states(bench.step()) == ["ROLLED_BACK"]


def test_a_p2_breach_that_stays_does_not_keep_it_from_getting_back():
    """It is a matter of DEGRADED, which follows."""
    bench = recovering(recovered=P2, exposed=P2)
    while bench.engine.state == "RECOVERY_VERIFY":
        bench.came("recovered", ACT.minimum_requests)
        bench.step(2 * ACT.recovery_step_s)
        assert bench.now < 10_000
    bench.step(1)
    assert states(bench.moves[-2:]) == ["NORMAL", "DEGRADED"]


def test_what_fails_again_while_it_recovers_is_critical_at_once():
    bench = Bench().says(exposed=GREEN, recovered=GREEN)
    bench.world = World(criticals=(OPEN,))
    bench.until("ROLLED_BACK", 1)
    bench.until("RECOVERY_VERIFY", 400)
    bench.world = World()
    bench.step(1)
    bench.world = World(criticals=(OPEN,))
    (found,) = bench.step(1)
    assert (found.event, found.stage) == ("critical_failed", "emergency")


def test_so_many_rollbacks_within_an_hour_stay_until_released():
    bench = Bench()
    for _ in range(ACT.flaps):
        bench.rolled_back()
        if bench.engine.flapping:
            break
        bench.until("NORMAL", 1_000)
    assert len([it for it in bench.moves if it.event == "confirmed"]) == ACT.flaps
    assert bench.engine.next_at is None
    bench.tick = 60.0
    assert bench.step(20 * ACT.flaps_s) == []
    bench.tick = 1.0
    bench.engine.release(bench.now, "ann", "mended for good")
    bench.until("NORMAL", 1_000)
    bench.rolled_back()
    assert not bench.engine.flapping


def test_recoveries_that_fail_are_no_flaps():
    bench = Bench(replace(ACT, flaps=2)).rolled_back()
    for _ in range(3):
        bench.until("RECOVERY_VERIFY", 4_000)
        bench.says(recovered=P1)
        bench.step(1)
    assert not bench.engine.flapping


def test_after_a_failed_recovery_from_an_override_it_is_stage_2():
    bench = Bench().says(exposed=GREEN, staged=GREEN, recovered=P1)
    bench.engine.override(bench.now, "ann", "try it", "collaborative_only")
    bench.engine.release(bench.now, "ann", "enough")
    bench.step(1)
    assert (bench.engine.state, bench.engine.stage) == ("ROLLED_BACK", "2")


def test_nothing_is_released_that_does_not_lie_there_or_while_killed():
    bench = Bench()
    with pytest.raises(IllegalMove, match="released leads nowhere from NORMAL"):
        bench.engine.release(bench.now, "ann", "what?")
    bench.engine.start(bench.now, "ann", "bad")
    bench.world = World(killed=True)
    bench.step(1)
    with pytest.raises(IllegalMove, match="kill switch is not thrown"):
        bench.engine.release(bench.now, "ann", "go on")
    assert bench.engine.state == "ROLLED_BACK"


def test_what_is_known_of_the_traffic_goes_along_when_it_is_only_called_otherwise():
    bench = Bench().says(exposed=P2, staged=P2)
    bench.step()
    assert bench.judge.carried == [("exposed", "staged", bench.now)]
    bench.says(staged=GREEN, exposed=GREEN)
    bench.until("NORMAL", 200)
    assert bench.judge.carried[-1] == ("staged", "exposed", bench.now)
    bench.rolled_back()
    bench.says(recovered=GREEN)
    bench.until("NORMAL", 1_000)
    assert bench.judge.carried[-1] == ("recovered", "exposed", bench.now)


def test_confirmation_takes_twice_as_long_while_it_looks_better():
    bench = Bench().says(exposed=P1, staged=P1)
    bench.step()
    bench.judge.passing = True
    assert bench.until("ROLLED_BACK", 10) == 2 * ACT.confirm_s


def test_a_step_of_less_than_a_bucket_lets_out_one_and_not_all():
    settings = replace(ACT, recovery_steps=(0.001, 0.002, 100.0))
    assert next_low(0, settings) == 1
    assert next_low(1, settings) == BUCKETS
    assert next_low(0, ACT, exposure=0.2) == 1
