"""Incident files: read strictly, and every mistake told at once."""

from pathlib import Path

import pytest

from proxy.core.toggles import Scope
from proxy.errors import SettingsError
from proxy.settings.incidents import load_incident

LIBRARY = Path(__file__).parents[2] / "config" / "incidents"
HEAD = 'title = "x"\nseconds = 100\n'
FAULT = '[[faults]]\nkind = "errors"\nfrom_s = 10\n'


@pytest.fixture
def problems(tmp_path):
    """Those of a file with this text, by place."""

    def read(text):
        path = tmp_path / "incident.toml"
        path.write_text(text)
        with pytest.raises(SettingsError) as caught:
            load_incident(path)
        assert {it.file for it in caught.value.problems} == {str(path)}
        return {it.path: f"{it.message} ({it.hint})" for it in caught.value.problems}

    return read


def test_the_least_that_is_an_incident(tmp_path):
    path = tmp_path / "incident.toml"
    path.write_text(HEAD)
    incident = load_incident(path)
    assert (incident.title, incident.seconds, incident.faults, incident.began) == ("x", 100.0, (), None)
    assert incident.rollback.mode == "act"


def test_everything_in_a_file_is_read(tmp_path):
    path = tmp_path / "incident.toml"
    path.write_text(
        HEAD
        + "capacity = { content = 40 }\n"
        + "[traffic]\nper_s = 3\nregions = { eu = 1, us = 2 }\n[rollback]\nhold_s = 5\n"
        + FAULT
        + 'until_s = 60\nregions = ["eu"]\n'
        + '[expect]\nfinal = ["NORMAL"]\nacts = true\nwithin_s = 9\nregions = ["eu"]\n'
    )
    incident = load_incident(path)
    assert (incident.began, incident.over) == (10.0, 60.0)
    assert incident.rollback.hold_s == 5.0
    assert incident.capacity == {"content": 40.0}
    assert incident.expect.scope == Scope(region=("eu",))


def test_every_mistake_is_told_at_once(problems):
    found = problems(
        "title = 3\nsecnds = 10\n[trafic]\n[traffic]\nper_s = 0\n[[faults]]\nknd = 1\n[expect]\nacts = true\n"
    )
    assert set(found) == {
        "title",
        "seconds",
        "secnds",
        "trafic",
        "traffic.per_s",
        "faults[0].kind",
        "faults[0].from_s",
        "faults[0].knd",
        "expect.final",
    }
    assert "did you mean 'seconds'?" in found["secnds"]
    assert "did you mean 'traffic'?" in found["trafic"]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("[traffic]\nswing = 0.2", "traffic.swing", "does nothing on flat"),
        ("[usual]\nmedian_ms = 50", "usual.p95_ms", "more than median_ms"),
        ('[usual]\nmedian_ms = "a"', "usual.median_ms", "valid number"),
        ("[faults]\nkind = 3", "faults", "[[faults]]"),
        (FAULT + "rise_s = 3", "faults[0].rise_s", "it is of ramp"),
        (FAULT + "add_ms = 3", "faults[0].add_ms", "it is of latency"),
        (FAULT + "share = 0", "faults[0].share", "greater than 0"),
        (FAULT + "until_s = 10", "faults[0].until_s", "not after from_s"),
        ('[[faults]]\nkind = "errors"\nfrom_s = 100', "faults[0].from_s", "after the end"),
        (FAULT + 'side = "control"', "faults[0].side", "asked by nobody"),
        (FAULT + 'source = "control"', "faults[0].source", "asked by nobody"),
        (FAULT + 'regions = ["eu"]', "faults[0].regions[0]", "traffic.regions names none"),
        (
            "[traffic]\nregions = { eu = 1 }\n" + FAULT + 'regions = ["ue"]',
            "faults[0].regions[0]",
            "there are: eu",
        ),
        ("[capacity]\nccf = 3", "capacity.ccf", "'cf', 'content' or 'control'"),
        ("[rollback]\nrecovery_steps = [5]", "rollback.recovery_steps", "should end at 100"),
        (
            '[[rollback.triggers]]\nname = "x"\nmetric = "error"\npriority = "P1"\nshare = 0.1\nshre = 1',
            "rollback.triggers[0].shre",
            "did you mean 'share'?",
        ),
        ("[traffic]\nper_s = 1e9", "traffic.per_s", "less than or equal"),
        ("[rollback]\nhlod_s = 3", "rollback.hlod_s", "did you mean 'hold_s'?"),
        (
            FAULT + '[expect]\nfinal = ["NORMAL"]\nacts = false\nwithin_s = 3',
            "expect.within_s",
            "acts says never",
        ),
        ('[expect]\nfinal = ["NORMAL"]\nacts = true\nwithin_s = 3', "expect.within_s", "there is none"),
        (
            FAULT + '[expect]\nfinal = ["NORMAL"]\nacts = true\nrecovered_within_s = 3',
            "expect.recovered_within_s",
            "does not end",
        ),
        ('[expect]\nfinal = ["GONE"]\nacts = true', "expect.final[0]", "NORMAL"),
    ],
)
def test_one_mistake(problems, text, place, words):
    found = problems(HEAD + text + "\n")
    assert list(found) == [place]
    assert words in found[place]


def test_more_kinds_of_requests_than_are_told_apart_are_refused(problems):
    names = ", ".join(f"n{at} = 1" for at in range(20))
    found = problems(HEAD + f"[traffic]\nregions = {{ {names} }}\nclients = {{ {names} }}\n")
    assert "400 combinations" in found["traffic"]


@pytest.mark.parametrize("path", sorted(LIBRARY.glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_ones_can_be_read_and_say_what_to_expect(path):
    incident = load_incident(path)
    assert incident.expect is not None
    assert incident.about
