"""Changes with a time limit return by themselves, whatever happens meanwhile."""

import asyncio
from dataclasses import replace

import pytest
from toggling import Rig, policy

from proxy.control.toggle_plans import TogglesRefused
from proxy.core.policy import Sources
from proxy.core.toggles import Toggles


@pytest.fixture
async def rig(tmp_path):
    made = Rig(tmp_path)
    async with made.started():
        yield made


async def later(rig, seconds):
    rig.pass_time(seconds)
    await rig.turn()


async def test_it_returns_when_its_time_is_over_and_not_before(rig):
    now = await rig.patch(ttl_s=60, exposure_percent=50)
    assert [(it.version, it.names) for it in now.reverts] == [(2, ("exposure_percent",))]
    await later(rig, 59.9)
    assert rig.toggles.exposure_percent == 50
    await later(rig, 0.1)
    assert (rig.toggles.exposure_percent, rig.control.read().reverts) == (100, ())
    assert [(it.kind, it.by) for it in rig.rows()][1:] == [("patch", "ann"), ("expired", "fusebox")]
    assert [it.action for it in rig.trail.entries] == ["toggles.expired"]
    assert "version 2" in rig.control.read().metadata["reason"]


async def test_only_what_the_change_named_returns(rig):
    await rig.patch(ttl_s=60, exposure_percent=50)
    await rig.patch(alpha_override=0.3)
    await rig.flags(billing=False)
    await later(rig, 60)
    assert (rig.toggles.exposure_percent, rig.toggles.alpha_override) == (100, 0.3)
    assert rig.toggles.flags == {"billing": False}


async def test_what_was_changed_for_good_meanwhile_stays_even_if_to_the_same(rig):
    await rig.patch(ttl_s=60, exposure_percent=50, alpha_override=0.3)
    await rig.patch(exposure_percent=50)
    await later(rig, 60)
    assert (rig.toggles.exposure_percent, rig.toggles.alpha_override) == (50, None)


@pytest.mark.parametrize(("first", "second"), [(100, 50), (50, 100)])
async def test_one_over_the_other_each_returns_to_what_is_below(rig, first, second):
    await rig.patch(ttl_s=first, exposure_percent=50, alpha_override=0.1)
    await rig.patch(ttl_s=second, exposure_percent=20)
    await later(rig, 50)
    assert (rig.toggles.exposure_percent, rig.toggles.alpha_override) == (
        (50, 0.1) if second < first else (20, None)
    )
    await later(rig, 50)
    assert (rig.toggles.exposure_percent, rig.toggles.alpha_override) == (100, None)


async def test_asked_for_again_and_again_it_is_one_that_ends_with_the_last(rig):
    for _ in range(30):
        await rig.patch(ttl_s=60, exposure_percent=50)
        await later(rig, 30)
    assert len(rig.control.read().reverts) == 1
    await later(rig, 30)
    assert rig.toggles.exposure_percent == 100


async def test_there_is_a_limit_to_how_many_are_under_way(rig):
    for at in range(20):
        await rig.patch(ttl_s=100 - at, exposure_percent=at)
    with pytest.raises(TogglesRefused, match="20 changes with a time limit"):
        await rig.patch(ttl_s=1, exposure_percent=99)
    await later(rig, 100)
    assert rig.toggles.exposure_percent == 100


async def test_rules_flags_and_baselines_return_too(rig):
    rules = [{"scope": {"region": ["eu"]}, "toggles": {"disable_cf": True}}]
    await rig.patch(ttl_s=60, rules=rules)
    await rig.flags(ttl_s=60, billing=False)
    await rig.baseline("degraded", ttl_s=60)
    await later(rig, 60)
    assert rig.control.read().baseline == "normal"
    assert (rig.toggles.rules, rig.toggles.flags) == ((), {"billing": True})


async def test_a_revert_ends_all_of_them(rig):
    await rig.patch(ttl_s=60, exposure_percent=50)
    await rig.change(await rig.control.revert_to(2))
    await later(rig, 60)
    assert rig.toggles.exposure_percent == 50


async def test_over_a_restart_the_rest_of_its_time_runs_and_what_ended_meanwhile_returns_at_once(tmp_path):
    rig = Rig(tmp_path)
    async with rig.started():
        await rig.patch(ttl_s=60, exposure_percent=50)
        await rig.patch(ttl_s=100, alpha_override=0.3)
    rig.wall.now += 70
    rig.monotonic.now = 5.0
    rig.made().restore()
    await rig.control._state.begin()
    await rig.control._returns.expire()
    assert (rig.toggles.exposure_percent, rig.toggles.alpha_override) == (100, 0.3)
    rig.monotonic.now += 30
    await rig.turn()
    assert rig.toggles.alpha_override is None


async def test_a_wall_clock_that_jumps_moves_nothing(rig):
    await rig.patch(ttl_s=60, exposure_percent=50)
    await rig.turn()
    rig.wall.now += 10_000
    await rig.turn()
    assert rig.toggles.exposure_percent == 50
    rig.wall.now -= 20_000
    rig.monotonic.now += 60
    await rig.turn()
    assert rig.toggles.exposure_percent == 100


async def test_a_wall_clock_that_was_set_back_while_it_was_down_makes_it_last_no_longer_than_asked(tmp_path):
    rig = Rig(tmp_path)
    async with rig.started():
        await rig.patch(ttl_s=60, exposure_percent=50)
    rig.wall.now -= 1e6
    async with rig.started():
        assert rig.toggles.exposure_percent == 50
        rig.monotonic.now += 60
        await rig.turn()
        assert rig.toggles.exposure_percent == 100


async def test_without_the_store_it_returns_all_the_same(rig):
    await rig.patch(ttl_s=60, exposure_percent=50)
    rig.journal.trouble = "gone"
    await later(rig, 60)
    assert rig.toggles.exposure_percent == 100
    rig.journal.trouble = ""
    await rig.turn()
    assert rig.rows()[-1].kind == "expired"


async def test_what_would_contradict_a_return_is_refused_beforehand(rig):
    await rig.patch(policy_mode="collab_only")
    await rig.patch(ttl_s=60, policy_mode="content_only")
    with pytest.raises(TogglesRefused, match=r"forbids that, once the change of version 3 is over at 2026"):
        await rig.patch(disable_cf=True)
    await rig.patch(disable_cf=True, policy_mode="content_only")
    await later(rig, 60)
    assert rig.toggles.disable_cf is True


async def test_a_route_that_is_gone_keeps_nothing_from_returning_and_no_other_change_from_happening(rig):
    await rig.patch(exposure_percent=50)
    await rig.flags(ttl_s=60, billing=False)
    await rig.control.reload(policy(flag="other"))
    await rig.patch(exposure_percent=10)
    await later(rig, 60)
    assert (rig.control.flags["billing"], rig.control.reverts) == (True, ())
    await rig.control.reload(policy())
    await rig.flags(billing=False)
    await rig.control.reload(policy(flag="other"))
    await rig.change(await rig.control.revert_to(2))
    assert (rig.toggles.exposure_percent, rig.control.flags["billing"]) == (50, True)


async def test_a_source_that_is_gone_keeps_nothing_from_returning_and_is_told_as_trouble(rig):
    await rig.patch(policy_mode="content_only")
    await rig.patch(ttl_s=60, policy_mode="collab_only")
    await rig.control.reload(policy(sources=Sources(cf="cf")))
    await rig.patch(exposure_percent=10)
    assert list(rig.control.troubles()) == []
    await later(rig, 60)
    assert rig.toggles.policy_mode == "content_only"
    [told] = rig.control.troubles()
    assert told.startswith("toggles.policy_mode: content_only asks content, and no route has that source")
    await rig.control.reload(policy())
    assert list(rig.control.troubles()) == []


class TestKill:
    async def test_it_returns_to_released_and_to_thrown(self, rig):
        await rig.patch(ttl_s=60, kill_switch=True)
        assert rig.toggles.kill_switch is True
        await later(rig, 60)
        assert rig.toggles.kill_switch is False
        assert rig.kill.status.by == "fusebox"
        await rig.kill.set(True, reason="r", by="ann")
        await rig.patch(ttl_s=60, kill_switch=False, exposure_percent=5)
        assert rig.toggles.kill_switch is False
        await later(rig, 60)
        assert (rig.toggles.kill_switch, rig.toggles.exposure_percent) == (True, 100)

    async def test_thrown_again_by_a_person_it_stays(self, rig):
        await rig.patch(ttl_s=60, kill_switch=True, exposure_percent=50)
        await rig.kill.set(True, reason="stay", by="bob")
        await later(rig, 60)
        assert (rig.toggles.kill_switch, rig.toggles.exposure_percent) == (True, 100)

    async def test_a_release_that_a_restart_would_not_know_of_is_tried_again(self, rig):
        await rig.patch(ttl_s=60, kill_switch=True)
        rig.kill_file.unlink()
        rig.kill_file.mkdir()
        await later(rig, 60)
        assert rig.toggles.kill_switch is True
        rig.kill_file.rmdir()
        await later(rig, 10)
        assert rig.toggles.kill_switch is True
        await later(rig, 30)
        assert rig.toggles.kill_switch is False
        assert rig.control.read().reverts == ()


class TestReload:
    async def test_settings_are_taken_over_and_toggles_stay(self, rig):
        await rig.patch(exposure_percent=50)
        new = replace(policy(Toggles(exposure_percent=7, version=50)), access_log_sample=1.0)
        await rig.control.reload(new)
        assert (rig.plane.policy.access_log_sample, rig.toggles.exposure_percent) == (1.0, 50)
        assert rig.toggles.version == 3

    async def test_a_changed_toggles_file_is_told_with_the_way(self, rig, caplog):
        await rig.control.reload(policy(Toggles(exposure_percent=7)))
        assert "PATCH /v1/toggles or `fusebox toggles set`" in caplog.text
        caplog.clear()
        await rig.control.reload(policy(Toggles(exposure_percent=7)))
        assert "toggles file" not in caplog.text

    async def test_a_kill_switch_newly_on_is_thrown_and_never_released_by_a_file(self, rig):
        await rig.control.reload(policy(Toggles(kill_switch=True)))
        assert (rig.toggles.kill_switch, rig.kill.status.by) == (True, "toggles file")
        await rig.control.reload(policy(Toggles(kill_switch=False)))
        assert rig.toggles.kill_switch is True
        await rig.kill.set(False, reason="r", by="ann")
        await rig.control.reload(policy(Toggles(kill_switch=False)))
        assert rig.toggles.kill_switch is False

    async def test_what_is_refused_changes_nothing_and_is_still_news(self, rig, monkeypatch):
        await rig.patch(exposure_percent=50)

        def refuse(policy):
            raise LookupError("no certificate")

        with monkeypatch.context() as patched:
            patched.setattr(rig.plane, "apply", refuse)
            with pytest.raises(LookupError):
                await rig.control.reload(policy(Toggles(kill_switch=True)))
        assert (rig.toggles.version, rig.toggles.kill_switch) == (2, False)
        assert rig.control.read().metadata["version"] == 2
        await rig.control.reload(policy(Toggles(kill_switch=True)))
        assert rig.toggles.kill_switch is True

    async def test_a_flag_stays_off_though_its_route_goes_and_comes_back(self, rig):
        await rig.flags(billing=False)
        await rig.control.reload(policy(flag=""))
        assert rig.control.flags == {"billing": False}
        await rig.patch(exposure_percent=50)
        await rig.control.reload(policy())
        assert rig.toggles.flags == {"billing": False}

    async def test_a_mode_whose_source_a_reload_removed_holds_nobody_up(self, rig):
        await rig.patch(policy_mode="collab_only")
        await rig.control.reload(policy(sources=Sources(content="content")))
        await rig.patch(exposure_percent=50)
        with pytest.raises(TogglesRefused, match="no route has that source"):
            await rig.patch(rules=[{"scope": {"region": ["eu"]}, "toggles": {"policy_mode": "collab_only"}}])

    async def test_whoever_throws_it_while_its_return_is_being_recorded_has_the_last_word(self, rig):
        await rig.patch(ttl_s=60, kill_switch=True, exposure_percent=20)
        rig.trail.note = in_between(rig, rig.trail.note)
        await later(rig, 60)
        assert (rig.toggles.kill_switch, rig.toggles.exposure_percent) == (True, 100)
        assert rig.control.reverts == ()

    async def test_whoever_throws_it_while_it_is_being_released_has_the_last_word(self, rig):
        await rig.patch(ttl_s=60, kill_switch=True)
        rig.kill._store.save = in_between(rig, rig.kill._store.save)
        await later(rig, 60)
        assert (rig.toggles.kill_switch, rig.control.reverts) == (True, ())
        await later(rig, 60)
        assert rig.toggles.kill_switch is True


def in_between(rig, work):
    """`work`, run in a thread, and before its first run somebody throws the kill switch."""
    loop, thrown = asyncio.get_running_loop(), []

    def called(*given, **more):
        if not thrown:
            thrown.append(asyncio.run_coroutine_threadsafe(throw(), loop).result())
        return work(*given, **more)

    async def throw():
        return rig.kill.throw(reason="I mean it", by="bob")

    return called
