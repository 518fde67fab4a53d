"""Changes of toggles: in force at once, kept first, one after the other, told in the history."""

import asyncio

import orjson
import pytest
from toggling import Rig

from proxy.control.toggle_plans import TogglesRefused, TogglesStale, UnknownBaseline, UnknownVersion, patch
from proxy.ports import StoreError
from proxy.tasks import spawn


@pytest.fixture
async def rig(tmp_path):
    made = Rig(tmp_path)
    async with made.started():
        yield made


async def test_the_first_start_makes_the_settings_toggles_the_first_version(rig):
    assert rig.kinds() == [(1, "file")]
    assert rig.control.read().metadata["environment"] == "test"
    assert rig.control.read().baseline == "normal"


async def test_a_change_is_in_force_and_kept_when_it_is_acknowledged(rig):
    now = await rig.patch(exposure_percent=50, disable_cf=True)
    assert (now.version, now.toggles["exposure_percent"], now.toggles["disable_cf"]) == (2, 50, True)
    assert (rig.toggles.version, rig.toggles.exposure_percent) == (2, 50)
    assert rig.kinds() == [(1, "file"), (2, "patch")]
    assert now.metadata | {"updated_at": ""} == {
        "version": 2,
        "environment": "test",
        "updated_by": "ann",
        "updated_at": "",
        "reason": "why",
    }


async def test_the_history_tells_who_when_why_and_what(rig):
    await rig.patch(exposure_percent=50)
    await rig.flags(billing=False)
    lines, more = await rig.control.history(before=None, limit=2)
    assert [(it.version, it.actor, it.reason, it.kind) for it in lines] == [
        (3, "ann", "why", "flags"),
        (2, "ann", "why", "patch"),
    ]
    assert orjson.loads(lines[0].diff) == {"flags.billing": {"before": True, "after": False}}
    assert orjson.loads(lines[1].diff) == {"exposure_percent": {"before": 100.0, "after": 50}}
    assert more == 2
    lines, more = await rig.control.history(before=more, limit=2)
    assert ([it.version for it in lines], more) == ([1], None)


async def test_a_change_is_refused_with_every_reason(rig):
    with pytest.raises(TogglesRefused) as refused:
        await rig.patch(exposure_percent=101, policy_mode="colab_only", exposure=1, disable_cf="yes")
    assert {it.place for it in refused.value.faults} == {
        ("toggles", "exposure_percent"),
        ("toggles", "policy_mode"),
        ("toggles", "exposure"),
        ("toggles", "disable_cf"),
    }
    assert rig.kinds() == [(1, "file")]


async def test_what_contradicts_what_holds_is_refused(rig):
    await rig.patch(policy_mode="collab_only")
    with pytest.raises(TogglesRefused, match="collab_only asks cf alone"):
        await rig.patch(disable_cf=True)
    assert rig.toggles.disable_cf is False


async def test_a_change_of_nothing_is_refused(rig):
    with pytest.raises(TogglesRefused, match="changes nothing"):
        await rig.patch()


async def test_a_baseline_sets_what_it_names_and_is_told_by_name(rig):
    await rig.patch(cache_mode="prewarm")
    now = await rig.baseline("degraded")
    assert (now.baseline, now.toggles["cache_mode"], now.toggles["exposure_percent"]) == (
        "degraded",
        "prewarm",
        50,
    )
    assert (await rig.baseline("normal")).baseline == "normal"
    with pytest.raises(UnknownBaseline, match="emergency, degraded"):
        await rig.baseline("degrated")


async def test_a_revert_makes_everything_as_it_was(rig):
    first = await rig.patch(exposure_percent=50, rules=[{"scope": {}, "toggles": {"disable_cf": True}}])
    await rig.flags(billing=False)
    await rig.baseline("normal")
    await rig.patch(rules=[])
    now = await rig.change(await rig.control.revert_to(2))
    assert (now.toggles, now.rules, now.flags) == (first.toggles, first.rules, {"billing": True})
    assert rig.rows()[-1].kind == "revert"
    with pytest.raises(UnknownVersion, match="no version 99"):
        await rig.control.revert_to(99)


async def test_of_two_who_looked_at_the_same_version_exactly_one_wins(rig):
    plans = [rig.control.plan(patch({"exposure_percent": share})) for share in (10, 20)]
    done = await asyncio.gather(
        *(rig.control.carry_out(plan, reason="r", by="ann", strict=True) for plan in plans),
        return_exceptions=True,
    )
    assert [type(it).__name__ for it in done] == ["TogglesNow", "TogglesStale"]
    assert rig.toggles.exposure_percent == 10


async def test_who_did_not_ask_for_a_version_changes_what_holds_by_then(rig):
    plans = [rig.control.plan(patch(each)) for each in ({"exposure_percent": 10}, {"disable_cf": True})]
    await asyncio.gather(*(rig.control.carry_out(plan, reason="r", by="ann") for plan in plans))
    assert (rig.toggles.exposure_percent, rig.toggles.disable_cf) == (10, True)


async def test_without_the_store_a_change_is_refused_and_nothing_has_changed(rig):
    before = rig.file.read_bytes()
    rig.journal.trouble = "the store is gone"
    with pytest.raises(StoreError, match="is gone"):
        await rig.patch(exposure_percent=50)
    assert (rig.toggles.version, rig.toggles.exposure_percent) == (1, 100)
    assert rig.file.read_bytes() == before
    rig.journal.trouble = ""
    await rig.turn()
    assert (await rig.patch(exposure_percent=50)).version > 1


async def test_whoever_leaves_while_it_is_kept_has_changed_the_toggles_all_the_same(rig):
    rig.journal.gate = asyncio.Event()
    rig.journal.reached.clear()
    asking = spawn(rig.patch(exposure_percent=50), "ask")
    await rig.journal.reached.wait()
    asking.cancel()
    rig.journal.gate.set()
    await rig.control.carry_out(rig.control.plan(patch({"disable_cf": True})), reason="r", by="bob")
    assert (rig.toggles.exposure_percent, rig.toggles.disable_cf) == (50, True)
    assert rig.kinds() == [(1, "file"), (2, "patch"), (3, "patch")]


async def test_another_writer_of_the_store_is_noticed_and_its_version_taken(rig, tmp_path):
    (tmp_path / "other").mkdir()
    other = Rig(tmp_path / "other")
    other.store, other.journal = rig.store, rig.journal
    async with other.started():
        await other.patch(exposure_percent=30)
    with pytest.raises(TogglesStale, match="version 2"):
        await rig.patch(disable_cf=True)
    assert (rig.toggles.exposure_percent, rig.toggles.version) == (30, 2)
