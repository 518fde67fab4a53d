"""PostgreSQL for tests: a real server, started once on a free port."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from proxy.demo.processes import free_port

PASSWORD = "correct-horse-battery"


class PostgresServer:
    """A cluster in a directory of its own, owned by an unprivileged user when this runs as root."""

    def __init__(self, binaries, home):
        self.binaries, self.home = binaries, home
        self.port = free_port()
        self.process = None
        self._who = {}
        if os.geteuid() == 0:
            self._who = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(home, "postgres", "postgres")
        (home / "password").write_text(PASSWORD)
        (home / "password").chmod(0o644)
        self._run("initdb", "-D", home / "data", "-U", "fusebox", "-A", "scram-sha-256", "--no-sync",
                  f"--pwfile={home / 'password'}", "-E", "UTF8", "--locale=C.UTF-8")  # fmt: skip

    def _run(self, program, *words):
        subprocess.run([self.binaries / program, *words], check=True, capture_output=True,
                       cwd=self.home, **self._who)  # fmt: skip

    def start(self):
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.home / "data", "-p", str(self.port), "-k", self.home,
                 "-c", "listen_addresses=127.0.0.1", "-c", "fsync=on", "-c", "max_connections=50"],
                stdout=log, stderr=log, cwd=self.home, **self._who,
            )  # fmt: skip
        for _ in range(1_000):
            if subprocess.run([self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)],
                              check=False).returncode == 0:  # fmt: skip
                return
            time.sleep(0.02)
        raise AssertionError((self.home / "log").read_text())

    def stop(self):
        """At once, as after a power cut of its machine."""
        if self.process is not None:
            self.process.send_signal(3)  # SIGQUIT: immediate shutdown
            self.process.wait(30)
            self.process = None

    def url(self, database):
        return f"postgresql://fusebox:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def emptied(self):
        """Where nothing is yet. A schema dropped costs less than a database made."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute("SET client_min_messages = error")
            connection.execute("DROP SCHEMA IF EXISTS fusebox CASCADE")
        return self.url("postgres")


@pytest.fixture(scope="session")
def postgres_server():
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'fusebox[postgres]'")
    found = [Path(it).resolve().parent for it in [shutil.which("initdb")] if it]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not found:
        pytest.skip("PostgreSQL is missing: apt install postgresql")
    home = Path(tempfile.mkdtemp(prefix="fusebox-postgres-"))
    server = PostgresServer(found[0], home)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home)


@pytest.fixture
def postgres_url(postgres_server):
    return postgres_server.emptied()
