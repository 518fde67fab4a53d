"""`simulate`: what an incident file comes to, told and drawn."""

import sys
from pathlib import Path

import orjson
import pytest

INCIDENT = """
title = "An outage"
about = "Everything of cf fails."
seconds = 900
[[faults]]
kind = "errors"
source = "cf"
from_s = 300
until_s = 400
[expect]
final = ["RECOVERY_VERIFY"]
acts = true
within_s = 10
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "incident.toml"
    path.write_text(INCIDENT)
    return path


def test_it_tells_the_timeline_and_what_it_was_worth(run, file):
    result = run("simulate", file, "--tick", "1")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:3] == ["An outage", "Everything of cf fails.", "broken from 300 s to 400 s; 900 s in all"]
    assert any("ROLLBACK_PENDING  ROLLED_BACK" in line for line in lines)
    figures = {line[:28].strip(): line[30:] for line in lines}
    assert 0 < float(figures["rolled back after"].removesuffix(" s")) < 10
    assert figures["rolled back for nothing"] == "0"
    assert figures["at the end"] == "RECOVERY_VERIFY"
    assert lines[-1] == "as expected"


def test_the_same_as_json(run, file):
    result = run("simulate", file, "--tick", "1", "--json")
    told = orjson.loads(result.stdout)
    assert (told["title"], told["seed"], told["began_s"], told["over_s"]) == ("An outage", 1, 300.0, 400.0)
    assert told["timeline"][0]["before"] == "NORMAL"
    assert told["timeline"][0]["at_s"] > 300
    assert told["unmet"] == []
    assert told["harmed"] > 0


def test_the_same_seed_says_the_same_and_another_one_does_not(run, file):
    first, again, other = (
        run("simulate", file, "--tick", "1", "--seed", seed).stdout for seed in ("3", "3", "4")
    )
    assert first == again != other


def test_what_does_not_come_as_expected_is_exit_code_1(run, file):
    file.write_text(INCIDENT.replace("within_s = 10", "within_s = 0.5"))
    result = run("simulate", file, "--tick", "1")
    assert result.exit_code == 1
    assert "not as expected: rolled back after" in result.stderr
    assert "as expected" not in result.stdout


def test_mistakes_in_the_file_are_told_at_once(run, file):
    file.write_text(INCIDENT.replace("seconds", "secnds").replace("share", "shre") + "acs = 1\n")
    result = run("simulate", file)
    assert result.exit_code == 2
    assert "secnds: unknown key (did you mean 'seconds'?)" in result.stderr
    assert "expect.acs: unknown key (did you mean 'acts'?)" in result.stderr
    assert run("simulate", file.with_name("none.toml")).exit_code == 2


@pytest.mark.parametrize(("name", "begins"), [("run.png", b"\x89PNG"), ("run.html", b"<!doctype html>")])
def test_it_can_be_drawn(run, file, tmp_path, name, begins):
    pytest.importorskip("matplotlib")
    result = run("simulate", file, "--tick", "1", "--plot", tmp_path / name)
    assert result.exit_code == 0, result.stderr
    assert f"drawn: {tmp_path / name}" in result.stdout
    drawn = (tmp_path / name).read_bytes()
    assert drawn.startswith(begins)
    assert len(drawn) > 10_000
    assert b"http" not in drawn.split(b"base64")[0]


def test_a_plot_of_no_known_kind_is_a_usage_error(run, file):
    result = run("simulate", file, "--plot", "run.pdf")
    assert result.exit_code == 2
    assert ".png or .html" in result.stderr


def test_a_plot_that_cannot_be_written_is_told(run, file, tmp_path):
    pytest.importorskip("matplotlib")
    result = run("simulate", file, "--tick", "1", "--plot", tmp_path / "none" / "run.png")
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr


def test_without_the_library_a_plot_says_what_to_install(run, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("simulate", file, "--plot", "run.png")
    assert result.exit_code == 1
    assert "pip install 'fusebox[analytics]'" in result.stderr


def test_the_shipped_library_is_where_help_says(run):
    library = Path(__file__).parents[2] / "config" / "incidents"
    assert "config/incidents" in run("simulate", "--help").stdout
    assert len(list(library.glob("*.toml"))) == 17


def test_a_tick_that_is_no_number_is_told(run, file):
    result = run("simulate", file, "--tick", "nan")
    assert result.exit_code == 2
    assert "nan is no number" in result.stderr
