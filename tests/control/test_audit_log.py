"""The audit log: recorded at once or noted for later, sealed, forgotten."""

import asyncio
import os
import threading

import orjson
import pytest
from auditing import AT, Rig, entry, personal

from proxy.control.audit import KEY_DAMAGED
from proxy.core.audit import Outcome
from proxy.core.merkle import root_of
from proxy.core.sealing import open_box
from proxy.ports import StoreError
from proxy.tasks import spawn


async def test_recording_numbers_entries_and_grows_the_tree(tmp_path):
    """Durable on return, with its number; the tree is over the leaves in order."""
    rig = Rig(tmp_path)
    assert [await rig.log.record(entry(number)) for number in range(5)] == [0, 1, 2, 3, 4]
    rows = rig.rows()
    assert [orjson.loads(row.entry)["actor"] for row in rows] == ["a0", "a1", "a2", "a3", "a4"]
    assert rig.store.read(lambda it: it.audit.tree()).root() == root_of(row.leaf for row in rows)


async def test_what_cannot_be_recorded_raises(tmp_path):
    """So that the change behind it does not happen."""
    rig = Rig(tmp_path)
    rig.journal.trouble = "the disk is full"
    with pytest.raises(StoreError, match="full"):
        await rig.log.record(entry())
    rig.journal.trouble = ""
    assert await rig.log.record(entry()) == 0


async def test_a_note_needs_no_store(tmp_path):
    """It waits, and is taken in when the store is back, in order."""
    rig = Rig(tmp_path)
    rig.journal.trouble = "gone"
    for number in range(20):
        rig.log.note(entry(number))
    with pytest.raises(StoreError):
        await rig.ingester.drain()
    rig.journal.trouble = ""
    assert await rig.ingester.drain() == 20
    assert [row.actor for row in rig.rows()] == [f"a{number}" for number in range(20)]


def test_an_entry_says_when_where_and_who(tmp_path):
    """Filled in, unless it is said."""
    log = Rig(tmp_path).log
    made = log.entry("kill.on", Outcome.DONE, reason="r")
    assert (made.at, made.instance, made.actor) == ("2026-01-02T03:04:05.000000Z", "i1", "fusebox")
    assert log.entry("kill.on", actor="alice").actor == "alice"


async def test_private_fields_are_sealed_under_the_key_of_their_subject(tmp_path):
    """Neither entry nor columns show them; one key per subject opens them."""
    rig = Rig(tmp_path)
    await rig.log.record(personal(1))
    await rig.log.record(personal(2))
    await rig.log.record(personal(3, subject="user-2"))
    first, second, third = rig.rows()
    assert first.key_id == second.key_id != third.key_id
    assert b"user-1" not in first.entry
    assert first.actor == ""
    kept = rig.store.read(lambda it: it.audit.key_by_id(first.key_id))
    key = rig.sealer.unwrap(kept.key_id, kept.tag, kept.wrapped)
    box = orjson.loads(second.entry)["sealed"]["box"]
    opened = orjson.loads(open_box(key, second.key_id, "test.done", box))
    assert opened == {"actor": "a2", "subject": "user-1", "reason": "r2"}


async def test_erasing_a_subject_leaves_the_tree_whole(tmp_path):
    """Recorded without the name; the key is gone, everything verifies, and a new entry gets a new key."""
    rig = Rig(tmp_path)
    await rig.log.record(personal())
    await rig.upkeep.checkpoint()
    old = rig.rows()[0].key_id
    assert await rig.log.erase_subject("user-1", actor="alice", reason="asked for") is True
    assert rig.store.read(lambda it: it.audit.key_by_id(old)) is None
    said = orjson.loads(rig.rows()[-1].entry)
    assert (said["action"], said["target"], said["actor"]) == ("audit.subject_erased", old, "alice")
    assert not any(b"user-1" in row.entry for row in rig.rows())
    report = rig.verify()
    assert report.ok
    assert report.erased == 1
    await rig.log.record(personal())
    assert rig.rows()[-1].key_id not in {"", old}


async def test_what_waits_in_the_spool_is_erased_as_well(tmp_path):
    """It is taken in before, under the key that goes."""
    rig = Rig(tmp_path)
    rig.log.note(personal())
    assert await rig.log.erase_subject("user-1") is True
    assert rig.verify().erased == 1


async def test_erasing_whom_nobody_knows_is_recorded_too(tmp_path):
    """Somebody asked; that it found nothing is part of the answer."""
    rig = Rig(tmp_path)
    assert await rig.log.erase_subject("nobody") is False
    assert orjson.loads(rig.rows()[0].entry)["after"] == {"found": False}
    assert rig.verify().ok


async def test_a_damaged_key_does_not_stop_the_log(tmp_path):
    """What it sealed is lost, which an entry says; what comes is sealed under a new one."""
    rig = Rig(tmp_path)
    await rig.log.record(personal(1))
    old = rig.rows()[0].key_id
    kept = rig.store.read(lambda it: it.audit.key_by_id(old))

    def damage(records):
        records.audit.erase_key(kept.tag)
        records.audit.add_key(type(kept)(key_id=old, tag=kept.tag, wrapped=kept.wrapped[:-1] + b"x"))

    rig.store.write(damage)
    assert [it.kind for it in rig.verify().findings] == ["lost_key"]
    await rig.log.record(personal(2))
    rows = rig.rows()
    assert rows[1].key_id not in {"", old}
    assert (rows[2].action, rows[2].target) == (KEY_DAMAGED, old)
    assert rig.verify().ok


async def test_a_key_that_is_gone_without_a_word_is_found(tmp_path):
    """Whoever deletes keys hides what was done."""
    rig = Rig(tmp_path)
    await rig.log.record(personal(1))
    rig.store.write(lambda it: it.audit.erase_key(rig.sealer.tag("user-1")))
    (found,) = rig.verify().findings
    assert (found.kind, found.first) == ("lost_key", 0)


async def test_clocks_do_not_order_entries(tmp_path):
    """A clock that goes back changes labels, never the order."""
    rig = Rig(tmp_path)
    for step in (0, -500, 900, -10_000):
        rig.wall.now += step
        await rig.log.record(rig.log.entry("test.done", Outcome.DONE))
    labels = [row.at for row in rig.rows()]
    assert labels != sorted(labels)
    assert [row.seq for row in rig.rows()] == [0, 1, 2, 3]
    assert rig.verify().ok
    assert labels[0] == AT.replace("000006", "000000")


async def test_a_note_without_sync_waits_for_no_disk_that_somebody_else_waits_for(tmp_path, monkeypatch):
    """The event loop writes it, and traffic with it: whoever knocks with a wrong token would stop both."""
    rig = Rig(tmp_path)
    reached, go = threading.Event(), threading.Event()

    def slow(handle):
        reached.set()
        assert go.wait(20)

    monkeypatch.setattr(os, "fdatasync", slow)
    waiting = spawn(asyncio.to_thread(rig.log.note, entry(1)), "note")
    assert await asyncio.to_thread(reached.wait, 20)
    hasty = spawn(asyncio.to_thread(rig.log.note, entry(2), sync=False), "hasty note")
    try:
        await asyncio.wait_for(hasty, 5)
    finally:
        go.set()
        await waiting
    assert await rig.ingester.drain() == 2
