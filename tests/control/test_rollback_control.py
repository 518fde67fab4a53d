"""The rollback in force: what the engine asks for, put on, remembered and told in the right order."""

from dataclasses import replace

import pytest
from rolling import Bench

from proxy.control.rollback_memory import remembered
from proxy.control.rollback_orders import Order
from proxy.core.rollback.engine import IllegalMove
from proxy.core.toggles import Scope


@pytest.fixture
async def bench(tmp_path):
    return await Bench(tmp_path).begin()


async def test_a_source_that_fails_is_rolled_back_and_everything_is_told(bench):
    heard = []
    bench.control.heard = heard.append
    await bench.run(30)
    assert (bench.state, bench.stages) == ("NORMAL", [])
    assert await bench.run(30, failed=1.0, until="ROLLED_BACK")
    assert bench.stages == ["2"]
    await bench.control._keeper.settled(2)
    moves = [(it.before, it.to) for it in heard]
    assert (moves[0], moves[-1]) == (("NORMAL", "DEGRADED"), ("ROLLBACK_PENDING", "ROLLED_BACK"))
    assert bench.control.transitions.total() == len(moves)
    assert [it.action for it in bench.trail.entries] == ["rollback.transition"] * len(moves)
    entry = bench.trail.entries[-1]
    assert (entry.actor, entry.target, entry.before["state"]) == (
        "fusebox",
        "ROLLED_BACK",
        "ROLLBACK_PENDING",
    )
    assert entry.before["layers"] == "stage 1 for everybody"
    assert entry.after["layers"].startswith("stage 2 for everybody")
    assert bench.trail.entries[0].before["toggles"].startswith("exposure_percent=100.0")
    assert bench.trail.entries[0].after["toggles"] == 'exposure_percent=75 cache_mode="prewarm" for everybody'
    assert "disable_cf=true" in entry.after["toggles"]
    assert "error_p1" in bench.trail.entries[0].after["triggers"]


async def test_whose_toggles_change_stands_in_the_audit_log(bench):
    await by_hand(bench, "start", stage="3", scope=Scope(region=("eu",)))
    await by_hand(bench, "release")
    await bench.control._keeper.settled(2)
    order, released = bench.trail.entries
    assert "disable_cf=true" in order.after["toggles"]
    assert order.after["toggles"].endswith(" for region=eu")
    assert "disable_cf=false" in released.after["toggles"]
    assert released.after["toggles"].endswith(" for region=eu in buckets 0 to 99")


async def rolled_back(bench):
    assert await bench.run(30, failed=1.0, until="ROLLED_BACK")
    return bench.control.engine


async def test_what_closes_is_in_force_before_it_is_saved_and_what_opens_after(bench):
    await bench.run(5)
    bench.log.clear()
    await bench.control.carry_out(Order(action="start"), reason="test", by="ann")
    assert bench.log == ["laid", "saved"]
    bench.log.clear()
    await bench.control.carry_out(Order(action="release"), reason="test", by="ann")
    assert bench.log == ["saved", "laid"]


@pytest.mark.parametrize("action", ["start", "override", "release"])
async def test_a_disk_that_is_full_holds_nothing_up_and_is_told_until_it_is_mended(bench, action):
    if action == "release":
        await bench.control.carry_out(Order(action="start"), reason="test", by="ann")
    bench.file.full = "no room"
    await bench.control.carry_out(Order(action=action, baseline="degraded"), reason="test", by="ann")
    assert bench.plane.policy.layers == bench.control.engine.layers
    assert not bench.control.persisted
    assert bench.control.troubles() == ["a restart would forget the state of the rollback: no room"]
    bench.file.full = ""
    await bench.run(6)
    assert bench.control.persisted
    assert bench.control.troubles() == []


async def by_hand(bench, action, **how):
    await bench.control.carry_out(Order(action=action, **how), reason="test", by="ann")


async def degraded(bench):
    await bench.run(5)
    assert await bench.run(120, unfilled=0.04, until="DEGRADED")


async def pending(bench):
    assert await bench.run(30, failed=1.0, until="ROLLBACK_PENDING")


async def recovering(bench):
    await by_hand(bench, "start")
    await by_hand(bench, "release")


STATES = {
    "NORMAL": lambda bench: bench.run(5),
    "DEGRADED": degraded,
    "ROLLBACK_PENDING": pending,
    "ROLLED_BACK": rolled_back,
    "RECOVERY_VERIFY": recovering,
    "MANUAL_OVERRIDE": lambda bench: by_hand(bench, "override", baseline="degraded"),
}


@pytest.mark.parametrize("state", STATES)
async def test_killed_in_any_state_a_restart_goes_on_in_it_with_its_clocks(bench, state):
    """Its layers are in force before anything is stepped; time goes on while nothing runs."""
    await STATES[state](bench)
    assert bench.state == state
    await bench.run(1, per_s=0)
    before = bench.control.engine
    layers, moves = bench.plane.policy.layers, list(bench.control.moves)
    age = bench.now - before.since
    wait = None if before.next_at is None else before.next_at - bench.now
    await bench.again(after_s=1.5)
    after = bench.control.engine
    assert (bench.state, bench.plane.policy.layers) == (state, layers)
    if state != "NORMAL":
        assert bench.now - after.since == pytest.approx(age + 1.5)
    if wait is not None:
        assert after.next_at - bench.now == pytest.approx(wait - 1.5)
    assert list(bench.control.moves) == moves
    assert bench.control.persisted


async def test_a_gap_in_which_the_hold_ended_leads_on_at_the_first_step(bench):
    await rolled_back(bench)
    await bench.again(after_s=10_000)
    assert bench.state == "ROLLED_BACK"
    await bench.run(0.25)
    assert bench.state == "RECOVERY_VERIFY"
    assert bench.plane.policy.layers[0].low > 0


async def test_a_wall_clock_that_went_back_takes_no_time_away(bench):
    await rolled_back(bench)
    bench.wall -= 86_400
    await bench.again()
    assert 0 <= bench.now - bench.control.engine.since < 1


async def test_of_a_damaged_file_the_one_before_holds_and_is_told(bench):
    await by_hand(bench, "start", stage="1")
    await by_hand(bench, "start", stage="3")
    bench.path.write_bytes(b"\x00" * 100)
    await bench.again()
    assert (bench.state, bench.stages) == ("ROLLED_BACK", ["1"])
    (trouble,) = bench.control.troubles()
    assert "rollback.json cannot be used" in trouble
    assert bench.file.load(remembered).trouble == "", "and it is sound again"


@pytest.mark.parametrize("mode", ["act", "watch"])
async def test_a_state_that_nobody_can_tell_is_stage_two_until_somebody_releases_it(tmp_path, mode):
    bench = await Bench(tmp_path, mode=mode).begin()
    await by_hand(bench, "start", stage="1")
    bench.path.write_bytes(b"{}")
    bench.path.with_name("rollback.json.before").write_bytes(b"nonsense")
    await bench.again()
    assert (bench.state, {*bench.stages}) == ("ROLLED_BACK", {"2"})
    move = bench.control.moves[0]
    assert move.by == "fusebox"
    assert "nobody can tell what the rollback had in force" in move.reason
    assert "nobody can tell" in bench.control.troubles()[0]
    await bench.again(after_s=100_000)
    await bench.run(1)
    assert bench.state == "ROLLED_BACK", "not by itself"
    await by_hand(bench, "release")
    assert bench.state == "RECOVERY_VERIFY"


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"at": 1, "engine": {}, "moves": []}', b'{"at": "x", "engine": {}, "moves": [{}]}'],
)
async def test_a_sound_file_that_makes_no_sense_is_a_damaged_one(bench, content):
    bench.file.save(content)
    bench.file.save(content)
    await bench.again()
    assert bench.state == "ROLLED_BACK"


async def test_watched_it_tells_what_it_would_do_and_changes_nothing(tmp_path):
    bench = await Bench(tmp_path, mode="watch").begin()
    await bench.run(5)
    assert await bench.run(30, failed=1.0, side="exposed", until="ROLLED_BACK")
    assert bench.plane.applied == []
    assert bench.control.engine.layers
    assert not any(it.applied for it in bench.control.moves)
    await bench.again()
    assert (bench.state, bench.stages) == ("ROLLED_BACK", [])


async def test_what_a_person_orders_is_in_force_in_watch_too_and_after_a_restart(tmp_path):
    bench = await Bench(tmp_path, mode="watch").begin()
    await by_hand(bench, "start", stage="3")
    assert bench.stages == ["3"]
    assert bench.control.moves[0].applied
    await bench.again()
    assert bench.stages == ["3"]


async def test_a_reload_goes_on_in_the_state_there_is_and_off_takes_everything_off(bench):
    await rolled_back(bench)
    layers = bench.plane.policy.layers

    async def reload(**changed):
        settings = replace(bench.control.engine.settings, **changed)
        bench.layering.apply(replace(bench.layering.policy, rollback=settings))
        await bench.control.tick()

    await reload(hold_s=7_000.0)
    assert (bench.state, bench.plane.policy.layers) == ("ROLLED_BACK", layers)
    assert bench.control.engine.next_at - bench.now == pytest.approx(7_000, abs=5)
    await reload(false_alarm_days=10.0)
    assert (bench.state, bench.plane.policy.layers) == ("ROLLED_BACK", layers)
    await reload(mode="watch")
    assert (bench.state, bench.plane.policy.layers) == ("NORMAL", ())
    await reload(mode="act")
    await by_hand(bench, "start")
    assert {*bench.stages} == {"2"}
    await reload(mode="off")
    assert (bench.state, bench.plane.policy.layers) == ("NORMAL", ())
    assert (bench.control.moves[0].event, bench.control.moves[0].applied) == ("switched", True)
    with pytest.raises(IllegalMove, match="off"):
        await by_hand(bench, "start")
    await bench.again()
    assert bench.state == "NORMAL"


async def test_what_was_in_force_before_it_was_off_does_not_come_back_with_it(bench):
    await rolled_back(bench)
    act = bench.settings
    bench.settings = replace(act, mode="off")
    await bench.again()
    assert (bench.state, bench.stages) == ("NORMAL", [])
    assert (bench.control.moves[0].event, bench.control.moves[0].now) == ("switched", "nothing")
    bench.settings = act
    await bench.again()
    assert (bench.state, bench.stages) == ("NORMAL", [])


async def test_an_emergency_says_what_ends_it_wherever_the_kill_switch_is_shown(bench):
    assert bench.control.kills() == ""
    await by_hand(bench, "start", stage="emergency")
    assert "fusebox rollback release" in bench.control.kills()
    assert "test" in bench.control.kills()


async def test_what_the_operator_may_not_do_changes_nothing_and_says_why(bench):
    with pytest.raises(IllegalMove, match="released leads nowhere from NORMAL"):
        await by_hand(bench, "release")
    assert (bench.state, list(bench.control.moves), bench.plane.applied) == ("NORMAL", [], [])


async def test_a_trial_changes_nothing(bench):
    before = bench.control.engine.saved(bench.now)
    bench.log.clear()
    (move,) = bench.control.foresee(Order(action="start", stage="3"))
    assert (move.to, move.stage) == ("ROLLED_BACK", "3")
    assert bench.control.engine.saved(bench.now) == before
    assert (bench.plane.applied, bench.log) == ([], [])


async def test_an_audit_log_that_takes_nothing_holds_nothing_up(bench, caplog):
    bench.trail.full = "the spool is full"
    await by_hand(bench, "start")
    await bench.control._keeper.settled(2)
    assert {*bench.stages} == {"2"}
    assert "rollback.transition is not in the audit log: the spool is full" in caplog.text


async def test_what_cannot_be_put_in_force_is_told_and_tried_again(bench):
    apply = bench.plane.apply

    def refuse(policy):
        raise ValueError("not now")

    bench.plane.apply = refuse
    with pytest.raises(ValueError, match="not now"):
        await by_hand(bench, "start")
    assert bench.control.troubles()
    bench.plane.apply = apply
    await bench.run(0.25)
    assert {*bench.stages} == {"2"}
    assert bench.control.troubles() == []
