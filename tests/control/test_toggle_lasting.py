"""What lasts over a start: the frozen experiment, and the kill switch with its versions."""

from dataclasses import replace

import pytest
from toggling import RUNNING, Rig, changed, policy

from proxy.control.toggle_plans import patch
from proxy.core.experiment import Arm, Experiment
from proxy.core.toggles import Toggles

GONE = "the store is gone"


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


class TestFreeze:
    NEXT = Experiment(name="next", salt="s", arms=(Arm(name="all", percent=100, policy_mode="collab_only"),))

    async def test_salt_and_arms_stay_over_restarts_reloads_and_kills(self, rig):
        async with rig.started():
            await rig.patch(experiment_freeze=True)
        rig.settings = policy(experiment=self.NEXT)
        for store in (GONE, ""):
            rig.journal.trouble = store
            async with rig.started() as control:
                assert rig.plane.policy.experiment == RUNNING
                await control.reload(replace(rig.settings))
                await rig.kill.set(True, reason="r", by="ann")
                await rig.kill.set(False, reason="r", by="ann")
                assert rig.plane.policy.experiment == RUNNING

    async def test_thawed_the_settings_count_again(self, rig):
        async with rig.started():
            await rig.patch(experiment_freeze=True)
        rig.settings = policy(experiment=self.NEXT)
        async with rig.started():
            await rig.patch(experiment_freeze=False)
            assert rig.plane.policy.experiment is self.NEXT
            await rig.change(await rig.control.revert_to(2))
            assert rig.plane.policy.experiment == RUNNING, "a revert goes back to what was frozen then"

    async def test_a_freeze_in_the_settings_holds_what_ran_at_the_first_start(self, rig):
        rig.settings = policy(Toggles(experiment_freeze=True))
        async with rig.started():
            await rig.turn()
        rig.settings = policy(Toggles(experiment_freeze=True), experiment=self.NEXT)
        async with rig.started():
            assert rig.plane.policy.experiment == RUNNING

    async def test_a_thaw_with_a_time_limit_returns_to_what_was_frozen(self, rig):
        async with rig.started():
            await rig.patch(experiment_freeze=True)
            await rig.patch(ttl_s=60, experiment_freeze=False)
        rig.settings = policy(experiment=self.NEXT)
        async with rig.started():
            assert rig.plane.policy.experiment is self.NEXT
            rig.pass_time(60)
            await rig.turn()
            assert rig.plane.policy.experiment == RUNNING


class TestKill:
    async def test_a_kill_is_a_version_of_whoever_threw_it(self, rig):
        async with rig.started():
            await rig.patch(exposure_percent=50)
            await rig.kill.set(True, reason="burns", by="bob")
            await rig.turn()
            assert [(it.version, it.kind, it.by) for it in rig.rows()][1:] == [
                (2, "patch", "ann"),
                (3, "kill", "bob"),
            ]
            now = rig.control.read()
            assert (now.kill, now.toggles["kill_switch"], now.metadata["reason"]) == (True, True, "burns")

    async def test_numbers_go_on_over_kills_that_no_store_has_and_no_file(self, rig):
        """Killed right after the kill was remembered: a version that was once told never comes again."""
        async with rig.started():
            await rig.patch(exposure_percent=50)
            rig.journal.trouble = GONE
            for on in (True, False, True):
                await rig.kill.set(on, reason="r", by="bob")
            assert rig.toggles.version == 5
        rig.made().restore()
        assert (rig.toggles.version, rig.toggles.kill_switch) == (5, True)

    async def test_kills_without_the_store_come_into_its_history_later_even_after_a_restart(self, rig):
        async with rig.started():
            rig.journal.trouble = GONE
            for on in (True, False):
                await rig.kill.set(on, reason="r", by="bob")
            await rig.turn()
        async with rig.started():
            rig.journal.trouble = ""
            await rig.turn()
            assert rig.kinds() == [(1, "file"), (2, "kill"), (3, "kill")]

    async def test_a_kill_while_a_change_is_kept_lies_over_it(self, rig):
        async with rig.started():
            rig.journal.store = MeanwhileStore(rig)
            now = await rig.patch(exposure_percent=50)
            assert (now.kill, now.toggles["exposure_percent"]) == (True, 50)
            rig.journal.store = rig.store
            await rig.turn()
            assert rig.kinds() == [(1, "file"), (2, "patch"), (4, "kill")]
            versions = [version for version, _ in rig.plane.applied]
            assert versions == sorted(set(versions)), "each policy has a number of its own, and a higher one"

    async def test_a_kill_that_moved_there_and_back_meanwhile_leaves_a_higher_version(self, rig):
        async with rig.started():
            rig.journal.store = MeanwhileStore(rig, True, False)
            now = await rig.patch(exposure_percent=50)
            assert (now.kill, now.version, now.toggles["exposure_percent"]) == (False, 5, 50)

    async def test_whoever_released_it_knowing_of_no_throw_after_that_has_not(self, rig):
        async with rig.started():
            await rig.kill.set(True, reason="r", by="ann")
            plan = rig.control.plan(patch({"kill_switch": False}))
            await rig.kill.set(True, reason="again!", by="bob")
            with pytest.raises(Exception, match="have become version 3"):
                await rig.control.carry_out(plan, reason="r", by="ann")
            assert rig.toggles.kill_switch is True

    async def test_settings_that_say_killed_are_obeyed_when_the_store_opens_late(self, rig):
        await changed(rig, 50)
        rig.file.unlink()
        rig.file.with_name("toggles.json.before").unlink()
        rig.settings = policy(Toggles(kill_switch=True))
        rig.journal.trouble = GONE
        async with rig.started():
            assert rig.toggles.kill_switch is True
            rig.journal.trouble = ""
            await rig.turn()
            assert (rig.toggles.kill_switch, rig.toggles.exposure_percent) == (True, 50)
            assert False not in [kill for _, kill in rig.plane.applied]

    async def test_a_kill_file_alone_is_enough(self, rig):
        await changed(rig, 50)
        rig.kill_file.write_text('{"kill": true, "reason": "by hand"}')
        async with rig.started():
            assert (rig.toggles.kill_switch, rig.toggles.exposure_percent) == (True, 50)
            assert rig.rows()[-1].kind == "kill"

    @pytest.mark.parametrize("store", ["", GONE])
    async def test_of_a_first_start_while_killed_the_settings_version_can_be_gone_back_to(self, rig, store):
        """Also where the store opens late: the kill comes on top of the first version, not instead of it."""
        rig.settings = policy(Toggles(exposure_percent=7))
        rig.kill_file.write_text('{"kill": true, "reason": "before the upgrade"}')
        rig.journal.trouble = store
        async with rig.started():
            rig.journal.trouble = ""
            await rig.turn()
            assert rig.kinds() == [(1, "file"), (2, "kill")]
            await rig.patch(exposure_percent=50)
            await rig.change(await rig.control.revert_to(1))
            assert rig.toggles.exposure_percent == 7

    async def test_a_kill_that_was_not_remembered_is_told_and_tried_again_by_itself(self, rig):
        async with rig.started() as control:
            rig.kill_file.mkdir()  # nothing can be put in its place
            await rig.kill.set(True, reason="burns", by="bob")
            await rig.turn()
            assert "the kill switch is ON, but a restart would forget it" in " ".join(control.troubles())
            assert control._behind, "so the next try comes without anybody asking"
            rig.kill_file.rmdir()
            await rig.turn()
            assert list(control.troubles()) == []
            assert not control._behind
        async with rig.started():
            assert (rig.kill.status.kill, rig.kill.status.by) == (True, "bob")

    async def test_settings_that_newly_say_killed_are_obeyed_where_nobody_has_decided(self, rig):
        await changed(rig, 50)
        rig.settings = policy(Toggles(kill_switch=True))
        async with rig.started():
            assert (rig.toggles.kill_switch, rig.kill.status.by) == (True, "toggles file")


class MeanwhileStore:
    """A store in which the kill switch moves while it writes."""

    def __init__(self, rig, *moves):
        self.rig = rig
        self.moves = moves or (True,)

    def write(self, work):
        for on in self.moves:
            if on:
                self.rig.kill.throw(reason="now", by="bob")
            else:  # as a release does it, its decision remembered
                self.rig.kill.decision = replace(self.rig.kill.decision, kill=False)
                self.rig.kill._put(False, self.rig.control._state.numbers.next())
                self.rig.kill.heard()
        return self.rig.store.write(work)

    def read(self, work):
        return self.rig.store.read(work)
