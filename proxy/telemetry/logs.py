"""Logs: one JSON object per line on stdout, written by a thread of their own.

A stalled stdout (a full pipe, a paused terminal) blocks that thread and nobody else: lines wait in
a bounded queue, and what does not fit is dropped and counted in `Counters.events_dropped`.
"""

import io
import json
import logging
import queue
import re
import select
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from math import inf
from typing import Any, Protocol

import orjson

from proxy.telemetry.counters import Counters

QUEUED_LINES = 10_000
"""Lines that wait for a slow reader; at some 300 bytes each, about 3 MB."""

_GATHER_S = 0.05
_BATCH = 200  # lines per write: one system call for a burst, and a stop is noticed soon
_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NAMES = ("time", "level", "logger", "message", "exception")
_SECRETS = re.compile(rb'(fbx_|[Bb]earer )[^\s"\\]+')
# JSON escapes C0 only. DEL, C1 (a terminal takes U+009B for CSI) and the Unicode line ends are escaped
# here, on UTF-8 bytes, where they can stand nowhere but inside strings.
_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]")


class ByteStream(Protocol):
    """Where lines go. `write` returns how many bytes it took, None when it would have to wait."""

    def write(self, data: memoryview, /) -> int | None: ...

    def fileno(self) -> int: ...


class JsonFormatter(logging.Formatter):
    """`time` (RFC 3339, UTC), `level`, `logger`, `message`, the `extra` fields, `exception` as one string.

    An extra field that would hide one of these names gets a trailing underscore. Tokens are masked
    as a last line of defence; nobody should log them in the first place. `fields` stand on every line.
    """

    def __init__(self, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._fields = dict(fields or {})

    def format(self, record: logging.LogRecord) -> str:
        return self.line(record).decode().rstrip("\n")

    def line(self, record: logging.LogRecord) -> bytes:
        """One record as UTF-8 JSON with a line end and no other control character."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
        }
        for name, value in record.__dict__.items():
            if name not in _FIELDS:
                entry[name + "_" if name in _NAMES else name] = value
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            line = orjson.dumps(entry, default=repr, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:  # half a surrogate pair, an integer beyond 64 bits
            line = json.dumps(entry, default=repr, skipkeys=True).encode()
        # Each pattern costs as much as all the rest of a line, so one look tells whether it is needed.
        if b"fbx_" in line or b"earer " in line:
            line = _SECRETS.sub(rb"\1***", line)
        if not line.isascii() or b"\x7f" in line:
            line = _CONTROLS.sub(_escape, line)
        return line + b"\n"


def _escape(found: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(found[0].decode())


class LogWriter(logging.Handler):
    """Queues lines for a thread that writes them to `stream`.

    Several processes may share a pipe: with `shared` no write is larger than what the kernel takes in
    one piece, so that no line (up to `PIPE_BUF`, 4 KiB on Linux) is torn by another's.
    """

    def __init__(
        self,
        counters: Counters,
        stream: ByteStream,
        queued_lines: int = QUEUED_LINES,
        *,
        fields: Mapping[str, Any] | None = None,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self._json = JsonFormatter(fields)
        self._piece_bytes = select.PIPE_BUF if shared else inf
        self._counters = counters
        self._stream = stream
        self._queue: queue.Queue[bytes | None] = queue.Queue(queued_lines)
        self._ending = threading.Event()
        # A daemon: a reader that never comes back must not keep the process from ending.
        self._thread = threading.Thread(target=self._write_all, name="fusebox-log-writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._queue.put_nowait(self._json.line(record))
        except queue.Full:
            self._drop(1)
        except Exception:  # noqa: BLE001 - logging's own convention: a bad call never hurts the caller
            self.handleError(record)

    def finish(self, timeout_s: float) -> None:
        """Write what is queued and end the thread; give up after `timeout_s` seconds."""
        self._ending.set()
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _drop(self, lines: int) -> None:
        self.acquire()  # both the callers of `emit` and the writer thread count
        try:
            self._counters.events_dropped += lines
        finally:
            self.release()

    def _write_all(self) -> None:
        while (line := self._queue.get()) is not None:
            # Wait for company: each time this thread wakes, the loop's thread has to hand over the GIL.
            self._ending.wait(_GATHER_S)
            lines = [line]
            while len(lines) < _BATCH and not self._queue.empty():
                following = self._queue.get()  # the only reader: what is there stays there
                if following is None:
                    self._write(lines)
                    return
                lines.append(following)
            self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        for piece in _pieces(lines, self._piece_bytes):
            self._write_piece(piece)

    def _write_piece(self, lines: list[bytes]) -> None:
        rest = memoryview(b"".join(lines))
        try:
            while rest:
                taken = self._stream.write(rest)
                if taken is None:  # someone made the shared descriptor non-blocking
                    select.select([], [self._stream], [])
                else:
                    rest = rest[taken:]
        except OSError:  # the reader is gone
            self._drop(len(lines))


def _pieces(lines: list[bytes], most: float) -> Iterator[list[bytes]]:
    """The lines in groups of at most `most` bytes; a line that is longer stands alone."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        size += len(line)
        if piece and size > most:
            yield piece
            piece, size = [], len(line)
        piece.append(line)
    yield piece


class Logs:
    """The running log output of this process; `stop` flushes and takes it away again."""

    def __init__(self, writer: LogWriter, level: str) -> None:
        self._writer = writer
        root = logging.getLogger()
        self._level_before = root.level
        root.addHandler(writer)
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """From now on lines below `level` (e.g. "info") are left out."""
        logging.getLogger().setLevel(level.upper())

    def stop(self, timeout_s: float = 2.0) -> None:
        """Write what is queued, for at most about `timeout_s` seconds when nobody reads."""
        root = logging.getLogger()
        root.removeHandler(self._writer)
        root.setLevel(self._level_before)
        self._writer.finish(timeout_s)


def setup(
    level: str,
    counters: Counters,
    stream: ByteStream,
    *,
    fields: Mapping[str, Any] | None = None,
    shared: bool = False,
) -> Logs:
    """Send all logging of this process to `stream` as JSON lines, from `level` (e.g. "info") up.

    `fields` stand on every line; `shared`: other processes write lines to the same stream.
    """
    # Nothing of a line says where it was logged or by which thread, and to find that out takes a third of
    # its time (the ways to leave it out are those of the logging HOWTO).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - documented
    return Logs(LogWriter(counters, stream, fields=fields, shared=shared), level)


def descriptor(number: int) -> ByteStream:
    """A stream over a file descriptor, without a buffer whose lock could be held at the process's end."""
    return io.FileIO(number, "w", closefd=False)
