"""What the pages for newcomers tell to type, run as it stands there, and its output compared with theirs."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from proxy.cli import main
from proxy.clock import monotonic
from proxy.demo.processes import free_port

PROJECT = Path(__file__).parents[2]
PAGES = {
    name: (PROJECT / name).read_text()
    for name in ("README.md", "docs/tour.md", "docs/runbooks/kill_switch.md")
}
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


def tour(page: str) -> list[Command]:
    run = "".join(body for reason, language, body in BLOCK.findall(PAGES[page]) if not reason)
    return list(commands(run))


class Shell:
    """One bash for all commands, so that variables and jobs are those of the reader."""

    def __init__(self, directory: Path, **env: str) -> None:
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
            }
            | env,
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


def shows(output: str, wanted: tuple[str, ...]) -> bool:
    """Whether each wanted line occurs, in order; `…` stands for anything within it."""
    lines = iter(output.splitlines())
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in wanted]
    return all(any(re.fullmatch(pattern, line.rstrip()) for line in lines) for pattern in patterns)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the pages use curl")
@pytest.mark.parametrize("page", PAGES)
def test_every_command_prints_what_the_page_shows(page, tmp_path, monkeypatch):
    for name in ("FUSEBOX_CONFIG", "FUSEBOX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    ports = {port: str(free_port()) for port in PORTS}

    def moved(text: str) -> str:
        return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: ports[found[0]], text)

    shutil.copytree(PROJECT / "config", tmp_path / "config", ignore=shutil.ignore_patterns("var"))
    settings = tmp_path / "config" / "fusebox.toml"
    settings.write_text(moved(settings.read_text()))
    # the default of --admin, which a page need not repeat, has moved as well
    shell = Shell(tmp_path, FUSEBOX_ADMIN=moved("http://127.0.0.1:8081"))
    try:
        for command in tour(page):
            succeeds(
                shell, command._replace(line=moved(command.line), shown=tuple(map(moved, command.shown)))
            )
    finally:
        shell.end()


def succeeds(shell: Shell, command: Command) -> None:
    deadline = monotonic() + PATIENCE_S
    while True:
        output, code = shell.run(command.line)
        if code == command.exit_code and shows(output, command.shown):
            return
        told = f"$ {command.line}\n{output}\nexit {code}, but the page shows\n{command.shown}"
        assert monotonic() < deadline, told
        assert not command.line.endswith("&"), told


@pytest.mark.parametrize("page", PAGES)
def test_a_console_block_is_run_or_says_why_not(page):
    blocks = BLOCK.findall(PAGES[page])
    assert len(blocks) == PAGES[page].count("```") / 2
    assert {language for _, language, _ in blocks} == {"console"}
    assert len(tour(page)) > 9


def test_a_command_may_be_shown_to_fail():
    told_apart = [Command("false", (), 1), Command("echo $?", ("1",), 0), Command("a", ("b …",), 0)]
    assert list(commands("$ false\n$ echo $?\n1\n$ a\nb …\n")) == told_apart


def test_what_is_shown_is_compared():
    """The comparison itself can fail: another value, another order, a missing line."""
    assert shows('noise\n{"a":1,"b":2}\nend', ('{"a":…}', "end"))
    assert not shows('{"a":1}', ('{"a":2}',))
    assert not shows("one\ntwo", ("two", "one"))
    assert not shows("one", ("one", "two"))


EVERY_PAGE = ["README.md", *(str(page.relative_to(PROJECT)) for page in sorted(PROJECT.glob("docs/**/*.md")))]
STANDS_FOR = {"NAME": "cf", "ROLE": "viewer", "KEY|FILE": "KEY", "N": "2"}
"""What a reader would put there; a FILE is a file."""


def words(line: str) -> list[str]:
    """The words after `fusebox`, optional ones among them, without what the shell takes."""
    command = re.sub(r"[\[\]…]|\s[>|&].*", "", line)
    return [STANDS_FOR.get(word, word) for word in shlex.split(command, comments=True)[1:]]


def understood(line: str) -> None:
    """Have the command line read the words, down to the last option; nothing is carried out."""
    left: list[str] = words(line)
    command: click.Command = main
    while isinstance(command, click.Group):
        name, found, left = command.resolve_command(click.Context(command), left)
        assert found is not None, f"{line}: no command {name}"
        command = found
    with command.make_context(command.name, left):
        pass


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_command_of_ours_is_one(page, tmp_path, monkeypatch):
    """In blocks and in tables: names of commands and options, and what they take."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    (tmp_path / "elsewhere").touch()  # as the tour makes it
    text = (PROJECT / page).read_text()
    found = []
    for language, block in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL):
        prompt = r"\$ " if language == "console" else ""
        found += re.findall(rf"^{prompt}(fusebox .+)$", block.replace("\\\n", " "), re.MULTILINE)
    for line in found:
        understood(line)
    for line in re.findall(r"`(fusebox [^`|]+)`", text):
        with suppress(click.MissingParameter):  # in a sentence the name may be enough
            understood(line)


@pytest.mark.parametrize("line", ["fusebox nonsense", "fusebox kill on --why x", "fusebox kill maybe"])
def test_a_command_that_is_none_is_found(line):
    with pytest.raises(click.UsageError):
        understood(line)


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_link_leads_somewhere(page):
    """Links inside the project name files, and headings, that are there."""
    text = (PROJECT / page).read_text()
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        found = (PROJECT / page).parent / target if target else PROJECT / page
        assert found.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, (
                heading
            )
