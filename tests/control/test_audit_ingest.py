"""From the spool into the log: exactly once, whatever dies or breaks in between."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from auditing import Rig, entry, personal

from proxy.core.audit import spooled
from proxy.ports import StoreError
from proxy.storage.spool import SpoolFile
from proxy.storage.sqlite import SqliteStore
from proxy.tasks import spawn

ROUNDS = int(os.environ.get("FUSEBOX_KILLS", "6"))


async def until(done):
    """Real tasks: ask again until it is so."""
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 - nobody sets an event here
            await asyncio.sleep(0.005)


def actors(rig):
    return [row.actor for row in rig.rows() if row.action == "test.done"]


async def test_everything_that_waits_is_taken_in_once(tmp_path):
    """In batches, sealed on the way; a second look finds nothing."""
    rig = Rig(tmp_path)
    for number in range(30):
        rig.log.note(personal(number) if number % 2 else entry(number))
    assert await rig.ingester.drain() == 30
    assert await rig.ingester.drain() == 0
    assert rig.size() == 30
    assert sum(bool(row.key_id) for row in rig.rows()) == 15
    assert rig.verify().ok


async def test_files_of_dead_writers_are_removed(tmp_path):
    """When all of it is in the log, with what the store remembered of it."""
    rig = Rig(tmp_path)
    rig.log.note(entry())
    rig.spool.close()
    (name,) = rig.reader.files()
    assert await rig.ingester.drain() == 1
    assert rig.reader.files() == []
    assert rig.store.read(lambda it: it.audit.spool_position(name)) == 0


async def test_a_file_that_cannot_be_read_holds_up_no_other(tmp_path, monkeypatch):
    """A command of another user may have left one. It is told, and taken in once it can be read."""
    rig = Rig(tmp_path)
    rig.log.note(entry(1))
    rig.spool.close()
    (theirs,) = rig.reader.files()
    rig.log.note(entry(2))
    read = rig.reader.read

    def refused(name, position, limit):
        if name == theirs:
            raise PermissionError(13, "Permission denied")
        return read(name, position, limit)

    monkeypatch.setattr(rig.reader, "read", refused)
    with pytest.raises(StoreError, match=f"{theirs} cannot be read: Permission denied; let this user own"):
        await rig.ingester.drain()
    assert actors(rig) == ["a2"]
    monkeypatch.setattr(rig.reader, "read", read)
    assert await rig.ingester.drain() == 1
    assert actors(rig) == ["a2", "a1"]


async def test_nothing_unsealed_stays_in_a_file_that_is_written_on(tmp_path):
    """Else who was erased could be read there, in a quiet sidecar for weeks."""
    rig = Rig(tmp_path)
    for number in range(20):
        rig.log.note(personal(number, subject="alice"))
    (file,) = (tmp_path / "spool").iterdir()
    assert b"alice" in file.read_bytes()
    assert await rig.ingester.drain() == 20
    assert b"alice" not in file.read_bytes()
    rig.log.note(personal(20, subject="alice"))
    assert await rig.ingester.drain() == 1
    assert not file.read_bytes().strip(b"\0")
    assert rig.verify().ok
    assert rig.ingester.damaged == 0


async def test_a_living_writer_keeps_its_file(tmp_path):
    """It goes on where it was."""
    rig = Rig(tmp_path)
    for number in range(3):
        rig.log.note(entry(number))
        await rig.ingester.drain()
    assert actors(rig) == ["a0", "a1", "a2"]
    assert len(rig.reader.files()) == 1


async def test_several_writers_at_once(tmp_path):
    """Each file in its own order."""
    rig = Rig(tmp_path)
    other = SpoolFile(tmp_path / "spool")
    for number in range(10):
        rig.log.note(entry(number))
        other.add(spooled(entry(number, actor=f"b{number}")))
    assert await rig.ingester.drain() == 20
    found = actors(rig)
    assert [it for it in found if it[0] == "a"] == [f"a{number}" for number in range(10)]
    assert [it for it in found if it[0] == "b"] == [f"b{number}" for number in range(10)]
    other.close()


async def test_a_write_that_was_done_though_it_failed_is_not_done_again(tmp_path):
    """A deadline ran out, the commit came after it: the store knows."""
    rig = Rig(tmp_path)
    sound = rig.journal.write

    async def late(work):
        await sound(work)
        raise StoreError("no answer within 5 s")

    for number in range(5):
        rig.log.note(entry(number))
    rig.journal.write = late
    with pytest.raises(StoreError):
        await rig.ingester.drain()
    rig.journal.write = sound
    await rig.ingester.drain()
    assert actors(rig) == [f"a{number}" for number in range(5)]


async def test_a_write_that_comes_late_is_not_done_twice(tmp_path):
    """It is committed between the look at the position and the next write."""
    rig = Rig(tmp_path)
    for number in range(5):
        rig.log.note(entry(number))
    sound = rig.journal.write
    waiting = []

    async def stuck(work):
        waiting.append(work)
        raise StoreError("no answer within 5 s")

    rig.journal.write = stuck
    with pytest.raises(StoreError):
        await rig.ingester.drain()

    async def overtaken(work):
        if waiting:
            await sound(waiting.pop())
        return await sound(work)

    rig.journal.write = overtaken
    await rig.ingester.drain()
    assert actors(rig) == [f"a{number}" for number in range(5)]


async def test_damage_is_an_entry_and_the_rest_is_saved(tmp_path):
    """Bytes that are no frame, and frames that are no entry: said where, counted, skipped."""
    rig = Rig(tmp_path)
    for number in range(4):
        rig.log.note(entry(number))
    rig.spool.add(b'{"no":"entry"}')
    rig.log.note(entry(9))
    (name,) = rig.reader.files()
    path = tmp_path / "spool" / name
    data = bytearray(path.read_bytes())
    length = 8 + len(spooled(entry(0)))
    data[length + 20] ^= 1  # in the second frame
    path.write_bytes(data)
    rig.spool.close()
    await rig.ingester.drain()
    assert actors(rig) == ["a0", "a2", "a3", "a9"]
    said = [orjson.loads(row.entry) for row in rig.rows() if row.action == "spool.damaged"]
    assert {(it["target"], it["outcome"]) for it in said} == {(name, "failed")}
    assert {"position": length, "bytes": length} in [it["after"] for it in said]
    assert any("no" in it["reason"] for it in said)
    assert (rig.ingester.taken, rig.ingester.damaged) == (4, 2)


async def test_the_task_takes_notes_at_once_and_outlives_trouble(tmp_path):
    """Woken by a note; a store that comes back is found."""
    rig = Rig(tmp_path)
    task = spawn(rig.ingester.run(), "ingester")
    try:
        await asyncio.sleep(0)
        rig.log.note(entry(0))
        await until(lambda: rig.size() == 1)
        rig.journal.trouble = "gone"
        rig.log.note(entry(1))
        await until(lambda: rig.ingester.trouble == "gone")
        rig.journal.trouble = ""
        await until(lambda: rig.size() == 2 and not rig.ingester.trouble)
    finally:
        task.cancel()


def test_nothing_is_lost_or_doubled_when_it_is_killed(tmp_path):
    """Killed at random moments; whoever comes next goes on. Afterwards all is there, once, and verifies."""
    chance = random.Random(5)
    noted = []
    here = Path(__file__).parent
    for seed in range(1, ROUNDS + 1):
        child = subprocess.Popen(
            [sys.executable, here / "ingesting.py", tmp_path, str(seed)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=here.parents[1],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        lines = chance.randrange(1, 60)
        try:
            for line in child.stdout:
                if line.startswith("noted"):
                    noted.append(f"a{line.split()[1]}")
                    lines -= 1
                if lines <= 0:
                    break
        finally:
            child.kill()
            rest = child.stdout.read()
            child.wait()
            child.stdout.close()
        # a line that was cut may stand for a number that was cut
        whole = rest[: rest.rfind("\n") + 1].splitlines()
        noted += [f"a{line.split()[1]}" for line in whole if line.startswith("noted")]
    rig = Rig(tmp_path, SqliteStore(tmp_path / "store.db"), seed=99)
    asyncio.run(rig.ingester.drain())
    found = actors(rig)
    assert len(found) == len(set(found))
    assert set(noted) <= set(found)
    assert rig.verify().ok
    assert rig.store.check() == []
    assert rig.reader.files() == []
    rig.store.close()
