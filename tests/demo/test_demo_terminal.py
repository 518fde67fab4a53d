"""The demo on a terminal: the live picture of a whole run, its verdict, the terminal as it was before."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from proxy.demo.story import Phase

COLUMNS, ROWS = 120, 45
COMMAND = [sys.executable, "-m", "proxy", "demo"]
OVERRIDING = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in OVERRIDING}
ENVIRONMENT["TERM"] = "xterm-256color"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
PROMISES = 10
"""A line each in the verdict."""


class Terminal:
    """A demo, and what it has written to its terminal so far."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.written = ""
        self._master = master

    def read(self, until: Callable[[], object] = lambda: False) -> None:
        """Take what is written, up to the end or until the condition holds."""
        while not until():
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # Linux: EIO once nobody has the other side open
                data = b""
            if not data:
                return
            self.written += data.decode(errors="replace")

    @property
    def text(self) -> str:
        """Without what moves, erases and colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written)

    @property
    def sane(self) -> bool:
        """The cursor is shown, nothing is coloured, and the other screen is not in use."""
        coloured = re.findall(r"\x1b\[([0-9;]*)m", self.written)
        return (
            self.written.rfind(SHOW) > self.written.rfind(HIDE) >= 0
            and coloured[-1:] in ([], ["0"], [""])
            and "\x1b[?1049h" not in self.written
        )


@contextmanager
def demo(*arguments: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        try:
            process = subprocess.Popen(
                [*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, env=ENVIRONMENT
            )
        finally:
            os.close(slave)
        with process:
            try:
                yield Terminal(process, master)
            finally:
                process.kill()
    finally:
        os.close(master)


@pytest.mark.timeout(180)
def test_a_whole_run_is_shown_live_and_keeps_every_promise():
    """Hang, errors, lost answers and the kill switch, against the real sidecar: exit 0."""
    with demo("--seconds", "12") as terminal:
        terminal.read()
        assert terminal.process.wait(30) == 0, terminal.text
    text = terminal.text
    for phase in Phase:
        assert phase in text
    assert max(int(rate) for rate in re.findall(r"recommendations +(\d+)/s", text)) > 0
    assert max(int(rate) for rate in re.findall(r"writes +(\d+)/s done", text)) > 0
    latencies = [
        (int(p50), int(p99)) for p50, p99 in re.findall(r"latency +p50 (\d+) ms +p99 (\d+) ms", text)
    ]
    assert max(latencies) > (0, 0)
    assert all(p50 <= p99 for p50, p99 in latencies)
    states = set(re.findall(r"closed, \d+% let in|half_open|closed|open|\?", text))
    assert {"closed", "open"} < states
    assert any("let in" in state for state in states)
    assert re.search(r" cf +content +payment +email ", text), "the breakers by name"
    assert len(re.findall(r" kept ", text)) == PROMISES
    assert "BROKEN" not in text
    assert text.rindex("What was promised") > text.rindex("recommendations "), "the picture has gone before"
    assert terminal.sane


@pytest.mark.timeout(60)
def test_an_interrupted_picture_leaves_the_terminal_as_it_was():
    with demo() as terminal:
        terminal.read(until=lambda: "latency" in terminal.text)
        terminal.process.send_signal(signal.SIGINT)
        terminal.read()
        assert terminal.process.wait(30) == 130
    assert "interrupted; everything is stopped" in terminal.text
    assert "Traceback" not in terminal.text
    assert terminal.sane
