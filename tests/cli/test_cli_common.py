"""What several commands share: tables on terminals of any width."""

import sys

import pytest

from proxy.cli.common import tell_table

HEAD = ("TOGGLE", "MAY BE")
ROWS = [
    ("policy_mode", "one of bucket_gate, content_only or null"),
    ("kill_switch", "true or false"),
    ("x", None),
]
WHOLE = [
    "TOGGLE       MAY BE",
    "policy_mode  one of bucket_gate, content_only or null",
    "kill_switch  true or false",
    "x            -",
]


@pytest.fixture
def told(capsys, monkeypatch):
    def called(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: columns > 0, raising=False)
        tell_table(HEAD, ROWS)
        return capsys.readouterr().out.splitlines()

    return called


def test_what_is_no_terminal_gets_whole_lines(told):
    assert told(0) == WHOLE


@pytest.mark.parametrize("columns", [200, 53])
def test_what_fits_stays_whole(told, columns):
    assert told(columns) == WHOLE


def test_cells_go_on_below_on_a_narrow_terminal(told):
    assert told(40) == [
        "TOGGLE       MAY BE",
        "policy_mode  one of bucket_gate,",
        "             content_only or null",
        "kill_switch  true or false",
        "x            -",
    ]


def test_words_are_never_cut(told):
    assert told(20) == WHOLE
