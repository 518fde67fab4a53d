"""Every command of the page on simulation, run as it stands there, prints what the page shows."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.core.simulation.incident import Expect, Fault, Incident, Traffic, Usual

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "simulation.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
PARTS = [part for block in BLOCKS for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part]
COMMANDS = [part.strip().split("\n") for part in PARTS]


def shows(output, wanted):
    """Whether each wanted line occurs, in order; `…` stands for anything within it."""
    lines = iter(output.splitlines())
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in wanted]
    return all(any(re.fullmatch(pattern, line) for line in lines) for pattern in patterns)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_it_prints_what_the_page_shows(command, monkeypatch):
    monkeypatch.chdir(PROJECT)
    line, *wanted = command
    program, *words = shlex.split(line)
    assert program == "fusebox"
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert shows(result.stdout, wanted), result.stdout


def test_the_library_is_told_whole():
    table = PAGE.split("## The library")[1].split("## A file")[0]
    assert set(re.findall(r"`(\w+)`", table.split("|---|---|")[1])) == {
        path.stem for path in (PROJECT / "config" / "incidents").glob("*.toml")
    }


@pytest.mark.parametrize("record", [Incident, Traffic, Usual, Fault, Expect])
def test_every_key_is_told(record):
    table = PAGE.split("## A file")[1]
    told = set(re.findall(r"`\[*(\w+)\]*`", table))
    assert {it.name for it in fields(record)} <= told
