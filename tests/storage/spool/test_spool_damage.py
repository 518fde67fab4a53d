"""The spool after damage and death: nothing is made up, nothing acknowledged is lost."""

import errno
import fcntl
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spooling import entry, numbers, take_all

import proxy.storage.spool as module
from proxy.ports import StoreError
from proxy.storage.spool import FRAME, SpoolFile, SpoolReader

ROUNDS = int(os.environ.get("FUSEBOX_SPOOL_KILLS", "12"))


def written(writing, folder, count=5):
    """A finished file of so many entries: its path and where each frame begins."""
    spool = writing()
    for n in range(count):
        spool.add(entry(n))
    spool.close()
    (file,) = folder.iterdir()
    return file, [n * (FRAME.size + len(entry(0))) for n in range(count + 1)]


@pytest.mark.parametrize("at", [0, 3, 4, 8, 12])
def test_a_frame_that_was_changed_is_told_and_the_others_are_read(writing, folder, reader, at):
    file, starts = written(writing, folder)
    data = bytearray(file.read_bytes())
    data[starts[2] + at] ^= 0x40
    file.write_bytes(data)
    assert take_all(reader) == ([0, 1, 3, 4], [(starts[2], starts[3] - starts[2])])


def test_a_hole_as_a_power_cut_leaves_it(writing, folder, reader):
    file, starts = written(writing, folder)
    data = bytearray(file.read_bytes())
    data[starts[1] : starts[3]] = bytes(starts[3] - starts[1])
    file.write_bytes(data)
    assert take_all(reader) == ([0, 3, 4], [(starts[1], starts[3] - starts[1])])


@pytest.mark.parametrize("left", [1, 7, 8, 9, 15])
def test_a_torn_end_is_told(writing, folder, reader, left):
    file, starts = written(writing, folder)
    os.truncate(file, starts[4] + left)
    assert take_all(reader) == ([0, 1, 2, 3], [(starts[4], left)])


def test_the_rest_of_a_living_writers_file_may_be_half_a_frame(writing, folder, reader):
    spool = writing()
    spool.add(entry(0))
    (file,) = folder.iterdir()
    end = FRAME.size + len(entry(0))
    with file.open("r+b") as handle:
        handle.seek(end)
        handle.write(FRAME.pack(len(entry(1)), 7) + entry(1)[:4])
    batch = reader.read(file.name, 0, 9)
    assert (numbers(batch), batch.damaged, batch.position, batch.finished) == ([0], (), end, False)
    spool.add(entry(1))
    assert numbers(reader.read(file.name, end, 9)) == [1]


def test_a_frame_that_was_read_while_it_was_written_is_read_again(writing, reader, monkeypatch):
    """Its second page was read after the next frame was there, its first one before itself was."""
    spool = writing()
    spool.add(entry(0))
    spool.add(entry(1))
    real = module._rest

    def half(handle, position):
        monkeypatch.undo()
        data = real(handle, position)
        return bytes(10) + data[10:]

    monkeypatch.setattr(module, "_rest", half)
    batch = reader.read(reader.files()[0], 0, 9)
    assert (numbers(batch), batch.damaged) == ([0, 1], ())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_nothing_is_made_up_from_damaged_bytes(tmp_path_factory, data):
    """Whatever is flipped, cut or zeroed, only entries that were written are read, in their order."""
    folder = tmp_path_factory.mktemp("spool")
    spool = SpoolFile(folder)
    for n in range(8):
        spool.add(entry(n, n * 7))
    spool.close()
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    found, _ = take_all(SpoolReader(folder))
    assert found == sorted(set(found))
    assert set(found) <= set(range(8))


def test_a_file_without_an_allocation_yet_is_left_alone(folder, reader):
    folder.mkdir(parents=True)
    (folder / "00000000001-1-aa-0-00000000.spool").touch()
    assert reader.files() == []


def test_what_is_gone_reads_as_finished(folder, reader):
    assert reader.files() == []
    assert reader.read("nothing.spool", 0, 9).finished
    reader.remove("nothing.spool")


def test_waiting_is_what_was_written_and_not_yet_taken(writing, reader):
    spool = writing()
    assert reader.waiting({}) == 0
    spool.add(entry(1))
    spool.add(entry(2))
    frame = FRAME.size + len(entry(1))
    assert reader.waiting({}) == 2 * frame
    (name,) = reader.files()
    assert reader.waiting({name: frame}) == frame


# -- death


def test_nothing_acknowledged_is_lost_by_kill_9(folder, reader):
    """A child writes and prints what it has written; it is killed at any moment."""
    chance = random.Random(7)
    program = Path(__file__).with_name("spool_writer.py")
    for size in (chance.choice([10, 200, 9000]) for _ in range(ROUNDS)):
        child = subprocess.Popen([sys.executable, program, folder, str(size)], stdout=subprocess.PIPE)
        try:
            lines = bytearray(os.read(child.stdout.fileno(), 4096))  # it has begun
            ends = time.monotonic() + chance.uniform(0, 0.03)
            while time.monotonic() < ends:
                lines += os.read(child.stdout.fileno(), 65536)
        finally:
            child.kill()
            while more := os.read(child.stdout.fileno(), 65536):
                lines += more
            child.wait()
            child.stdout.close()
        acknowledged = int(bytes(lines).split(b"\n")[-2])
        names = reader.files()
        found, damaged = take_all(reader, 100)
        assert len(found) - 1 in (acknowledged, acknowledged + 1)
        assert found == list(range(len(found)))
        assert len(damaged) <= 1, "at most the frame that was being written"
        assert reader.files() == [], f"a dead writer's files are finished: {names}"


def test_a_reader_beside_a_writer_sees_no_damage(folder, reader):
    """Reading while another process writes as fast as it can."""
    program = Path(__file__).with_name("spool_writer.py")
    child = subprocess.Popen([sys.executable, program, folder, "300"], stdout=subprocess.DEVNULL)
    positions, found = {}, []
    try:
        ends = time.monotonic() + 30
        while len(found) < 20_000:
            assert time.monotonic() < ends
            for name in reader.files():
                batch = reader.read(name, positions.get(name, 0), 1000)
                assert batch.damaged == ()
                found += numbers(batch)
                positions[name] = batch.position
                if batch.finished:
                    reader.remove(name)
    finally:
        child.kill()
        child.wait()
    assert found == list(range(len(found)))


def test_the_lock_of_the_living_is_the_kernels(writing, folder):
    writing().add(entry(1))
    (file,) = folder.iterdir()
    with file.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_what_no_writer_makes_is_in_nobodys_way(writing, folder, reader):
    """Directories, links that lead nowhere or in circles, names that no store can keep."""
    folder.mkdir(parents=True)
    (folder / "0.spool").mkdir()
    (folder / "1.spool").symlink_to("1.spool")
    (folder / "2.spool").symlink_to("/nowhere")
    (folder / os.fsdecode(b"3\xff.spool")).write_bytes(b"3")
    spool = writing()
    spool.add(entry(0))
    spool.close()
    assert take_all(reader) == ([0], [])


def test_a_file_whose_file_system_is_gone_is_a_refusal_like_any_other(folder, reader, monkeypatch):
    """A network file system answers so even to who holds the file open."""
    spool = SpoolFile(folder, monotonic=iter(range(100)).__next__)
    spool.add(entry(0))
    works = os.fstat

    def stale(handle):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "fstat", stale)
    with pytest.raises(StoreError, match="cannot be written: Stale file handle"):
        spool.add(entry(1))
    monkeypatch.setattr(os, "fstat", works)
    spool.add(entry(2))
    spool.close()
    assert take_all(reader) == ([0, 2], [])
