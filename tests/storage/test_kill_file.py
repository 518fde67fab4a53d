"""The kill decision on disk."""

import json

import pytest

from proxy.ports import KillDecision, StoreError
from proxy.storage.kill_file import KillFile

DECISION = KillDecision(kill=True, reason='cf "burns"\n', by="ann", at="2026-01-02T03:04:05+00:00", version=7)


def test_a_decision_comes_back_as_it_was(tmp_path):
    KillFile(tmp_path / "kill.json").save(DECISION)
    assert KillFile(tmp_path / "kill.json").load() == DECISION


def test_without_a_file_there_was_no_decision(tmp_path):
    assert KillFile(tmp_path / "var" / "kill.json").load() is None


def test_the_file_has_the_documented_keys(tmp_path):
    path = tmp_path / "kill.json"
    KillFile(path).save(DECISION)
    assert json.loads(path.read_text()).keys() == {"kill", "reason", "by", "at", "version"}


def test_an_operator_may_write_it_by_hand(tmp_path):
    path = tmp_path / "kill.json"
    path.write_text('{"kill": true}')
    assert KillFile(path).load() == KillDecision(kill=True, reason="", by="", at="")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"kill": 1}',
        '{"kill": true, "by": 5}',
        '{"kill": true, "version": "7"}',
        "\xff",
    ],
)
def test_content_that_says_nothing_raises_instead_of_meaning_off(tmp_path, content):
    path = tmp_path / "kill.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(StoreError, match=r"kill\.json"):
        KillFile(path).load()


def test_a_path_that_is_no_file_raises(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        KillFile(tmp_path).load()
