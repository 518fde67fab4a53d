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
