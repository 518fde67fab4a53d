"""Checkpoints, segments, retention: when they come, and what a clock that jumps cannot do."""

from dataclasses import replace

import orjson
import pytest
from auditing import AT, DAY, START, Rig, entry

from proxy.clock import rfc3339
from proxy.control.audit_segments import DROPPED, DamagedLog
from proxy.control.audit_upkeep import KEY_CHANGED, STEADY_S
from proxy.core.checkpoint import Signer, opened
from proxy.core.merkle import Frontier, root_of
from proxy.ports import StoreError


async def test_the_first_look_signs_what_is_new(tmp_path):
    """At the start, whatever the last run left unsigned."""
    rig = Rig(tmp_path)
    await rig.upkeep.look()
    assert rig.checkpoints() == []  # nothing to sign
    rig.fill(3)
    await rig.fresh_upkeep().look()
    (kept,) = rig.checkpoints()
    assert kept.size == 3
    assert kept.root == root_of(row.leaf for row in rig.rows())
    read = opened(kept.note, [rig.signer.verifier])
    assert (read.size, read.root, read.at) == (kept.size, kept.root, kept.at)


async def test_checkpoints_come_by_number_and_by_time(tmp_path):
    """After so many entries, or so many seconds when there is anything new; never twice over the same."""
    rig = Rig(tmp_path, checkpoint_entries=10, checkpoint_s=60.0)
    rig.fill(1)
    await rig.upkeep.look()
    rig.fill(9)
    await rig.upkeep.look()
    assert [it.size for it in rig.checkpoints()] == [1]
    rig.fill(1)
    await rig.upkeep.look()
    assert [it.size for it in rig.checkpoints()] == [1, 11]
    rig.fill(1)
    rig.monotonic.now += 59
    await rig.upkeep.look()
    assert len(rig.checkpoints()) == 2
    rig.monotonic.now += 1
    await rig.upkeep.look()
    assert [it.size for it in rig.checkpoints()] == [1, 11, 12]
    rig.monotonic.now += 600
    await rig.upkeep.look()
    assert len(rig.checkpoints()) == 3


async def test_a_clock_that_steps_does_not_move_checkpoints(tmp_path):
    """Monotonic time decides; the wall clock only labels."""
    rig = Rig(tmp_path, checkpoint_s=60.0)
    rig.fill(1)
    await rig.upkeep.look()
    for jump in (-10 * DAY, 20 * DAY, -5 * DAY):
        rig.wall.now += jump
        rig.fill(1)
        await rig.upkeep.look()
        assert len(rig.checkpoints()) == 1
    rig.monotonic.now += 60
    await rig.upkeep.look()
    assert len(rig.checkpoints()) == 2
    assert rig.verify().ok


async def test_a_clean_stop_signs_the_rest(tmp_path):
    """So that nothing of a run stays unsigned."""
    rig = Rig(tmp_path)
    rig.fill(3)
    await rig.upkeep.finish(1.0)
    assert [it.size for it in rig.checkpoints()] == [3]


async def test_two_histories_are_never_signed(tmp_path):
    """A log that is shorter than what was signed: trouble, and no signature."""
    rig = Rig(tmp_path)
    rig.fill(5)
    await rig.upkeep.look()
    other = Rig(tmp_path)
    other.fill(3)
    (kept,) = rig.checkpoints()
    other.store.write(lambda it: it.audit.add_checkpoint(kept))
    await other.upkeep.look()
    assert "5 were signed" in other.upkeep.trouble
    other.fill(7)
    other.monotonic.now += 600
    await other.upkeep.look()
    assert "do not give the checkpoint over 5" in other.upkeep.trouble
    assert len(other.checkpoints()) == 1


async def test_a_log_rewritten_while_it_runs_is_not_signed(tmp_path):
    """Cut and grown again, so that it fits itself: it does not follow from what was signed."""
    rig = Rig(tmp_path)
    rig.fill(5)
    await rig.upkeep.look()
    other = Rig(tmp_path)
    other.fill(9, lambda number: entry(number, actor="mallory"))
    rig.store._state = replace(
        rig.store._state, rows=other.store._state.rows, tree=other.store._state.tree, checkpoints={}
    )
    rig.monotonic.now += 600
    await rig.upkeep.look()
    assert "do not give the tree" in rig.upkeep.trouble
    assert rig.checkpoints() == []


async def test_a_changed_key_is_recorded(tmp_path):
    """The log goes on under the new key, and says so; verifying needs both."""
    rig = Rig(tmp_path)
    rig.fill(2)
    await rig.upkeep.look()
    old, rig.signer = rig.signer, Signer("log.test", b"t" * 32)
    rig.fill(1)
    await rig.fresh_upkeep().look()
    said = orjson.loads(rig.rows()[-1].entry)
    assert (said["action"], said["target"]) == (KEY_CHANGED, rig.signer.verifier.vkey)
    assert [it.size for it in rig.checkpoints()] == [2, 4]
    assert [it.kind for it in rig.verify().findings] == ["forged_checkpoint"]
    assert rig.verify(verifiers=[old.verifier, rig.signer.verifier]).ok


async def test_full_segments_are_sealed(tmp_path):
    """As perfect subtrees, one beside the other; a changed size goes on where it can."""
    rig = Rig(tmp_path, segment_entries=8)
    rig.fill(7)
    await rig.upkeep.look()
    assert rig.segments() == []
    rig.fill(18)
    await rig.upkeep.look()
    assert [(it.first, it.size) for it in rig.segments()] == [(0, 8), (8, 8), (16, 8)]
    assert rig.segments()[1].root == root_of(row.leaf for row in rig.rows()[8:16])
    rig.settings = type(rig.settings)(segment_entries=16)
    rig.fill(30)
    await rig.fresh_upkeep().look()
    assert [(it.first, it.size) for it in rig.segments()[3:]] == [(24, 8), (32, 16)]
    assert rig.verify().ok


def tamper(rig, seq, **fields):
    """Change a row beneath the store's feet."""
    row = rig.rows()[seq]
    rig.store._state.rows[seq] = type(row)(**{name: getattr(row, name) for name in row.__slots__} | fields)


@pytest.mark.parametrize("fields", [{"leaf": b"x" * 32}, {"entry": b"{}"}, None])
async def test_a_changed_log_is_not_sealed(tmp_path, fields):
    """What does not fit its tree is trouble, and nothing of it is ever dropped."""
    rig = Rig(tmp_path, segment_entries=8, retention_days=1)
    rig.fill(20)
    if fields:
        tamper(rig, 3, **fields)
    else:  # changed so that it fits itself
        tamper(rig, 3, entry=rig.rows()[4].entry, leaf=rig.rows()[4].leaf)
    with pytest.raises(DamagedLog):
        await rig.upkeep.seal()
    await rig.upkeep.look()
    assert "fusebox audit verify" in rig.upkeep.trouble
    assert rig.segments() == []


async def kept_over_time(rig, days):
    """A log of 8 entries a day, sealed."""
    for day in range(days):
        rig.wall.now = START + day * DAY
        rig.fill(8, lambda number: entry(number, at=rfc3339(rig.wall.now)))
    await rig.upkeep.seal()


async def steady(rig, upkeep=None):
    """Look, let an hour pass, look again: how many segments are dropped in the end."""
    upkeep = upkeep or rig.upkeep
    await upkeep.look()
    rig.monotonic.now += STEADY_S
    rig.wall.now += STEADY_S
    await upkeep.look()
    return sum(bool(it.dropped_at) for it in rig.segments())


async def test_retention_drops_old_segments_and_says_so_before(tmp_path):
    """Whole segments from the left; the tree stays verifiable, also by older checkpoints kept elsewhere."""
    rig = Rig(tmp_path, retention_days=5)
    await kept_over_time(rig, 10)
    await rig.upkeep.checkpoint()
    outside = [("file", rig.checkpoints()[0].note)]
    rig.upkeep = rig.fresh_upkeep()
    assert await steady(rig) == 4
    assert next(row.seq for row in rig.rows()) == 32
    said = orjson.loads(rig.rows()[-1].entry)
    assert said["action"] == DROPPED
    assert (said["after"]["first"], said["after"]["end"]) == (0, 32)
    rig.wall.now += 2 * DAY
    rig.upkeep = rig.fresh_upkeep()
    assert await steady(rig) == 7
    await rig.upkeep.checkpoint()
    report = rig.verify(outside)
    assert report.ok
    assert (report.dropped, report.external) == (56, 1)


async def test_nothing_is_dropped_without_retention(tmp_path):
    """0 days: for ever."""
    rig = Rig(tmp_path, retention_days=0)
    await kept_over_time(rig, 10)
    rig.wall.now += 1000 * DAY
    assert await steady(rig, rig.fresh_upkeep()) == 0


async def test_unsealed_entries_are_never_dropped(tmp_path):
    """However old they are."""
    rig = Rig(tmp_path, retention_days=1, segment_entries=64)
    await kept_over_time(rig, 5)
    rig.wall.now += 100 * DAY
    assert await steady(rig, rig.fresh_upkeep()) == 0
    assert rig.size() == 40


async def test_a_clock_that_jumps_forward_drops_nothing(tmp_path):
    """While it runs, a jump does not count; at a start, not unless it stays for an hour."""
    rig = Rig(tmp_path, retention_days=5)
    await kept_over_time(rig, 4)
    rig.upkeep = rig.fresh_upkeep()
    rig.wall.now += 100 * DAY
    assert await steady(rig) == 0
    upkeep = rig.fresh_upkeep()  # started with the wrong clock
    await upkeep.look()
    rig.wall.now -= 100 * DAY  # set right after a while
    assert await steady(rig, upkeep) == 0


async def test_a_label_of_the_future_keeps_its_segment(tmp_path):
    """A segment is as old as its newest label; what stands behind it is kept with it."""
    rig = Rig(tmp_path, retention_days=5)
    await kept_over_time(rig, 2)
    rig.fill(8, lambda number: entry(number, at=rfc3339(START + (900 * DAY if number == 3 else 0))))
    rig.fill(8)
    rig.wall.now = START + 20 * DAY
    rig.upkeep = rig.fresh_upkeep()
    assert await steady(rig) == 2
    assert rig.verify().ok


async def test_a_clock_that_went_back_keeps_too(tmp_path):
    """Nothing is older than it was."""
    rig = Rig(tmp_path, retention_days=5)
    await kept_over_time(rig, 4)
    rig.wall.now -= 1000 * DAY
    assert await steady(rig, rig.fresh_upkeep()) == 0
    assert rig.verify().ok


async def test_a_store_in_trouble_is_looked_at_again(tmp_path):
    """The task goes on, says why, and stops saying it."""
    rig = Rig(tmp_path)
    rig.journal.trouble = "gone"
    await rig.upkeep.look()
    assert rig.upkeep.trouble == "gone"
    rig.journal.trouble = ""
    rig.fill(1)
    await rig.upkeep.look()
    assert rig.upkeep.trouble == ""
    assert len(rig.checkpoints()) == 1
    assert AT


async def test_a_damaged_tree_is_trouble_and_not_a_crash(tmp_path):
    """Nothing is added to it, nothing signed, and the task goes on."""
    rig = Rig(tmp_path)
    rig.fill(20)
    sound = rig.store._state.tree
    rig.store._state = replace(rig.store._state, tree=Frontier(sound.size, ()))
    with pytest.raises(StoreError, match="damaged"):
        await rig.log.record(entry())
    await rig.upkeep.look()
    assert rig.upkeep.trouble
    assert rig.checkpoints() == []
