"""The benchmarks' measuring: what they read from the kernel and from wrk, and what they make of it."""

import argparse
import json
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if "script(main)" in path.read_text())

kernel_counts = pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="this kernel does not count in /proc"
)

BURN = """
import sys, time
while time.process_time() < 0.3: sum(range(10_000))
print("burnt", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def sample(load):
    """A sample of which only the named figures matter."""

    def make(subject: str, round_: int, cpu_us: float, busy: float = 1.0) -> object:
        return load("harness").Sample(
            subject=subject, round=round_, requests=1000, cpu_us=cpu_us, user_us=1.0, system_us=1.0,
            requests_per_s=1e6 / cpu_us, busy=busy, p50_ms=1.0, p99_ms=2.0, pss_mib=3.0, peak_mib=4.0,
        )  # fmt: skip

    return make


@kernel_counts
def test_cpu_and_memory_include_children(load):
    """A shell whose child burnt 0.3 s of CPU and holds an interpreter is charged for both."""
    shell = subprocess.Popen(
        ["/bin/sh", "-c", f"'{sys.executable}' -c '{BURN}'; true"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with shell:
        assert shell.stdout.readline() == b"burnt\n"
        proc = load("proc")
        used = proc.usage(shell.pid)
        assert 0.3 <= used.total_s < 5
        assert used.user_s + used.system_s == pytest.approx(used.total_s)
        assert used.user_s > used.system_s
        assert proc.memory_kib(shell.pid, "VmRSS") > 4 * 1024
        assert 0 < proc.memory_kib(shell.pid, "Pss") <= proc.memory_kib(shell.pid, "VmRSS")


@kernel_counts
def test_peak_memory_starts_again(load):
    """After forget_peak, what was used and given back before does not count."""
    code = "import sys; x = bytearray(64 << 20); del x; print('ready', flush=True); sys.stdin.read()"
    program = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with program:
        program.stdout.readline()
        proc = load("proc")
        assert proc.memory_kib(program.pid, "VmHWM") > 64 * 1024
        proc.forget_peak(program.pid)
        assert proc.memory_kib(program.pid, "VmHWM") < 64 * 1024


@pytest.mark.parametrize("script", ["floor_proxy.py", "strict_floor.py"])
def test_the_floors_of_the_peers_are_proxies(load, script):
    """One connection on either side carries requests there and answers back."""
    port = load("harness").free_port()
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        floor = subprocess.Popen(
            [sys.executable, BENCHMARKS / script, str(port), str(upstream.getsockname()[1])]
        )
        try:
            until(lambda: socket.create_connection(("127.0.0.1", port)).close())
            client = HTTPConnection("127.0.0.1", port, timeout=20)
            client.request("GET", "/p?q=1")
            asked, _ = upstream.accept()
            with asked:
                for _ in range(2):
                    assert asked.recv(65536).startswith(b"GET /p?q=1 HTTP/1.1\r\nHost: ")
                    asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfilm")
                    assert client.getresponse().read() == b"film"
                    client.request("GET", "/p?q=1")
            client.close()
        finally:
            floor.kill()
            floor.wait()


def until(attempt: Callable[[], None]) -> None:
    """Try until it can be done."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def test_figures_of_wrk_are_read(load):
    """The last line of the Lua script carries counts and microseconds."""
    read = load("harness").parse_wrk("Running 2s test\n\nMEASURED 2000 4000000 7 3 900 2500\n")
    assert (read.requests, read.seconds, read.refused, read.failed) == (2000, 4.0, 7, 3)
    assert (read.p50_ms, read.p99_ms) == (0.9, 2.5)


def test_wrk_without_figures_is_told(load):
    """What wrk said instead is in the error."""
    harness = load("harness")
    with pytest.raises(harness.Unusable, match="unable to connect"):
        harness.parse_wrk("unable to connect to 127.0.0.1:1")


def test_ratios_are_taken_within_rounds(load, sample):
    """The median of the rounds' ratios, not the ratio of medians; a round without the peer is left out."""
    runs = [("a", 0, 10), ("b", 0, 20), ("a", 1, 30), ("b", 1, 10), ("a", 2, 8), ("b", 2, 10), ("a", 3, 99)]
    found = load("report").ratio([sample(*run) for run in runs], "cpu_us", "a", "b")
    assert (found.median, found.low, found.high) == (0.8, 0.5, 3.0)


@pytest.mark.parametrize(
    ("bound", "met"),
    [
        ({"at_most": 2.0}, True),
        ({"at_most": 1.9}, False),
        ({"at_least": 2.0}, True),
        ({"at_least": 2.1}, False),
        ({}, True),
    ],
)
def test_check_turns_a_missed_target_into_the_exit_code(load, tmp_path, capsys, bound, met):
    """With --check a missed target is 1; without it never; the JSON says it either way."""
    report = load("report")
    finding = report.Finding(text="x", value=report.spread([1.0, 2.0, 9.0]), **bound)
    out = tmp_path / "deep" / "x.json"
    for check in (False, True):
        chosen = argparse.Namespace(out=out, check=check)
        assert report.finish("x", chosen, [], [finding]) == int(check and not met)
    written = json.loads(out.read_text())
    assert written["machine"]["python"] == report.interpreter()
    assert f"Python {report.interpreter()}\n" in capsys.readouterr().out
    written = written["findings"][0]
    assert (written["met"], written["value"]) == (met, {"median": 2.0, "low": 1.0, "high": 9.0})


@pytest.mark.parametrize(
    ("said", "schemes", "how"),
    [
        ("'--enable-optimizations' '--with-lto' '--with-ensurepip'", (), "(PGO and LTO)"),
        ("'--enable-shared' '--with-lto=thin'", (), "(LTO)"),
        ("'--enable-optimizations'", ("deb_system",), "(PGO)"),
        ("'--enable-shared'", (), "(neither PGO nor LTO)"),
        (None, (), "(neither PGO nor LTO)"),
        ("'--enable-shared'", ("deb_system",), "(Debian's: PGO and LTO "),
    ],
)
def test_the_interpreter_is_named_with_how_it_was_built(load, monkeypatch, said, schemes, how):
    """Debian's names the settings of a build that it is not."""
    report = load("report")
    monkeypatch.setattr(report.sysconfig, "get_config_var", {"CONFIG_ARGS": said}.get)
    monkeypatch.setattr(report.sysconfig, "get_scheme_names", lambda: schemes)
    assert report.interpreter().startswith(f"{platform.python_version()} {how}")


def test_load_that_was_not_enough_is_marked(load, sample):
    """A run in which the proxy had time to spare says so beside its figures."""
    shown = load("report").sample_table([sample("idle", 0, 10.0, busy=0.62)])
    assert "62%" in shown


def test_missing_programs_are_named_with_the_way_to_get_them(tmp_path):
    """A machine without the peers gets exit code 2 and what to install, before anything runs."""
    run = subprocess.run(
        [sys.executable, BENCHMARKS / "peers.py", "--only", "haproxy", "--out", tmp_path / "x.json"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 2
    assert "haproxy is not installed: apt install haproxy" in run.stderr
    assert "wrk is not installed" in run.stderr
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("name", [*SCRIPTS, "all"])
def test_every_script_explains_itself(name):
    """--help exits 0 and every script that has targets can check them."""
    run = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", "--help"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0
    assert "--check" in run.stdout


def test_every_script_is_run_by_all_and_told(load):
    """One that is added is measured with the others, tried by --quick, and its question is in the docs."""
    everything = load("all")
    told = (BENCHMARKS.parent / "docs" / "benchmarks.md").read_text()
    assert len(SCRIPTS) > 12
    assert set(SCRIPTS) == set(everything.SCRIPTS) == set(everything.QUICK)
    assert [name for name in SCRIPTS if f"| `{name}.py` |" not in told] == []
