"""Tokens on disk: hashes only, seen by a running reader at once, safe beside other writers."""

import errno
import json
import stat
import subprocess
import sys

import pytest

from proxy.core.roles import Principal, Role
from proxy.ports import StoreError
from proxy.storage.tokens import NameTaken, TokenFile


@pytest.fixture
def file(tmp_path):
    return TokenFile(tmp_path / "var" / "tokens.json", wall=lambda: 0.0)


def test_a_token_stands_for_its_owner(file):
    ann, bob = file.create("ann", Role.ADMIN), file.create("bob", Role.VIEWER)
    assert file.verify(ann) == Principal(name="ann", role=Role.ADMIN)
    assert file.verify(bob) == Principal(name="bob", role=Role.VIEWER)


@pytest.mark.parametrize("token", ["", "fbx_", "x", "\udcff", "fbx_" + "A" * 43])
def test_what_is_no_token_stands_for_nobody(file, token):
    file.create("ann", Role.ADMIN)
    assert file.verify(token) is None


def test_before_the_first_token_nobody_is_known(file):
    assert file.verify("fbx_x") is None
    assert file.records() == ()


def test_only_the_hash_is_kept_and_only_the_owner_reads_it(file):
    token = file.create("ann", Role.ADMIN)
    assert token.startswith("fbx_")
    assert len(token) == 4 + 43, "256 bits in base64"
    assert token not in file.path.read_text()
    assert token[4:] not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_hash_is_no_token(file):
    file.create("ann", Role.ADMIN)
    assert file.verify(file.records()[0].sha256) is None


def test_a_running_reader_sees_new_and_revoked_tokens(file):
    reader = TokenFile(file.path)
    ann = file.create("ann", Role.ADMIN)
    assert reader.verify(ann)
    bob = file.create("bob", Role.OPERATOR)
    assert reader.verify(bob)
    assert file.revoke("ann") is True
    assert reader.verify(ann) is None
    assert reader.verify(bob)
    assert file.revoke("ann") is False


def test_taking_the_file_away_takes_all_tokens_back(file):
    token = file.create("ann", Role.ADMIN)
    assert file.verify(token)
    file.path.unlink()
    assert file.verify(token) is None


def test_a_name_means_one_token(file):
    file.create("ann", Role.ADMIN)
    with pytest.raises(NameTaken, match="'ann'"):
        file.create("ann", Role.VIEWER)
    assert [record.role for record in file.records()] == [Role.ADMIN]


def test_listed_oldest_first_with_their_time(file):
    file.create("ann", Role.ADMIN)
    file.create("bob", Role.VIEWER)
    assert [(it.name, it.created) for it in file.records()] == [
        ("ann", "1970-01-01T00:00:00+00:00"),
        ("bob", "1970-01-01T00:00:00+00:00"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"tokens": [5]}',
        '{"tokens": [{"name": "a", "role": "king", "sha256": "", "created": ""}]}',
    ],
)
def test_a_broken_file_is_an_error_and_never_overwritten(file, content):
    file.create("ann", Role.ADMIN)
    file.path.write_text(content)
    fresh = TokenFile(file.path)
    for work in (fresh.records, lambda: fresh.verify("x"), lambda: fresh.create("bob", Role.VIEWER)):
        with pytest.raises(StoreError, match="no list of tokens"):
            work()
    assert file.path.read_text() == content


def test_a_file_broken_under_a_running_reader_leaves_the_last_good_tokens(file, caplog):
    """The kill switch stays within reach, and the log says it once."""
    token = file.create("ann", Role.ADMIN)
    assert file.verify(token)
    file.path.write_text("{")
    assert file.verify(token)
    assert file.verify(token)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    file.path.write_text(json.dumps({"tokens": []}))
    assert file.verify(token) is None


def test_writers_at_the_same_time_lose_nothing(file):
    """Several processes, each making tokens."""
    work = (
        "import sys; from pathlib import Path; from proxy.core.roles import Role;"
        "from proxy.storage.tokens import TokenFile;"
        "[TokenFile(Path(sys.argv[1])).create(f'{sys.argv[2]}-{i}', Role.VIEWER) for i in range(10)]"
    )
    started = [subprocess.Popen([sys.executable, "-c", work, str(file.path), str(i)]) for i in range(4)]
    assert [each.wait(timeout=60) for each in started] == [0] * 4
    assert len(file.records()) == 40


def test_a_file_that_may_not_be_read_is_an_error(file, monkeypatch):
    file.create("ann", Role.ADMIN)

    def read_bytes(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(file.path), "read_bytes", read_bytes)
    with pytest.raises(StoreError, match="cannot be read: Permission denied"):
        TokenFile(file.path).verify("x")
