"""The data plane's verdict on each case of Http11Probe, and the table of them in `docs/wire.md`.

`python tests/wire/verdicts.py` writes the table anew. The cases are read from where they are
kept, beside the project; without them there is nothing to run.
"""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvloop
from harness import GoneError
from rig import sidecar

from proxy.core.policy import Deadlines

PROJECT = Path(__file__).parents[2]
CASES_FILE = PROJECT.parent / "shared" / "wire" / "http11probe.json"
TABLE = PROJECT / "docs" / "wire.md"
# Incomplete requests are cases too: their end is a deadline, so it comes soon.
DEADLINES = Deadlines(head_s=0.4, body_gap_s=0.4, idle_client_s=0.4, linger_s=0.2)

# The stored cases lost every byte beyond ASCII to "?". As their descriptions have it:
MENDED = {
    "MAL-NON-ASCII-HEADER-NAME": b"\xc3\xab",
    "MAL-NON-ASCII-URL": b"\xc3\xa9",
    "MAL-URL-OVERLONG-UTF8": b"\xc0\xaf",
}

INTRODUCTION = """\
# The wire: verdicts

What Fusebox does with each case of [Http11Probe](https://github.com/MDA2AV/Http11Probe)
(MIT, © 2026 Diogo Martins), sent to a route that forwards everything to an upstream that answers 200.
For a proxy, refusing also means that no request reached the upstream: that is the last column.
The project's own cases, written from RFC 9110 and RFC 9112, stand in `tests/wire/`.

`python tests/wire/verdicts.py` writes this file; a test compares it with what the data plane does.

| case | Fusebox | requests upstream |
|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one case got: the status (None: none), whether the connection was closed, and how
    many complete requests the upstream saw."""

    status: int | None
    closed: bool
    upstream: int

    def __str__(self) -> str:
        return " + ".join([str(self.status)] * (self.status is not None) + ["close"] * self.closed)

    def passes(self, expected: str) -> bool:
        """Whether this is what the case asks for, read as a proxy must."""
        if self.status == 101 or (self.upstream and not self._good()):
            return False
        if expected == "!101":
            return True
        if expected == "2xx + close":
            return self._good() and self.closed
        wanted = re.sub(r", \S+ \(warn\)", "", expected)
        return any(self._is(word) for word in re.findall(r"[a-z0-9]+", wanted))

    def _good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def _is(self, word: str) -> bool:
        if word == "2xx":
            return self._good()
        if word == "close":
            return self.closed and not self._good()
        if word == "timeout":
            return self.status == 408
        return word == str(self.status)


def cases() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(CASES_FILE.read_bytes()) if CASES_FILE.exists() else []
    return found


def bytes_of(case: dict[str, Any]) -> bytes:
    raw: bytes = case["raw"].encode("ascii").decode("unicode_escape").encode("latin-1")
    return raw.replace(b"??", MENDED[case["id"]]) if case["id"] in MENDED else raw


async def judge(case: dict[str, Any], before: bytes = b"") -> Verdict:
    """With `before`, the connection has served that request, which is not counted."""
    raw = bytes_of(case)
    async with sidecar(deadlines=DEADLINES, route={"upgrade": ()}) as rig:
        wire = await rig.client()
        if before:
            wire.send(before)
            await wire.response()
        wire.send(raw)
        status = None
        try:
            answer = await wire.response(b"HEAD" if raw.startswith(b"HEAD") else b"GET")
            status = answer.status
        except GoneError:
            pass
        closed = status is None or answer.has_token("connection", b"close")
        if closed:
            assert await wire.ended() == b"", "bytes after the last answer"
        return Verdict(status, closed, len(rig.upstream.requests) - bool(before))


async def judge_all() -> dict[str, Verdict]:
    return {case["id"]: await judge(case) for case in cases()}


def run() -> dict[str, Verdict]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(judge_all())


def render(verdicts: dict[str, Verdict]) -> str:
    lines = [f"| {name} | {verdict} | {verdict.upstream} |\n" for name, verdict in verdicts.items()]
    return INTRODUCTION + "".join(lines)


if __name__ == "__main__":
    TABLE.write_text(render(run()))
