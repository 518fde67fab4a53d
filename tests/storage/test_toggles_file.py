"""The last good toggles on disk: checksummed, the generation before beside them, never half."""

import errno
import hashlib
import os

import orjson
import pytest

from proxy.ports import StoreError
from proxy.storage.toggles_file import TogglesFile


def understood(content):
    if content == b"odd":
        raise ValueError("nothing that I know")
    return content.decode()


def saved(path, *contents):
    file = TogglesFile(path)
    for content in contents:
        file.prepare(content).commit()
    return TogglesFile(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "var" / "toggles.json"


def test_it_comes_back_as_it_was(path):
    found = saved(path, b"one", b"two\nlines").load(understood)
    assert (found.found, found.trouble) == ("two\nlines", "")


def test_there_never_was_one(path):
    assert TogglesFile(path).load(understood) is None


def test_a_person_can_read_it_and_compare_its_checksum(path):
    saved(path, b'{"a": 1}')
    line, content = path.read_bytes().split(b"\n", 1)
    assert content == b'{"a": 1}'
    assert orjson.loads(line) == {
        "format": 1,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


@pytest.mark.parametrize("bad", [b"", b"{", b"{}\n", b"null\nx", b"\xff\xfe\n"])
def test_of_a_damaged_one_the_one_before_is_found_and_that_is_told(path, bad):
    file = saved(path, b"one", b"two")
    path.write_bytes(bad)
    found = file.load(understood)
    assert found.found == "one"
    assert "toggles.json cannot be used" in found.trouble


def test_every_byte_counts(path):
    file = saved(path, b"one", b"two")
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert file.load(understood).found == "one"
        path.write_bytes(whole[:at])
        assert file.load(understood).found == "one"


def test_one_that_nobody_understands_counts_as_damaged(path):
    file = saved(path, b"one", b"odd")
    assert "nothing that I know" in file.load(understood).trouble


def test_one_that_is_gone_is_no_first_start(path):
    file = saved(path, b"one", b"two")
    path.unlink()
    found = file.load(understood)
    assert (found.found, found.trouble) == ("one", f"{path} is missing")


def test_of_another_format_is_told(path):
    file = saved(path, b"one", b"two")
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))
    assert "it is of format 2, and this version knows 1" in file.load(understood).trouble


def test_both_damaged_is_an_error_that_names_both(path):
    file = saved(path, b"one")
    path.write_bytes(b"{")
    with pytest.raises(StoreError, match=r"toggles\.json cannot.*toggles\.json\.before is missing"):
        file.load(understood)
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match="Is a directory"):
        file.load(understood)


def test_a_damaged_one_never_takes_the_place_of_the_one_before(path):
    saved(path, b"one", b"two")
    path.write_bytes(b"{")
    file = TogglesFile(path)
    file.load(understood)
    file.prepare(b"three").commit()
    path.write_bytes(b"{")
    assert file.load(understood).found == "one"


def test_what_is_prepared_is_not_in_force_and_can_be_given_up(path):
    file = saved(path, b"one")
    file.load(understood)
    prepared = file.prepare(b"two")
    assert file.load(understood).found == "one"
    prepared.discard()
    assert sorted(it.name for it in path.parent.iterdir()) == ["toggles.json", "toggles.json.before"]


def test_a_full_disk_changes_nothing(path, monkeypatch):
    file = saved(path, b"one", b"two")
    file.load(understood)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            file.prepare(b"three")
    assert TogglesFile(path).load(understood).found == "two"
    assert len(list(path.parent.iterdir())) == 2
