"""The keys of the audit log: made once, kept from others, never made anew in silence."""

import stat
import threading

import pytest

from proxy.ports import StoreError
from proxy.storage.audit_keys import load, load_or_make


def test_keys_are_made_once(tmp_path):
    """With the directory, mode 0600, and read back the same."""
    path = tmp_path / "var" / "audit.key"
    made = load_or_make(path)
    assert load_or_make(path) == load(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made.master != made.signing
    assert len(made.master) == len(made.signing) == 32
    assert list(path.parent.iterdir()) == [path]


def test_two_who_make_them_at_once_get_the_same(tmp_path):
    """The command line beside a sidecar that starts."""
    path = tmp_path / "audit.key"
    found = []
    threads = [threading.Thread(target=lambda: found.append(load_or_make(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({(it.master, it.signing) for it in found}) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_said_when_it_has_to_be_there(tmp_path):
    """Reading never makes keys."""
    with pytest.raises(StoreError, match=r"audit\.key: cannot be read"):
        load(tmp_path / "audit.key")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"master": 1, "signing": 2}', '{"master": "00", "signing": "00"}', "x"]
)
def test_a_file_that_is_none_is_not_replaced(tmp_path, content):
    """Whatever was sealed needs the old one: somebody has to put it back."""
    path = tmp_path / "audit.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(StoreError, match="put it back"):
        load_or_make(path)
    assert path.read_text() == content


def test_keys_that_others_could_read_are_refused(tmp_path):
    """They prove nothing any more."""
    path = tmp_path / "audit.key"
    load_or_make(path)
    path.chmod(0o640)
    with pytest.raises(StoreError, match="mode 640"):
        load(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    """A file where the directory should be."""
    (tmp_path / "var").write_text("")
    with pytest.raises(StoreError, match="var"):
        load_or_make(tmp_path / "var" / "audit.key")
