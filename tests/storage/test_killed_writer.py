"""`kill -9` at random moments: what was acknowledged is there, and the store is sound."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

from storing import size

from proxy.core.merkle import root_of
from proxy.storage.sqlite import SqliteStore

HERE = Path(__file__).parent
ROUNDS = int(os.environ.get("FUSEBOX_KILL_ROUNDS", "60"))


@contextlib.contextmanager
def writers():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, HERE / "killed_writer.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def one_killed(process, path, commits, after_s):
    """What one writer was acknowledged until it was killed, so many seconds after so many commits."""
    process.stdin.write(b"%s\n" % bytes(path))
    process.stdin.flush()
    writer = int(process.stdout.readline())
    acknowledged = [int(process.stdout.readline()) for _ in range(2 * commits)]
    killer = threading.Timer(after_s, os.kill, (writer, signal.SIGKILL))
    killer.start()
    for line in process.stdout:
        if line.startswith(b"ended"):
            assert line == b"ended -9\n"
            break
        acknowledged.append(int(line))
    killer.join()
    return acknowledged


def test_what_was_acknowledged_outlives_its_writer(tmp_path):
    path = tmp_path / "a.db"
    chance = random.Random(os.environ.get("FUSEBOX_KILL_SEED", "fusebox"))
    commits = 0
    with writers() as process:
        for number in range(ROUNDS):
            acknowledged = one_killed(process, path, chance.randint(1, 6), chance.uniform(0, 0.01))
            commits += len(acknowledged) // 2
            store = SqliteStore(path)
            kept = store.read(size)
            assert acknowledged[-1] <= kept <= acknowledged[-1] + 3, f"round {number}"
            if number % 10 == 0 or number == ROUNDS - 1:
                assert store.check() == [], f"round {number}"
                leaves, tree = store.read(
                    lambda it: ([row.leaf for row in it.audit.walk(0, 2**60)], it.audit.tree())
                )
                assert tree.root() == root_of(leaves)
            store.close()
    assert commits > ROUNDS, "they were killed under load"
