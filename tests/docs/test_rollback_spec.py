"""The page on rollback is that of the code: its tables, its diagram; and every command of it runs."""

import re
import shutil

import pytest
from test_readme import PROJECT, Shell, commands, free_port, succeeds

from proxy.core.rollback.machine import ACTIONS, AUTOMATIC, GUARDS, MOVES
from proxy.core.rollback.settings import DEFAULT_TRIGGERS
from proxy.core.toggles import STAGES
from proxy.settings.rollback_page import filled

PAGE = (PROJECT / "docs" / "rollback_spec.md").read_text()


def section(heading):
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_tables_and_diagram_are_those_of_the_machine():
    assert filled(PAGE) == PAGE, "make generated"
    for (state, event), move in MOVES.items():
        assert f"| {state} | `{event}` | " in section("Moves")
        if event in AUTOMATIC:
            assert re.search(rf"^    {state} --> {move.to}: .*\b{event}\b", section("States"), re.MULTILINE)
    for name in (*GUARDS, *ACTIONS, *STAGES):
        assert f"\n| `{name}` | " in PAGE


def test_triggers_are_told_as_they_are():
    shown = re.findall(r"^\| `(\w+)` \| ([\d.]+) % \| .+? \| (.*?) \|$", section("Triggers"), re.MULTILINE)
    assert [(name, float(share)) for name, share, _ in shown] == [
        (it.name, pytest.approx(it.share * 100)) for it in DEFAULT_TRIGGERS
    ]
    late = {name: float(ms) for name, _, told in shown for ms in re.findall(r"than (\d+) ms", told)}
    assert late == {it.name: it.target_ms for it in DEFAULT_TRIGGERS if it.target_ms is not None}


def test_every_command_prints_what_the_page_shows(tmp_path):
    """Against a sidecar with the shipped settings."""
    shutil.copytree(PROJECT / "config", tmp_path / "config", ignore=shutil.ignore_patterns("var"))
    settings = tmp_path / "config" / "fusebox.toml"
    ports = {port: str(free_port()) for port in ("8080", "8081")}
    settings.write_text(re.sub(r"\b(8080|8081)\b", lambda found: ports[found[0]], settings.read_text()))
    shell = Shell(tmp_path, FUSEBOX_ADMIN=f"http://127.0.0.1:{ports['8081']}")
    try:
        output, _ = shell.run("fusebox token create --role operator --name ann")
        shell.run(f"export FUSEBOX_TOKEN={output.split()[-1]}; fusebox serve > log 2>&1 &")
        blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
        for command in commands("".join(blocks)):
            succeeds(shell, command)
    finally:
        shell.end()
