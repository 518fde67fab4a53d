"""The signing key: made once, kept from others."""

import stat
import threading

import pytest

from proxy.ports import StoreError
from proxy.storage.signing_key import load_or_make


def test_it_is_made_once_with_its_directory_for_its_owner_alone(tmp_path):
    path = tmp_path / "var" / "signing.key"
    made = load_or_make(path)
    assert (len(made), load_or_make(path)) == (32, made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert load_or_make(tmp_path / "other.key") != made


def test_all_who_make_it_at_once_get_the_same(tmp_path):
    """The command line beside a sidecar that starts."""
    path, found = tmp_path / "signing.key", []
    threads = [threading.Thread(target=lambda: found.append(load_or_make(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(set(found)), list(tmp_path.iterdir())) == (8, 1, [path])


@pytest.mark.parametrize("content", [b"", b"short", b"k" * 31, b"k" * 33, b"k" * 32 + b"\n"])
def test_a_file_that_holds_none_is_named_and_not_replaced(tmp_path, content):
    path = tmp_path / "signing.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StoreError, match=r"signing\.key: holds no key of 32 bytes: remove it"):
        load_or_make(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_one_that_others_could_read_or_write_is_refused(tmp_path, mode):
    path = tmp_path / "signing.key"
    load_or_make(path)
    path.chmod(mode)
    with pytest.raises(StoreError, match="others may read or write it"):
        load_or_make(path)


def test_a_place_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "var").write_text("")
    with pytest.raises(StoreError, match="var"):
        load_or_make(tmp_path / "var" / "signing.key")
