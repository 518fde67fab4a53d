"""Filters in files: shared, and there again after whatever ended the process."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from proxy.core.seen import SIZE, Seen
from proxy.ports import StoreError
from proxy.storage.seen_file import KEPT, SeenFiles

DIES = """
import os, signal, sys
from pathlib import Path
from proxy.core.seen import Seen
from proxy.storage.seen_file import SeenFiles
seen = Seen(SeenFiles(Path(sys.argv[1])).open(b"salt", new=True))
for n in range(1000):
    seen.add(b"user-%d" % n)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def files(tmp_path):
    return SeenFiles(tmp_path / "var")


def left(files):
    return sorted(path.name for path in files._directory.iterdir())


def test_who_is_added_by_one_is_found_by_all_and_after_them(files):
    one, other = (Seen(files.open(b"salt", new=True)) for _ in range(2))
    one.add(b"ann")
    other.add(b"bob")
    assert b"bob" in one
    assert b"ann" in other
    del one, other
    again = Seen(files.open(b"salt", new=False))
    assert b"ann" in again
    assert b"bob" in again
    assert b"eve" not in again


def test_a_process_that_is_killed_loses_nobody(files):
    ended = subprocess.run([sys.executable, "-c", DIES, str(files._directory)], check=False, timeout=30)
    assert ended.returncode == -signal.SIGKILL
    seen = Seen(files.open(b"salt", new=False))
    assert all(b"user-%d" % n in seen for n in range(1000))


def test_every_experiment_has_its_own_and_old_ones_go(files):
    for n in range(KEPT + 3):
        Seen(files.open(b"salt %d" % n, new=True)).add(b"ann")
        os.utime(files.path(b"salt %d" % n), (n, n))
    assert len(left(files)) == KEPT + 1
    assert files.open(b"salt 0", new=False) is None
    assert b"ann" in Seen(files.open(b"salt %d" % (KEPT + 2), new=False))
    assert b"ann" not in Seen(files.open(b"another", new=True))


def test_none_is_made_unless_a_new_one_is_wanted(files):
    assert files.open(b"salt", new=False) is None
    assert not files._directory.exists()
    files.open(b"salt", new=True)
    path = files.path(b"salt")
    assert left(files) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_blocks * 512 >= SIZE  # all of it is there, so that no write can find the disk full


def test_two_that_make_it_at_once_share_one(files, monkeypatch):
    link = os.link

    def quicker(made, target):
        other = SeenFiles(files._directory)
        monkeypatch.setattr(os, "link", link)
        Seen(other.open(b"salt", new=True)).add(b"ann")
        link(made, target)

    monkeypatch.setattr(os, "link", quicker)
    assert b"ann" in Seen(files.open(b"salt", new=True))
    assert len(left(files)) == 1


def test_a_full_disk_is_told_and_leaves_nothing(files, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match="No space left"):
        files.open(b"salt", new=True)
    assert left(files) == []


def test_what_is_in_the_way_is_told(tmp_path):
    (tmp_path / "var").write_text("")
    with pytest.raises(StoreError, match="not a directory"):
        SeenFiles(tmp_path / "var").open(b"salt", new=True)


@pytest.mark.parametrize("content", [b"", b"fusebox seen 1\n", b"x" * 4096])
def test_a_file_of_something_else_is_left_alone(files, content):
    files._directory.mkdir()
    path = files.path(b"salt")
    path.write_bytes(content)
    for new in (True, False):
        with pytest.raises(StoreError, match=r"\.bloom: is no file of seen users; remove it"):
            files.open(b"salt", new=new)
    assert path.read_bytes() == content
