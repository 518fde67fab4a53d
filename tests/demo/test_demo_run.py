"""The demo as its users start it, without a terminal; a whole run stands in `test_demo_terminal`."""

import re
import signal
import socket
import subprocess
import sys
from io import StringIO
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from proxy.demo.processes import Child, Stack
from proxy.demo.run import _told
from proxy.demo.seen import Seen
from proxy.demo.verdict import Promise

COMMAND = [sys.executable, "-m", "proxy", "demo", "--unattended"]


@pytest.mark.parametrize(("kept", "exit_code"), [(True, 0), (False, 1)])
def test_one_broken_promise_is_exit_1(tmp_path, kept, exit_code):
    log = tmp_path / "sidecar.log"
    log.write_text("what the sidecar said last\n")
    stack = Stack(front="", admin="", upstreams={}, sidecar=Child("sidecar", None, log), token="")
    promises = [Promise("first", True, "1 of 1"), Promise("second", kept, "1 of 2")]
    assert _told(Console(file=StringIO()), stack, Seen(), promises) == exit_code


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_everything(number):
    """Plain lines until then; neither sidecar nor upstreams answer any more when the demo has returned."""
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        address = next(urlsplit(line.split()[1]) for line in demo.stdout if line.startswith("open "))
        assert demo.stdout.readline().startswith("admin ")
        line = demo.stdout.readline()
        assert re.match(r" +\d+\.\d s  all healthy .* \d+ rec/s .* breakers all closed$", line), line
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert "Traceback" not in errors
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port))


@pytest.mark.timeout(60)
def test_a_port_that_is_taken_is_told_with_exit_2():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_too_short_a_run_is_told_with_exit_2():
    ended = subprocess.run([*COMMAND, "--seconds", "5"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "12" in ended.stderr
    assert "Traceback" not in ended.stderr
