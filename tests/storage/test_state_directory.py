"""The state directory: there or not, written or not."""

from pathlib import Path

import pytest

from proxy.ports import StoreError
from proxy.storage import directory

UNWRITABLE = Path("/proc/self")  # also for root, whom no permission stops


def test_missing_parents_are_made_and_a_second_time_is_fine(tmp_path):
    directory.make(tmp_path / "a" / "b")
    directory.make(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("below", [".", "sub"])
def test_a_file_in_its_place_is_told(tmp_path, below):
    (tmp_path / "var").write_text("")
    with pytest.raises(StoreError, match=r"var.* is not a directory"):
        directory.make(tmp_path / "var" / below)


@pytest.mark.skipif(not UNWRITABLE.exists(), reason="needs procfs")
def test_what_cannot_be_made_or_written_is_told_with_its_cause():
    with pytest.raises(StoreError, match="cannot be made: "):
        directory.make(UNWRITABLE / "var")
    with pytest.raises(StoreError, match="cannot be written: "):
        directory.try_write(UNWRITABLE)


def test_trying_leaves_nothing_behind(tmp_path):
    directory.try_write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_trying_to_make_it_makes_nothing(tmp_path):
    directory.try_make(tmp_path / "a" / "b")
    directory.try_make(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", [".", "sub"])
@pytest.mark.parametrize("what", ["file", "dangling link"])
def test_trying_to_make_it_tells_what_is_in_its_place(tmp_path, what, below):
    place = tmp_path / "var"
    if what == "file":
        place.write_text("")
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"var is not a directory"):
        directory.try_make(place / below)


@pytest.mark.skipif(not UNWRITABLE.exists(), reason="needs procfs")
def test_trying_to_make_it_where_nobody_can():
    with pytest.raises(StoreError, match=r"/proc/self cannot be written: "):
        directory.try_make(UNWRITABLE / "var")


def test_one_holds_it_at_a_time(tmp_path):
    with directory.hold(tmp_path):
        for _ in range(2):  # whoever is refused takes nothing away
            with (
                pytest.raises(directory.InUse, match="in use by another sidecar"),
                directory.hold(tmp_path),
            ):
                pass
    with directory.hold(tmp_path):
        pass


@pytest.mark.skipif(not UNWRITABLE.exists(), reason="needs procfs")
def test_where_no_lock_can_be_had_it_is_said_and_work_goes_on(caplog):
    with directory.hold(UNWRITABLE):
        pass
    assert "no lock on /proc/self" in caplog.text
