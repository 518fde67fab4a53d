"""Where checkpoints go: a file, an HTTP endpoint, stdout. All `CheckpointSink`s.

What is written is the signed note itself, one after the other, as `fusebox audit verify --checkpoint` reads
it. A checkpoint is worth something where whoever can change the store cannot change it too.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import orjson

from proxy.ports.audit import CheckpointSink

SEND_S = 5.0
"""How long an endpoint may take in all."""

_log = logging.getLogger("fusebox.audit")


class FileSink:
    """Appends to a file, mode 0600, with fsync."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = f"file {path}"

    async def send(self, note: str) -> None:
        await asyncio.to_thread(self._append, note.encode())

    def _append(self, note: bytes) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(handle).st_size
            if os.write(handle, note) != len(note):
                os.ftruncate(handle, before)  # half a note would spoil the next one as well
                raise OSError("the file took only a part of the checkpoint")
            os.fsync(handle)
        finally:
            os.close(handle)


class HttpSink:
    """POSTs the note as text/plain; any 2xx is a yes. Redirects are not followed."""

    def __init__(self, url: str, *, timeout_s: float = SEND_S) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        parts = urlsplit(url)
        self.name = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    async def send(self, note: str) -> None:
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        try:
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.post(self._url, data=note.encode(), headers=headers, allow_redirects=False) as answer,
            ):
                if not 200 <= answer.status < 300:
                    raise OSError(f"it answered {answer.status}")
        except TimeoutError as error:
            raise OSError(f"no answer within {self._timeout.total:g} s") from error
        except aiohttp.ClientError as error:
            raise OSError(f"cannot be reached: {error}") from error


class StdoutSink:
    """One JSON line on stdout, whatever the log's level is: `{"logger": "fusebox.checkpoint", "note": …}`.

    Written by the log's own thread, by handing the record past the level to the handlers.
    """

    name = "stdout"

    async def send(self, note: str) -> None:
        size = note.split("\n", 2)[1]
        record = logging.LogRecord(
            "fusebox.checkpoint", logging.INFO, __file__, 0, "checkpoint over %s audit entries", (size,), None
        )
        record.note = note
        handlers = logging.getLogger().handlers
        if handlers:
            for handler in handlers:
                handler.handle(record)
        else:
            sys.stdout.write(orjson.dumps({"logger": record.name, "note": note}).decode() + "\n")


def sinks(places: Sequence[str], base_dir: Path) -> list[CheckpointSink]:
    """The sinks of `audit.checkpoint_to`, checked by the settings; relative files begin at `base_dir`."""
    return [_sink(place, base_dir) for place in places]


def _sink(place: str, base_dir: Path) -> CheckpointSink:
    kind, _, rest = place.partition(":")
    if kind == "file":
        return FileSink(base_dir / rest)
    return HttpSink(place) if kind in {"http", "https"} else StdoutSink()
