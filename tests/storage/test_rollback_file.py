"""The state of the rollback on disk: the newest, else the one before it, else an error that says so."""

import pytest

from proxy.ports import StoreError
from proxy.storage.rollback_file import RollbackFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "var" / "rollback.json"


def test_it_comes_back_as_it_was(path):
    file = RollbackFile(path)
    assert file.load(bytes.decode) is None
    file.save(b"one")
    file.save(b"two")
    found = RollbackFile(path).load(bytes.decode)
    assert (found.found, found.trouble) == ("two", "")


def test_a_damaged_one_gives_the_one_before_and_says_so(path):
    file = RollbackFile(path)
    file.save(b"one")
    file.save(b"two")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = RollbackFile(path).load(bytes.decode)
    assert found.found == "one"
    assert "its checksum is wrong" in found.trouble


def test_with_both_damaged_nobody_can_tell(path):
    RollbackFile(path).save(b"one")
    path.write_bytes(b"{")
    with pytest.raises(StoreError, match=r"rollback\.json cannot be used"):
        RollbackFile(path).load(bytes.decode)


def test_what_cannot_be_written_leaves_the_one_there_is(path, monkeypatch):
    file = RollbackFile(path)
    file.save(b"one")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as there_is_no_room:
        there_is_no_room.setattr("os.fsync", full)
        with pytest.raises(StoreError, match="cannot be written: No space left"):
            file.save(b"two")
    assert RollbackFile(path).load(bytes.decode).found == "one"
