"""Tokens on disk: hashes only, seen by a running reader at once, safe beside other writers."""

import errno
import hashlib
import json
import stat
import subprocess
import sys

import pytest

from proxy.core.roles import Cause, Principal, Rejected, Role
from proxy.ports import StoreError
from proxy.storage.tokens import NameTaken, TokenFile

ANN = {"name": "ann", "role": "admin", "sha256": "0" * 64, "created": "1970-01-01T00:00:00+00:00"}
UNKNOWN = Rejected(cause=Cause.UNKNOWN)


class Wall:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def file(tmp_path, wall):
    return TokenFile(tmp_path / "var" / "tokens.json", wall=wall)


def test_a_token_stands_for_its_owner(file):
    ann, bob = file.create("ann", Role.ADMIN), file.create("bob", Role.VIEWER)
    assert file.verify(ann) == Principal(name="ann", role=Role.ADMIN)
    assert file.verify(bob) == Principal(name="bob", role=Role.VIEWER)


@pytest.mark.parametrize("token", ["", "fbx_", "x", "\udcff", "fbx_" + "A" * 43])
def test_what_is_no_token_stands_for_nobody(file, token):
    file.create("ann", Role.ADMIN)
    assert file.verify(token) == UNKNOWN


def test_before_the_first_token_nobody_is_known(file):
    assert file.verify("fbx_x") == UNKNOWN
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
    assert file.verify(file.records()[0].sha256) == UNKNOWN


def test_a_running_reader_sees_new_and_revoked_tokens(file):
    reader = TokenFile(file.path)
    ann = file.create("ann", Role.ADMIN)
    assert reader.verify(ann).name == "ann"
    bob = file.create("bob", Role.OPERATOR)
    assert isinstance(reader.verify(bob), Principal)
    assert file.revoke("ann") is True
    assert reader.verify(ann) == Rejected(cause=Cause.REVOKED, name="ann")
    assert isinstance(reader.verify(bob), Principal)
    assert file.revoke("ann") is False


def test_taking_the_file_away_takes_all_tokens_back(file):
    token = file.create("ann", Role.ADMIN)
    assert isinstance(file.verify(token), Principal)
    file.path.unlink()
    assert file.verify(token) == UNKNOWN


def test_a_name_means_one_token(file):
    file.create("ann", Role.ADMIN)
    with pytest.raises(NameTaken, match="'ann'"):
        file.create("ann", Role.VIEWER)
    assert [record.role for record in file.records()] == [Role.ADMIN]


def test_a_token_counts_until_it_expires(file, wall):
    token = file.create("ann", Role.ADMIN, ttl_s=90)
    assert file.records()[0].expires == "1970-01-01T00:01:30+00:00"
    wall.now = 89.9
    assert isinstance(file.verify(token), Principal)
    assert file.usable()
    wall.now = 90
    assert file.verify(token) == Rejected(cause=Cause.EXPIRED, name="ann")
    assert not file.usable()


def test_a_revoked_token_stays_in_the_file_and_its_name_is_never_used_again(file, wall):
    file.create("ann", Role.ADMIN)
    wall.now = 60
    assert file.revoke("ann") is True
    assert file.revoke("ann") is False
    assert [(it.name, it.revoked) for it in file.records()] == [("ann", "1970-01-01T00:01:00+00:00")]
    assert not file.usable()
    with pytest.raises(NameTaken, match="was revoked at 1970"):
        file.create("ann", Role.ADMIN)


def test_a_token_that_nobody_has_seen_leaves_nothing_behind(file):
    token = file.create("ann", Role.ADMIN)
    file.withdraw("ann")
    assert file.verify(token) == UNKNOWN
    file.create("ann", Role.VIEWER)


def test_what_cannot_be_recorded_does_not_happen(file):
    """Called under the lock with what is about to be true, and not at all for what is refused anyway."""
    told = []
    file.create("ann", Role.ADMIN, ttl_s=5, record=told.append)
    file.revoke("ann", record=told.append)
    assert [(it.name, it.expires[-14:-6], bool(it.revoked)) for it in told] == [
        ("ann", "00:00:05", False),
        ("ann", "00:00:05", True),
    ]

    def refuse(_):
        raise StoreError("full")

    bob = file.create("bob", Role.ADMIN)
    with pytest.raises(StoreError, match="full"):
        file.create("eve", Role.ADMIN, record=refuse)
    with pytest.raises(StoreError, match="full"):
        file.revoke("bob", record=refuse)
    assert isinstance(file.verify(bob), Principal)
    assert [it.name for it in file.records()] == ["ann", "bob"]
    with pytest.raises(NameTaken):
        file.create("bob", Role.ADMIN, record=refuse)
    assert file.revoke("ann", record=refuse) is False


def test_a_file_from_before_there_was_expiry_goes_on_to_work(file):
    token = "fbx_old"
    digest = hashlib.sha256(token.encode()).hexdigest()
    old = ANN | {"sha256": digest}
    file.path.parent.mkdir()
    file.path.write_text(json.dumps({"tokens": [old]}))
    assert file.verify(token) == Principal(name="ann", role=Role.ADMIN)
    file.create("bob", Role.VIEWER)
    assert json.loads(file.path.read_text())["tokens"][0] == old


def test_every_token_is_compared_whichever_is_asked_for(file, monkeypatch):
    tokens = [file.create(f"t{number}", Role.VIEWER) for number in range(3)]
    compared = []

    def counted(kept, asked):
        compared.append(kept)
        return kept == asked

    monkeypatch.setattr("proxy.storage.tokens.hmac.compare_digest", counted)
    for token in (*tokens, "fbx_none"):
        compared.clear()
        file.verify(token)
        assert len(compared) == 3


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
        json.dumps({"tokens": [ANN | {"expires": "soon"}]}),
        json.dumps({"tokens": [ANN | {"expires": "2026-01-01T00:00:00"}]}),
        json.dumps({"tokens": [ANN | {"expires": 5}]}),
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
    assert isinstance(file.verify(token), Principal)
    file.path.write_text("{")
    assert isinstance(file.verify(token), Principal)
    assert isinstance(file.verify(token), Principal)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    file.path.write_text(json.dumps({"tokens": []}))
    assert file.verify(token) == UNKNOWN


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
