"""What every benchmark stands on: pinned programs, load by wrk, and the measurement of one run.

One core belongs to the program under test, another to everything around it (load generator and
upstreams). CPU is read from /proc, so it is what the program cost and not what the clock showed;
it includes the kernel's work on its behalf.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

from proc import Usage, family, memory_kib, usage

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 20.0
VARIETY = 4096  # different requests that a varying load goes round in


class Unusable(Exception):
    """Something on this machine stands in the way; scripts print the text and exit 2."""


def need(program: str, install: str) -> str:
    """The path of an installed program; `Unusable` with the way to install it otherwise."""
    beside = Path(sys.executable).parent / program  # of this virtual environment
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(program)
    if found is None:
        raise Unusable(f"{program} is not installed: {install}")
    return found


def free_port() -> int:
    """A port on loopback below the ephemeral range, so that no outgoing connection takes it meanwhile."""
    for port in random.sample(range(20_000, 30_000), 1_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Unusable("no free port between 20000 and 30000 on 127.0.0.1")


@dataclass(frozen=True, slots=True)
class Program:
    """A running program with the port it listens on."""

    name: str
    pid: int
    port: int

    def usage(self) -> Usage:
        return usage(self.pid)

    def memory_kib(self, name: str = "Pss") -> int:
        return memory_kib(self.pid, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What wrk saw: completed requests, wall seconds, latency in ms."""

    requests: int
    seconds: float
    refused: int  # answers of 400 and above
    failed: int  # connect, read, write errors and timeouts
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured run of one subject."""

    subject: str
    round: int
    requests: int
    cpu_us: float  # per request
    user_us: float
    system_us: float
    requests_per_s: float
    busy: float  # CPU seconds ÷ wall seconds; well below 1: the load generator was the limit
    p50_ms: float
    p99_ms: float
    pss_mib: float
    peak_mib: float

    @property
    def requests_per_cpu_s(self) -> float:
        return 1e6 / self.cpu_us


@dataclass(slots=True)
class Lab:
    """A directory for one benchmark's files, and the two cores."""

    proxy_core: int = 0
    load_core: int = 1
    directory: Path = field(init=False)

    def __enter__(self) -> Self:
        need("taskset", "apt install util-linux")
        missing = {self.proxy_core, self.load_core} - os.sched_getaffinity(0)
        if missing or self.proxy_core == self.load_core:
            raise Unusable("two different cores are needed: see --proxy-core and --load-core")
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # inherited by all that is started
        os.sched_setaffinity(0, {self.load_core})
        self.directory = Path(tempfile.mkdtemp(prefix="fusebox-bench-"))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @contextlib.contextmanager
    def run(self, name: str, argv: Sequence[str | Path], port: int, *, core: int) -> Iterator[Program]:
        """Start a program on `core`, wait until `port` accepts, and stop it at the end."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, argv)],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            _wait_until_listening(name, process, port, log)
            yield Program(name, process.pid, port)
        finally:
            _stop(process)


def _wait_until_listening(name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise Unusable(f"{name} did not start listening on 127.0.0.1:{port}; it said:\n{tail}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        family_then = family(process.pid)
    except OSError:
        family_then = []
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        for pid in family_then:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(5)


def get(port: int, target: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """One GET on a connection of its own: status and body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", target, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def parse_wrk(output: str) -> Load:
    """The figures that the Lua script's last line carries (wrk counts in microseconds)."""
    for line in output.splitlines():
        if line.startswith("MEASURED "):
            requests, duration, refused, failed, p50, p99 = map(int, line.split()[1:])
            return Load(
                requests=requests, seconds=duration / 1e6, refused=refused, failed=failed,
                p50_ms=p50 / 1e3, p99_ms=p99 / 1e3,
            )  # fmt: skip
    raise Unusable(f"wrk gave no figures; it said:\n{output[-1000:]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How hard and how long a subject is loaded."""

    rounds: int
    seconds: int
    warm_up: int
    connections: int
    vary: bool  # another X-User-Id and traceparent with each request, and `{user}` in the target is that user


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Something to be measured: how it is started, and what it is asked."""

    name: str
    start: Callable[[], AbstractContextManager[Program]]
    target: str
    refused: bool = False  # every answer must be 400 or above, instead of below


def wrk(lab: Lab, port: int, target: str, pace: Pace, seconds: int) -> Load:
    """GET `target` for `seconds`, 9 header fields each, as fast as the kept-alive connections answer."""
    kinds = VARIETY if pace.vary else 1
    run = subprocess.run(
        [
            *("taskset", "-c", str(lab.load_core), need("wrk", "apt install wrk")),
            *("-t1", f"-c{pace.connections}", f"-d{seconds}s", "--timeout", "10s"),
            *("-s", ROOT / "benchmarks" / "load.lua", f"http://127.0.0.1:{port}/", "--", str(kinds), target),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 30,
    )
    return parse_wrk(run.stdout + run.stderr)


def measure(
    lab: Lab, program: Program, pace: Pace, *, subject: str, target: str, round_: int, refused: bool = False
) -> Sample:
    """Warm up, then load the program and see what it cost. A wrong answer makes the figures `Unusable`."""
    wrk(lab, program.port, target, pace, pace.warm_up)
    before = program.usage()
    done = wrk(lab, program.port, target, pace, pace.seconds)
    spent = program.usage() - before
    wrong = done.requests - done.refused if refused else done.refused
    if done.failed or wrong or not done.requests:
        raise Unusable(
            f"{subject}: {wrong} wrong answers and {done.failed} failures in {done.requests} requests"
        )
    return Sample(
        subject=subject,
        round=round_,
        requests=done.requests,
        cpu_us=spent.total_s / done.requests * 1e6,
        user_us=spent.user_s / done.requests * 1e6,
        system_us=spent.system_s / done.requests * 1e6,
        requests_per_s=done.requests / done.seconds,
        busy=spent.total_s / done.seconds,
        p50_ms=done.p50_ms,
        p99_ms=done.p99_ms,
        pss_mib=program.memory_kib("Pss") / 1024,
        peak_mib=program.memory_kib("VmHWM") / 1024,
    )


def alternate(lab: Lab, subjects: Sequence[Subject], pace: Pace) -> list[Sample]:
    """Every subject in turn, round after round, each time freshly started and alone on its core."""
    samples = []
    for round_ in range(pace.rounds):
        for it in subjects:
            progress(f"round {round_ + 1} of {pace.rounds}: {it.name}")
            with it.start() as program:
                samples.append(
                    measure(
                        lab,
                        program,
                        pace,
                        subject=it.name,
                        target=it.target,
                        round_=round_,
                        refused=it.refused,
                    )
                )
    return samples


def progress(text: str) -> None:
    """Where a long run is, on stderr, so that stdout holds the result only."""
    print(text, file=sys.stderr, flush=True)
