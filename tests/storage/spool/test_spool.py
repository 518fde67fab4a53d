"""The spool: what was acknowledged is read, once, in order, whatever became of the writer."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spooling import entry, numbers, take_all

from proxy.ports import StoreError
from proxy.storage.spool import SpoolFile, SpoolReader


def test_what_was_added_is_read_in_order_by_whoever_comes_later(writing, reader):
    spool = writing()
    for n in range(25):
        spool.add(entry(n))
    spool.close()
    assert take_all(reader) == (list(range(25)), [])
    assert reader.files() == []


def test_reader_and_writer_side_by_side(writing, reader):
    """A living writer's file is read as it grows, and never finished."""
    spool = writing()
    position = 0
    for n in range(5):
        spool.add(entry(n))
        (name,) = reader.files()
        batch = reader.read(name, position, 100)
        assert (numbers(batch), batch.damaged, batch.finished) == ([n], (), False)
        position = batch.position
        assert reader.read(name, position, 100).position == position
    spool.close()
    assert reader.read(name, position, 100).finished


def test_every_writer_has_files_of_its_own(writing, reader):
    one, other = writing(), writing()
    one.add(entry(1))
    other.add(entry(2))
    one.close()
    finished = {name: reader.read(name, 0, 9).finished for name in reader.files()}
    assert sorted(finished.values()) == [False, True], "each is locked by itself"
    assert sorted(take_all(reader)[0]) == [1, 2]


def test_only_the_owner_can_read(writing, folder):
    old = os.umask(0)
    try:
        writing().add(entry(1))
    finally:
        os.umask(old)
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nothing_is_made_for_nothing(writing, folder):
    spool = writing()
    spool.close()
    assert not folder.exists()
    assert spool.room(100)
    spool.release(100)
    spool.close()
    assert list(folder.iterdir()) == []


def test_a_full_file_is_cut_to_its_content_and_the_next_begins(writing, reader, folder):
    spool = writing(segment=4096)
    for n in range(30):
        spool.add(entry(n, 300))
    sizes = {it.name: it.stat().st_size for it in folder.iterdir()}
    names = sorted(sizes)
    assert len(names) > 2
    assert names == reader.files()
    assert all(sizes[name] % 4096 for name in names[:-1])
    assert sizes[names[-1]] == 4096, "allocated ahead"
    assert take_all(reader) == (list(range(30)), [])


# -- room


def test_full_is_full_until_the_reader_has_removed_something(writing, reader):
    spool = writing(limit=64 * 1024)
    taken = 0
    while spool.room(1000):
        spool.add(entry(taken, 900), reserved=1000)
        taken += 1
    assert 60 <= taken <= 70
    assert "audit.spool_bytes" in spool.trouble
    with pytest.raises(StoreError, match="spool is full"):
        spool.add(entry(99, 2000))
    found, _ = take_all(reader)
    assert found == list(range(taken))
    assert spool.room(1000)
    assert spool.trouble == ""


def test_the_limit_holds_for_all_writers_together(writing, folder):
    first, second = writing(limit=64 * 1024), writing(limit=64 * 1024)
    while first.room(1000):
        first.add(entry(1, 900), reserved=1000)
    assert not second.room(5000)
    assert sum(it.stat().st_size for it in folder.iterdir()) <= 64 * 1024


def test_what_was_promised_room_is_kept_when_everything_else_is_full(writing, reader):
    spool = writing(limit=64 * 1024)
    promised = 0
    while spool.room(1000):
        promised += 1
    with pytest.raises(StoreError, match="full"):
        spool.add(entry(99, 900))
    for n in range(promised):
        spool.add(entry(n, 900), reserved=1000)
    assert take_all(reader) == (list(range(promised)), [])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["room", "add", "release", "note"]), st.integers(20, 3000))))
def test_a_promise_is_never_broken(tmp_path_factory, moves):
    """However reservations, entries and unannounced notes follow each other."""
    folder = tmp_path_factory.mktemp("spool")
    spool = SpoolFile(folder, limit=48 * 1024, segment=4096)
    open_, kept, n = [], [], 0
    try:
        for move, size in moves:
            n += 1
            if move == "room" and spool.room(size):
                open_.append(size)
            elif move == "add" and open_:
                reserved = open_.pop(0)
                spool.add(entry(n).ljust(reserved), reserved=reserved)
                kept.append(n)
            elif move == "release" and open_:
                spool.release(open_.pop())
            elif move == "note":
                with contextlib.suppress(StoreError):
                    spool.add(entry(n, size))
                    kept.append(n)
        for reserved in open_:
            n += 1
            spool.add(entry(n).ljust(reserved), reserved=reserved)
            kept.append(n)
        assert sum(it.stat().st_size for it in folder.iterdir()) <= 48 * 1024
    finally:
        spool.close()
    assert take_all(SpoolReader(folder)) == (kept, [])


def in_a_child(code, *arguments):
    """Run code in a process of its own, whose limits are its own."""
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)


def test_a_disk_without_room_is_known_when_room_is_asked_for(folder, reader):
    """The limit on file size fails an allocation as a full disk does; what has room does not meet it."""
    code = """
import resource, sys
from pathlib import Path
from proxy.storage.spool import SpoolFile
spool = SpoolFile(Path(sys.argv[1]), segment=8192)
assert spool.room(4000)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
assert not spool.room(8000)
print(spool.trouble)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.add(b'{"n":1}', reserved=4000)
assert spool.room(8000)
"""
    done = in_a_child(code, folder)
    assert done.returncode == 0, done.stderr
    assert "no room can be made: File too large" in done.stdout
    assert take_all(reader) == ([1], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk(folder, reader):
    folder.mkdir(parents=True)
    argv = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    mounted = subprocess.run(argv, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode()}")
    try:
        spool = SpoolFile(folder, segment=64 * 1024)
        assert spool.room(10_000)
        with pytest.raises(OSError, match="No space"):
            (folder / "other").write_bytes(b"x" * 300 * 1024)
        assert not spool.room(60_000)
        assert "No space left" in spool.trouble
        spool.add(entry(1, 9000), reserved=10_000)
        with pytest.raises(StoreError, match="No space left"):
            spool.add(entry(2, 60_000))
        (folder / "other").unlink()
        spool.add(entry(3, 60_000))
        spool.close()
        assert take_all(reader) == ([1, 3], [])
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_directory_that_vanished_is_made_again(writing, folder, reader):
    now = [100.0]
    spool = writing(monotonic=lambda: now[0])
    spool.add(entry(1))
    shutil.rmtree(folder)
    now[0] += 1
    spool.add(entry(2))
    assert take_all(reader) == ([2], [])


def test_a_directory_that_cannot_be_made_is_told(writing, folder, reader):
    folder.parent.mkdir()
    folder.write_text("a file")
    spool = writing()
    assert not spool.room(10)
    with pytest.raises(StoreError, match=r"spool: no room can be made: File exists"):
        spool.add(entry(1))
    folder.unlink()
    spool.add(entry(2))
    assert take_all(reader) == ([2], [])


def test_a_disk_that_fails_is_told_and_the_next_entry_goes_elsewhere(writing, reader, monkeypatch):
    spool = writing()
    spool.add(entry(1))
    assert spool.room(100)
    monkeypatch.setattr(os, "pwrite", lambda *_: 3)
    with pytest.raises(StoreError, match="only 3 of"):
        spool.add(entry(2), reserved=100)
    monkeypatch.undo()
    spool.add(entry(3))
    assert take_all(reader)[0] == [1, 3]


def test_flushed_to_the_disk_when_asked(writing, folder, monkeypatch):
    """The content, and once per file the names that lead to it."""
    synced = []

    def named(handle):
        return str(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr(os, "fdatasync", lambda handle: synced.append("data"))
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(named(handle)))
    spool = writing()
    spool.add(entry(1))
    assert synced == []
    spool.add(entry(2), sync=True)
    spool.add(entry(3), sync=True)
    assert synced == ["data", str(folder), str(folder.parent), "data"]


@pytest.mark.parametrize("size", [0, (1 << 20) + 1])
def test_what_is_no_entry_is_refused(writing, size):
    with pytest.raises(StoreError, match="cannot be kept"):
        writing().add(b"x" * size)
