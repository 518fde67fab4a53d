"""A real sidecar process on free ports, its log as events, and an upstream to stand behind it."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from proxy.core.roles import Role
from proxy.storage.tokens import TokenFile
from proxy.tasks import spawn

PATIENCE_S = 20
FILMS = [
    {
        "id": f"f{rank}",
        "title": f"Film {rank}",
        "year": 1999,
        "genres": ["Drama"],
        "providers": [],
        "score": 1.0,
    }
    for rank in range(60)
]


class Upstream:
    """Answers every request with its path; while `held`, only after `release`."""

    def __init__(self):
        self.paths = []
        self._writers = set()
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self):
        self.go.set()
        self.server.close()
        await self.server.wait_closed()
        writers = tuple(self._writers)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.paths.append(head.split(b" ")[1].decode())
                self.asked.set()
                await self.go.wait()
                body = self.paths[-1].encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        writer.close()
        self._writers.discard(writer)


class Box:
    """A directory with settings, and the sidecar process that runs by them."""

    def __init__(self, directory: Path, upstream: Upstream) -> None:
        self.directory = directory
        self.upstream = upstream
        self.settings = directory / "fusebox.toml"
        self.kill_file = directory / "var" / "kill.json"
        self.options = ()  # of `fusebox serve`
        self.shadow = None  # a directory that the process looks for modules in first
        self.process = None
        self.session = None
        (directory / "popularity.json").write_text(json.dumps(FILMS))
        self.write()

    def write(
        self, *, listen="127.0.0.1:0", admin="127.0.0.1:0", routes=("/payment/",), extra="", **deadlines
    ):
        """Write the settings file; each route forwards to the upstream. An end is not told beforehand."""
        deadlines = {"drain_notice_s": 0.0} | deadlines
        text = f'[listen]\naddress = "{listen}"\n[admin]\naddress = "{admin}"\n{extra}\n[deadlines]\n'
        text += "".join(f"{name} = {value}\n" for name, value in deadlines.items())
        text += '[popularity]\nfile = "popularity.json"\n[toggles]\nfile = "toggles.json"\n'
        text += f'[upstreams.payment]\nurl = "http://127.0.0.1:{self.upstream.port}"\n'
        text += f'[upstreams.cf]\nurl = "http://127.0.0.1:{self.upstream.port}"\n'
        text += '[[routes]]\nname = "recommendations"\npath = "/recommendations"\nkind = "recommend"\n'
        text += 'sources = { cf = "cf" }\n'
        for path in routes:
            text += f'[[routes]]\nname = "{path.strip("/")}"\npath = "{path}"\nupstream = "payment"\n'
        self.settings.write_text(text)
        if not (self.directory / "toggles.json").exists():
            self.write_toggles(kill_switch=False)

    def write_toggles(self, *, kill_switch):
        metadata = {
            "version": 1,
            "environment": "test",
            "updated_by": "test",
            "updated_at": "2026-01-01T00:00:00Z",
            "reason": "test",
        }
        document = {"metadata": metadata, "toggles": {"kill_switch": kill_switch}, "rules": [], "flags": {}}
        (self.directory / "toggles.json").write_text(json.dumps(document))

    def token(self, role=Role.COMMANDER):
        return TokenFile(self.directory / "var" / "tokens.json").create(f"the-{role.label}", role)

    async def launch(self):
        """Start the process; it need not come up."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "proxy", "serve", "--config", str(self.settings), *self.options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(),
        )
        self.lines, self.told, self.came = [], b"", asyncio.Condition()
        self.reading = asyncio.Event()  # cleared: nobody reads the log
        self.reading.set()
        self.readers = [
            spawn(self._read_log(self.process.stdout), "log"),
            spawn(self._read_told(self.process.stderr), "stderr"),
        ]

    def _environment(self):
        if self.shadow is None:
            return None
        path = os.pathsep.join(filter(None, (str(self.shadow), os.environ.get("PYTHONPATH"))))
        return os.environ | {"PYTHONPATH": path}

    async def start(self):
        """Start the process and wait until it listens."""
        await self.launch()
        line = await self.logged("started")
        self.listen, self.admin = line["listen"], line["admin"]
        self.session = aiohttp.ClientSession()
        return self

    async def _read_log(self, stream):
        async for line in stream:
            await self.reading.wait()
            async with self.came:
                self.lines.append(json.loads(line))
                self.came.notify_all()
        async with self.came:
            self.lines.append({"message": "(end of log)"})
            self.came.notify_all()

    async def _read_told(self, stream):
        self.told = await stream.read()

    async def logged(self, start, nth=1):
        """The `nth` log line whose message begins so; fails when the process ends without it."""

        def found():
            return [line for line in self.lines if line["message"].startswith(start)]

        async with asyncio.timeout(PATIENCE_S), self.came:
            await self.came.wait_for(
                lambda: len(found()) >= nth or self.lines[-1:] == [{"message": "(end of log)"}]
            )
        assert len(found()) >= nth, (start, self.lines, self.told)
        return found()[nth - 1]

    def signal(self, number):
        self.process.send_signal(number)

    async def ended(self):
        """The exit code, once the process has ended by itself."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*self.readers)
            code = await self.process.wait()
        if self.session is not None:
            await self.session.close()
            self.session = None
        return code

    async def terminate(self):
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def clean_up(self):
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.ended()

    async def get(self, url, **kwargs):
        """A response of the data plane with its body read."""
        async with self.session.get(self.listen + url, **kwargs) as response:
            await response.read()
            return response

    async def api(self, method, path, token=None, **kwargs):
        """Status and JSON (or text) of the admin API."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.request(method, self.admin + path, headers=headers, **kwargs) as response:
            text = await response.text()
            return response.status, json.loads(text) if re.match(r"\s*[\[{]", text) else text


@pytest.fixture
async def upstream():
    upstream = Upstream()
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def box(tmp_path, upstream):
    box = Box(tmp_path, upstream)
    yield box
    await box.clean_up()


@pytest.fixture
async def second(box):
    """Another sidecar by the same settings."""
    second = Box(box.directory, box.upstream)
    yield second
    await second.clean_up()
