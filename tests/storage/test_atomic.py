"""Replacing a file whole."""

import errno
import os
import stat

import pytest

from proxy.ports import StoreError
from proxy.storage import atomic


def test_directories_are_made_and_only_the_owner_reads(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    atomic.replace(path, b"one")
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_and_directory_are_flushed_to_the_disk(tmp_path, monkeypatch):
    """The content before the name points to it, the name before the call returns."""
    synced = []
    real = os.fsync

    def fsync(handle):
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), (tmp_path / "file").exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic.replace(tmp_path / "file", b"one")
    assert synced == [(False, False), (True, True)]


def test_a_full_disk_leaves_the_old_content_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic.replace(path, b"old")

    def fsync(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match=r"file: cannot be written: No space left"):
        atomic.replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        atomic.replace(tmp_path / "a" / "file", b"")
