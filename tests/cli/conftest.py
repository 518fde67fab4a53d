"""A runner of the command line, settings for it, and an admin API that answers what a test says."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest
from click.testing import CliRunner
from keeping import Kept

from proxy.cli import main

SETTINGS = """
[upstreams.a]
url = "http://127.0.0.1:9101"
[[routes]]
name = "a"
path = "/"
upstream = "a"
"""


class FakeAdmin:
    """Answers every request with `status` and `answer`, and keeps what was asked."""

    def __init__(self):
        self.status = 200
        self.answer = {}
        self.scripted = {}  # (method, path): status and answer instead of those
        self.headers = []  # of each request
        self.content = None  # raw bytes instead of `answer`
        self.asked = []
        fake = self

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fake.asked.append((self.command, self.path, self.headers["Authorization"], body))
            fake.headers.append(dict(self.headers))
            status, said = fake.scripted.get((self.command, self.path), (fake.status, fake.answer))
            content = fake.content if fake.content is not None else orjson.dumps(said)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        names = [f"do_{method}" for method in ("GET", "PUT", "POST", "PATCH", "DELETE")]
        quiet = {"log_message": lambda *_: None}
        Handler = type("Handler", (BaseHTTPRequestHandler,), dict.fromkeys(names, answer) | quiet)  # noqa: N806
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def admin():
    made = FakeAdmin()
    yield made
    made.stop()


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "fusebox.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture
def run(monkeypatch):
    """Run `fusebox` with the given words; the environment holds nothing of ours."""
    for name in ("FUSEBOX_ADMIN", "FUSEBOX_TOKEN", "FUSEBOX_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def run(*words, env=None):
        return CliRunner().invoke(main, [str(word) for word in words], prog_name="fusebox", env=env)

    return run


@pytest.fixture
def kept(config):
    return Kept(config)


@pytest.fixture
def audit(run, kept):
    """Run `fusebox audit …` on that store."""
    return lambda *words: run("audit", *words, "--config", kept.config)
