"""Example upstreams as the processes they are."""

import os
import signal
import subprocess
import sys

import pytest

from proxy.demo.processes import free_port

COMMAND = [sys.executable, "-W", "error", "-m", "proxy.demo.upstreams"]


def test_it_says_where_it_listens_and_ends_on_sigterm():
    with subprocess.Popen([*COMMAND, "payment"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("payment listening on 127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_it_takes_the_port_it_is_given_and_tells_when_it_cannot():
    port = free_port()
    with subprocess.Popen(
        [*COMMAND, "email", "--port", str(port)], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == f"email listening on 127.0.0.1:{port}\n"
        second = subprocess.run(
            [*COMMAND, "email", "--port", str(port)], capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
        assert "Traceback" not in second.stderr
        first.terminate()


def test_an_unknown_name_is_a_usage_error():
    ended = subprocess.run([*COMMAND, "nobody"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "'cf'" in ended.stderr


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "proxy.demo.upstreams", "payment"], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="watching a process that is not a child needs pidfd"
)
def test_it_ends_when_its_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        orphan = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            parent.wait()
            from select import select

            assert select([orphan], [], [], 10)[0], "still there ten seconds after its parent"
        finally:
            os.close(orphan)
