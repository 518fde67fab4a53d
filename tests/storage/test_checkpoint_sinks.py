"""Sinks of checkpoints: kept on return, or an OSError that says why; real files, a real endpoint."""

import asyncio
import json
import logging
import stat
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from proxy.control.publishing import Publisher
from proxy.core.checkpoint import Signer, notes, opened
from proxy.storage.checkpoint_sinks import FileSink, HttpSink, StdoutSink, sinks
from proxy.tasks import spawn
from proxy.telemetry.logs import JsonFormatter

SIGNER = Signer("log.test", b"s" * 32)
NOTES = [SIGNER.checkpoint(size, bytes(32), "2026-01-02T03:04:05.000006Z") for size in (1, 2, 3)]


@asynccontextmanager
async def endpoint(handler):
    """Its url."""
    app = web.Application()
    app.router.add_post("/keep", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/keep"
    finally:
        await runner.cleanup()


async def test_a_file_is_appended_to(tmp_path):
    """Every note stays, and can be read one by one."""
    sink = FileSink(tmp_path / "checkpoints")
    for note in NOTES:
        await sink.send(note)
    path = tmp_path / "checkpoints"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = notes(path.read_text())
    assert [opened(note, [SIGNER.verifier]).size for note in found] == [1, 2, 3]


async def test_a_file_that_cannot_be_written_says_so(tmp_path):
    """The cause is the system's."""
    with pytest.raises(OSError, match="checkpoints"):
        await FileSink(tmp_path / "nowhere" / "checkpoints").send(NOTES[0])
    with pytest.raises(OSError, match="space"):
        await FileSink(Path("/dev/full")).send(NOTES[0])


async def test_an_endpoint_gets_the_note():
    """As plain text."""
    got = []

    async def keep(request):
        got.append((request.content_type, await request.text()))
        return web.Response(status=204)

    async with endpoint(keep) as url:
        await HttpSink(url).send(NOTES[0])
    assert got == [("text/plain", NOTES[0])]


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_only_a_yes_is_a_yes(status):
    """A redirect is not followed: who answers it is not who was named."""

    async def refuse(request):
        return web.Response(status=status, headers={"Location": "/keep"})

    async with endpoint(refuse) as url:
        with pytest.raises(OSError, match=f"answered {status}"):
            await HttpSink(url).send(NOTES[0])


async def test_an_endpoint_that_does_not_answer():
    """Its time is up; one that is not there is told at once."""
    over = asyncio.Event()

    async def hang(request):
        await over.wait()
        return web.Response()

    async with endpoint(hang) as url:
        with pytest.raises(OSError, match=r"within 0\.05 s"):
            await HttpSink(url, timeout_s=0.05).send(NOTES[0])
        over.set()
    with pytest.raises(OSError, match="cannot be reached"):
        await HttpSink(url).send(NOTES[0])


def test_names_hold_no_secret(tmp_path):
    """They stand in the log."""
    made = sinks(["file:a", "https://user:secret@host.example/x?token=secret", "stdout"], tmp_path)
    assert [it.name for it in made] == [f"file {tmp_path / 'a'}", "https://host.example/x", "stdout"]


async def test_stdout_is_written_whatever_the_level():
    """As a line of the log, with the note."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(JsonFormatter().format(record))

    root = logging.getLogger()
    handler, level, held = Keep(), root.level, root.handlers[:]
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR)
    try:
        await StdoutSink().send(NOTES[1])
    finally:
        root.handlers[:] = held
        root.setLevel(level)
    (said,) = map(json.loads, lines)
    assert said["note"] == NOTES[1]
    assert said["message"] == "checkpoint over 2 audit entries"


class Sink:
    """Fails as long as it is told to."""

    name = "a sink"

    def __init__(self):
        self.got = []
        self.broken = False
        self.tried = asyncio.Event()

    async def send(self, note):
        self.tried.set()
        if self.broken:
            raise OSError("broken")
        self.got.append(note)


async def test_only_the_newest_is_sent_when_it_works_again():
    """Older ones say nothing that it does not."""
    sink = Sink()
    publisher = Publisher(sink, retry_s=0.001)
    task = spawn(publisher.run(), "publisher")
    try:
        async with asyncio.timeout(20):
            publisher.offer(NOTES[0])
            await sink.tried.wait()
            sink.broken = True
            sink.tried.clear()
            publisher.offer(NOTES[1])
            await sink.tried.wait()
            publisher.offer(NOTES[2])
            while not publisher.trouble:  # noqa: ASYNC110 - nobody sets an event here
                await asyncio.sleep(0.001)
            assert publisher.trouble == "a sink: broken"
            sink.broken = False
            while len(sink.got) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert sink.got == [NOTES[0], NOTES[2]]
        assert publisher.trouble == ""
        assert publisher.failed >= 1
    finally:
        task.cancel()


async def test_the_end_waits_for_a_sink_but_not_for_ever():
    """A last attempt with a deadline."""
    sink = Sink()
    publisher = Publisher(sink)
    await publisher.finish(1.0)
    assert sink.got == []
    publisher.offer(NOTES[0])
    await publisher.finish(1.0)
    assert sink.got == [NOTES[0]]

    async def stuck(note):
        await asyncio.Event().wait()

    sink.send = stuck
    publisher.offer(NOTES[1])
    await publisher.finish(0.01)
