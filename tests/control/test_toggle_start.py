"""What a start finds: the last good file, the store, the newer of both, neither; and what it says of that."""

import asyncio
import errno
import os

import pytest
from toggling import Rig, changed, policy

from proxy.core.toggles import Toggles
from proxy.ports import StoreError
from proxy.storage.memory import MemoryStore

GONE = "the store is gone"


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


async def test_a_restart_without_the_store_has_the_same_toggles_under_the_same_version(rig):
    await changed(rig, 50, 20)
    rig.journal.trouble = GONE
    async with rig.started() as control:
        assert (rig.toggles.version, rig.toggles.exposure_percent) == (3, 20)
        with pytest.raises(StoreError):
            await rig.patch(exposure_percent=100)
        rig.journal.trouble = ""
        assert (await rig.patch(exposure_percent=100)).version == 4
        assert list(control.troubles()) == []


async def test_the_settings_toggles_count_at_the_first_start_only(rig, caplog):
    await changed(rig, 50)
    assert "has changed" not in caplog.text
    rig.settings = policy(Toggles(exposure_percent=7, version=99))
    async with rig.started():
        assert (rig.toggles.version, rig.toggles.exposure_percent) == (2, 50)
        assert "counts at the first start only" in caplog.text
        assert "fusebox toggles" in caplog.text
        await rig.turn()
    caplog.clear()
    async with rig.started():
        assert "has changed" not in caplog.text, "it is told once"


async def test_the_stores_version_holds_where_it_is_newer(rig, tmp_path):
    await changed(rig, 50)
    old = rig.file.read_bytes()
    await changed(rig, 20)
    rig.file.write_bytes(old)
    rig.journal.trouble = GONE
    async with rig.started():
        assert rig.toggles.version == 2
        rig.journal.trouble = ""
        await rig.turn()
        assert (rig.toggles.version, rig.toggles.exposure_percent) == (3, 20)
    rig.journal.trouble = GONE
    async with rig.started():
        assert rig.toggles.version == 3, "the file has it now"


async def test_the_files_version_holds_where_it_is_newer_and_the_store_gets_it(rig):
    await changed(rig, 50)
    older, rig.journal.store = rig.journal.store, type(rig.store)()
    async with rig.started():
        assert (rig.toggles.version, rig.toggles.exposure_percent) == (2, 50)
    newest = rig.journal.store.read(lambda it: it.toggles.newest())
    assert newest == older.read(lambda it: it.toggles.newest())


async def test_a_state_directory_that_is_lost_takes_the_stores_toggles_before_anything_listens(rig):
    await changed(rig, 50)
    rig.file.unlink()
    rig.file.with_name("toggles.json.before").unlink()
    rig.settings = policy(Toggles(version=99))
    rig.made().restore()
    await rig.control._state.begin()
    assert (rig.toggles.version, rig.toggles.exposure_percent) == (2, 50)


async def test_without_file_and_store_the_settings_hold_until_the_store_opens_and_that_is_told(rig):
    await changed(rig, 50)
    rig.file.unlink()
    rig.file.with_name("toggles.json.before").unlink()
    rig.journal.trouble = GONE
    async with rig.started() as control:
        assert rig.toggles.exposure_percent == 100
        assert "those of the settings until the store opens" in " ".join(control.troubles())
        assert not rig.file.exists(), "nobody knows yet whether they are right"
        rig.journal.trouble = ""
        await rig.turn()
        assert rig.toggles.exposure_percent == 50
        assert list(control.troubles()) == []


@pytest.mark.parametrize("spoilt", ["", "\n", "{}\n{}", '{"format": 2, "sha256": ""}\n{}', "cut", "flipped"])
async def test_of_a_damaged_file_the_one_before_holds_and_that_is_told_until_the_store_opens(rig, spoilt):
    await changed(rig, 50, 20, ended=False)
    content = rig.file.read_bytes()
    damaged = {"cut": content[:-20], "flipped": content.replace(b"20", b"21")}.get(spoilt, spoilt.encode())
    rig.file.write_bytes(damaged)
    rig.journal.trouble = GONE
    async with rig.started() as control:
        assert (rig.toggles.version, rig.toggles.exposure_percent) == (2, 50)
        assert "toggles.json cannot be used" in " ".join(control.troubles())
        rig.journal.trouble = ""
        await rig.turn()
        assert (rig.toggles.version, rig.toggles.exposure_percent) == (3, 20)
        assert list(control.troubles()) == []


def spoil(rig):
    rig.file.write_text("{")
    rig.file.with_name("toggles.json.before").write_text("[]\n")


async def test_damaged_beyond_use_and_no_store_means_killed_and_is_told(rig, caplog):
    await changed(rig, 50, 20)
    spoil(rig)
    rig.journal.trouble = GONE
    async with rig.started() as control:
        assert rig.toggles.kill_switch is True
        assert "nobody can tell which toggles hold" in rig.kill.status.reason
        assert "toggles.json cannot be used" in " ".join(control.troubles())
        assert "remove both files" in caplog.text
        assert rig.file.read_text() == "{", "what is left stays for whoever looks"
        rig.journal.trouble = ""
        await rig.turn()
        assert (rig.toggles.kill_switch, rig.toggles.exposure_percent) == (False, 20)
        assert list(control.troubles()) == []
    assert not rig.kill_file.exists()


async def test_damaged_beyond_use_the_store_tells_before_anything_listens(rig):
    await changed(rig, 50, 20)
    spoil(rig)
    rig.made().restore()
    await rig.control._state.begin()
    assert (rig.toggles.kill_switch, rig.toggles.exposure_percent) == (False, 20)
    assert True not in [kill for _, kill in rig.plane.applied]


async def test_damaged_beyond_use_and_an_empty_store_stays_killed_until_a_person_decides(rig):
    await changed(rig, 50)
    spoil(rig)
    rig.journal.store = type(rig.store)()
    async with rig.started():
        assert rig.toggles.kill_switch is True
    async with rig.started():
        assert rig.toggles.kill_switch is True, "a restart is killed too"
        assert "the store is empty" in rig.kill.status.reason
        await rig.kill.set(False, reason="I looked", by="ann")
        assert rig.toggles.exposure_percent == 100


async def test_a_person_who_releases_a_sidecar_that_knows_nothing_is_obeyed(rig):
    await changed(rig, 50)
    spoil(rig)
    rig.journal.trouble = GONE
    async with rig.started():
        await rig.kill.set(False, reason="I looked", by="ann")
        rig.journal.trouble = ""
        await rig.turn()
        assert (rig.toggles.kill_switch, rig.toggles.exposure_percent) == (False, 50)


async def test_two_sidecars_that_made_the_same_number_settle_on_the_stores(rig, tmp_path):
    """One of them by a kill, which asks no store."""
    (tmp_path / "other").mkdir()
    other = Rig(tmp_path / "other")
    other.store, other.journal = rig.store, rig.journal
    async with rig.started(), other.started():
        rig.journal.trouble = GONE
        await other.kill.set(True, reason="r", by="bob")
        rig.journal.trouble = ""
        await rig.patch(exposure_percent=50)
        assert (rig.toggles.version, other.toggles.version) == (2, 2)
        for _ in range(3):
            await other.turn()
        assert (other.toggles.version, other.toggles.kill_switch, other.toggles.exposure_percent) == (
            3, True, 50,
        )  # fmt: skip
        assert not other.control._behind
    assert rig.kinds() == [(1, "file"), (2, "patch"), (3, "kill")]


async def test_a_full_disk_refuses_changes_and_what_was_there_stays(rig, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    async with rig.started() as control:
        before = rig.file.read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(StoreError, match=r"toggles\.json.*No space left"):
                await rig.patch(exposure_percent=50)
            assert (rig.toggles.version, rig.kinds()) == (1, [(1, "file")])
            assert rig.file.read_bytes() == before
            await rig.kill.set(True, reason="r", by="ann")
            await rig.turn()
            assert "would bring back older toggles" in " ".join(control.troubles())
        await rig.turn()
        assert list(control.troubles()) == []
    rig.journal.trouble = GONE
    async with rig.started():
        assert rig.toggles.kill_switch is True


async def test_a_file_that_cannot_be_replaced_in_the_end_is_told_and_tried_again(rig):
    """The store has it by then, so it holds."""
    async with rig.started() as control:
        rig.file.unlink()
        rig.file.mkdir()
        assert (await rig.patch(exposure_percent=50)).version == 2
        assert "would bring back older toggles" in " ".join(control.troubles())
        rig.file.rmdir()
        await rig.turn()
        assert list(control.troubles()) == []


async def test_what_the_store_may_have_although_it_was_refused_never_takes_effect(rig):
    """The commit's answer was lost: the client was told 503."""
    async with rig.started():
        rig.journal.lost = "no answer within 5 s, it may or may not have been written"
        with pytest.raises(StoreError, match="may or may not"):
            await rig.patch(exposure_percent=50)
        assert (rig.toggles.version, rig.toggles.exposure_percent) == (1, 100)
        await rig.turn()
    async with rig.started():  # killed before the store came back
        rig.journal.trouble = ""
        await rig.turn()
        assert rig.toggles.exposure_percent == 100
        assert rig.kinds() == [(1, "file"), (2, "patch"), (3, "kept")]
        assert "version 2 was refused" in rig.control.read().metadata["reason"]


async def test_a_restart_knows_what_was_refused_in_doubt_even_if_killed_at_once(rig):
    """Nothing else wakes whoever looks after it: the caller alone does."""
    control = rig.made()
    control.restore()
    await control.begin()
    rig.journal.lost = "no answer within 5 s, it may or may not have been written"
    with pytest.raises(StoreError, match="may or may not"):
        await rig.patch(exposure_percent=50)
    control._running.cancel()
    rig.journal.trouble = ""
    async with rig.started():
        assert rig.toggles.exposure_percent == 100
        assert [kind for _, kind in rig.kinds()] == ["file", "patch", "kept"]


async def test_what_is_in_doubt_is_settled_without_anybody_asking(rig):
    control = rig.made()
    control.restore()
    await control.begin()
    rig.journal.lost = "no answer within 5 s, it may or may not have been written"
    with pytest.raises(StoreError, match="may or may not"):
        await rig.patch(exposure_percent=50)
    rig.journal.trouble = ""
    async with asyncio.timeout(10):
        while rig.kinds() != [(1, "file"), (2, "patch"), (3, "kept")]:  # noqa: ASYNC110 - told by nobody
            await asyncio.sleep(0)
    await control.stop()


async def test_a_number_that_was_shown_before_a_crash_never_comes_again(rig):
    """Shown, and remembered nowhere: neither disk nor store."""
    async with rig.started(ended=False):
        await rig.patch(exposure_percent=50)
        rig.journal.trouble = GONE
        rig.kill._store.save = rig.control._keeper._save = lambda _: (_ for _ in ()).throw(StoreError("full"))
        for _ in range(3):
            await rig.kill.set(True, reason="r", by="bob")
        shown = rig.toggles.version
    rig.journal.trouble = ""
    async with rig.started(ended=False):
        assert rig.toggles.version == 2, "that number has the same document"
        assert (await rig.patch(exposure_percent=20)).version > shown
        shown = rig.toggles.version
    async with rig.started():
        assert rig.toggles.version == shown
        assert (await rig.patch(exposure_percent=10)).version > shown + 1
        shown = rig.toggles.version
    async with rig.started():
        assert (await rig.patch(exposure_percent=5)).version == shown + 1, "after a clean end without a gap"


@pytest.mark.parametrize("promised", [True, False])
async def test_what_the_store_got_before_a_crash_lies_under_what_came_since(rig, promised):
    async with rig.started(ended=False):
        await rig.patch(exposure_percent=50)
        before = rig.file.read_bytes()
        await rig.patch(exposure_percent=20)
    rig.file.write_bytes(before)
    rig.journal.trouble = GONE
    async with rig.started(ended=False) as control:
        if not promised:  # as by a file of before there were promises
            control._state.numbers.last = 2
        await rig.kill.set(True, reason="burns", by="bob")
        rig.journal.trouble = ""
        for _ in range(3):
            await rig.turn()
        shown = rig.toggles.version
        assert (rig.toggles.kill_switch, rig.toggles.exposure_percent) == (True, 20)
        assert (await rig.patch(exposure_percent=10)).version == shown + 1
    assert [kind for _, kind in rig.kinds()][-1] == "patch"
    versions = [version for version, _ in rig.plane.applied]
    assert versions == sorted(set(versions)), "each policy has a number of its own, and a higher one"


async def test_a_store_that_is_older_than_the_file_gets_its_version_and_that_is_told(rig, caplog):
    await changed(rig, 50, 20)
    backup = MemoryStore()
    first = rig.store.read(lambda it: it.toggles.get(1))
    backup.write(lambda it: it.toggles.append(first))
    rig.store = rig.journal.store = backup
    async with rig.started():
        assert rig.toggles.exposure_percent == 20
        assert rig.kinds() == [(1, "file"), (3, "patch")]
    assert "the newest version in the store is 1; version 3 of the last good file holds" in caplog.text


async def test_a_foreign_file_of_the_same_number_gives_way_to_the_store(rig, tmp_path):
    await changed(rig, 50)
    (tmp_path / "other").mkdir()
    other = Rig(tmp_path / "other")
    other.wall.now += 1
    await changed(other, 30)
    rig.file.write_bytes(other.file.read_bytes())
    async with rig.started():
        await rig.turn()
        assert (rig.toggles.exposure_percent, rig.toggles.version) == (50, 3)
