"""The README's commands, run as they stand there, and what they print compared with what it shows."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.clock import monotonic
from proxy.demo.processes import free_port

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
BLOCK = re.compile(r"(?:<!-- (not run by the tests: [^>]+) -->\n)?```(\w*)\n(.*?)```\n", re.DOTALL)
PORTS = ("8080", "8081", "9101", "9102", "9103", "9104")
PATIENCE_S = 20.0
"""A command that does not print yet what it shall is repeated for so long, as a reader would."""


class Command(NamedTuple):
    line: str
    shown: tuple[str, ...]
    exit_code: int


def commands(text: str) -> Iterator[Command]:
    """The commands that are to be run, in order; `$ echo $?` says that the one before may fail."""
    told = [part.strip().split("\n") for part in re.split(r"^\$ ", text, flags=re.MULTILINE) if part.strip()]
    for (line, *shown), (following, *code) in zip(told, [*told[1:], [""]], strict=True):
        yield Command(line, tuple(shown), int(code[0]) if following == "echo $?" else 0)


def tour() -> list[Command]:
    run = "".join(body for reason, language, body in BLOCK.findall(README) if not reason)
    return list(commands(run))


class Shell:
    """One bash for all commands, so that variables and jobs are those of the reader."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=directory,
            env=os.environ
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(PROJECT),
                "no_proxy": "127.0.0.1",
            },
            start_new_session=True,
        )

    def run(self, line: str) -> tuple[str, int]:
        """Output and exit code."""
        end = "--end-of-command--"
        self.process.stdin.write(f'{line}\ncode=$?; printf "\\n{end} $code\\n"; (exit $code)\n')
        self.process.stdin.flush()
        output = []
        for told in self.process.stdout:
            if told.startswith(end):
                return "".join(output), int(told.split()[1])
            output.append(told)
        raise AssertionError(f"the shell ended: {output}")

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def shell(tmp_path):
    shutil.copytree(PROJECT / "config", tmp_path / "config", ignore=shutil.ignore_patterns("var"))
    shell = Shell(tmp_path)
    yield shell
    shell.end()


def shows(output: str, wanted: tuple[str, ...]) -> bool:
    """Whether each wanted line occurs, in order; `…` stands for anything within it."""
    lines = iter(output.splitlines())
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in wanted]
    return all(any(re.fullmatch(pattern, line.rstrip()) for line in lines) for pattern in patterns)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour is made with curl")
def test_every_command_prints_what_the_readme_shows(shell, tmp_path):
    ports = {port: str(free_port()) for port in PORTS}

    def moved(text: str) -> str:
        return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: ports[found[0]], text)

    settings = tmp_path / "config" / "fusebox.toml"
    settings.write_text(moved(settings.read_text()))
    for command in tour():
        line, wanted = moved(command.line), tuple(map(moved, command.shown))
        deadline = monotonic() + PATIENCE_S
        while True:
            output, code = shell.run(line)
            if code == command.exit_code and shows(output, wanted):
                break
            assert monotonic() < deadline, f"$ {line}\n{output}\nexit {code}, but the README shows\n{wanted}"
            assert not line.endswith("&"), line


def test_a_console_block_is_run_or_says_why_not():
    blocks = BLOCK.findall(README)
    assert len(blocks) == README.count("```") / 2
    assert {language for _, language, _ in blocks} == {"console"}
    assert len(tour()) > 20
    told_apart = [Command("false", (), 1), Command("echo $?", ("1",), 0), Command("a", ("b …",), 0)]
    assert list(commands("$ false\n$ echo $?\n1\n$ a\nb …\n")) == told_apart


def test_what_is_shown_is_compared():
    """The comparison itself can fail: another value, another order, a missing line."""
    assert shows('noise\n{"a":1,"b":2}\nend', ('{"a":…}', "end"))
    assert not shows('{"a":1}', ('{"a":2}',))
    assert not shows("one\ntwo", ("two", "one"))
    assert not shows("one", ("one", "two"))


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page.name}" for page in PROJECT.glob("docs/*.md"))])
def test_every_link_leads_somewhere(page):
    """Links inside the project name files that are there."""
    text = (PROJECT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((PROJECT / page).parent / target).exists(), target
