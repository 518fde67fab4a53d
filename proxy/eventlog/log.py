"""The event log of one process: a bounded buffer that the loop fills, and a thread that writes it down."""

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from time import sleep

from proxy.clock import Clock, monotonic, wall
from proxy.core.events import Event, EventsSettings
from proxy.eventlog.files import NDJSON, Stream
from proxy.eventlog.keeping import tidy
from proxy.eventlog.rows import Rows
from proxy.ports.events import EventSink, Losses

_log = logging.getLogger("fusebox.events")

_GATHER_S = 0.1
"""How long events wait for company; what a killed process loses."""

_BREATH = 32  # lines in a row before the loop's thread has the interpreter again: some 0.3 ms ...
_BREATH_S = 0.000_1  # … for which zero seconds are not enough: who waits has to wake up first
_BATCH = 1_024  # events a write, at most
_TIDY_S = 60.0
_PATIENCE_S = 1.0
"""After a write that failed: nothing is tried for so long."""


class EventLog:
    """`add` events from one thread; `close` at the end. What cannot be kept is dropped, counted, and told as
    `trouble`.
    """

    def __init__(self, directory: Path, settings: EventsSettings, key: bytes, losses: Losses) -> None:
        """`key` makes the pseudonyms of users; without one they are left out."""
        self._buffer: deque[Event] = deque()
        self._most = settings.buffer_events
        self._losses = losses
        self._writer = Writer(directory, settings, key, losses)
        self._ending = threading.Event()
        # A daemon: a disk that never comes back must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="fusebox-event-writer", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why events are lost at present; empty: they are not."""
        return self._writer.trouble

    def add(self, event: Event, /) -> None:
        if len(self._buffer) < self._most:
            self._buffer.append(event)
        else:
            self._losses.events_dropped += 1

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what waits and finish the files; give up after `timeout_s` seconds."""
        self._ending.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ending.wait(_GATHER_S):
            self._write()
        self._write()
        self._writer.close()

    def _write(self) -> None:
        buffer = self._buffer
        try:
            while buffer:
                self._writer.take(buffer.popleft() for _ in range(min(len(buffer), _BATCH)))
            self._writer.tick()
        except Exception:  # noqa: BLE001 - a fault of ours: the thread goes on
            _log.exception("writing events failed")


class Writer:
    """What the thread does, for one thread."""

    def __init__(
        self,
        directory: Path,
        settings: EventsSettings,
        key: bytes,
        losses: Losses,
        *,
        monotonic: Clock = monotonic,
        wall: Clock = wall,
    ) -> None:
        self.trouble = ""
        self._log = directory
        self._directory = directory / NDJSON
        self._settings = settings
        self._losses = losses
        self._monotonic = monotonic
        self._wall = wall
        self._rows = Rows(key)
        self._series = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._streams: dict[str, Stream] = {}
        self._try_at = 0.0
        self._tidy_at = 0.0

    def take(self, events: Iterable[Event]) -> None:
        """Write them, or drop and count them."""
        now, wall = self._monotonic(), self._wall()
        self._rows.wall_offset = wall - now
        batches: dict[str, list[bytes]] = {}
        for number, event in enumerate(events, 1):
            if now < self._try_at:
                self._losses.events_dropped += 1
                continue
            try:
                batches.setdefault(_stream(event), []).append(self._rows.line(event))
            except Exception:  # noqa: BLE001 - a fault of ours costs one event
                self._losses.events_dropped += 1
                _log.exception("an event could not be written down: %s", event[0])
            if not number % _BREATH:
                sleep(_BREATH_S)
        for stream, lines in batches.items():
            self._append(stream, lines, now, wall)

    def tick(self) -> None:
        """Finish files whose time is over, and once a minute delete what is too old or too much."""
        now = self._monotonic()
        for stream in self._streams.values():
            if stream.size and now >= stream.since + self._settings.rotate_s:
                stream.close()
        if now >= self._tidy_at and self._log.is_dir():
            self._tidy_at = now + _TIDY_S
            self._tidy()

    def _tidy(self) -> None:
        try:
            gone = tidy(self._log, self._settings, self._wall())
        except OSError as error:
            _log.error("%s: nothing old can be deleted: %s", self._log, error.strerror or error)
        else:
            if gone:
                _log.info("events deleted", extra={"files": len(gone)})

    def close(self) -> None:
        for stream in self._streams.values():
            stream.close()

    def _append(self, name: str, lines: list[bytes], now: float, wall: float) -> None:
        stream = self._streams.get(name)
        if stream is None:
            directory = self._directory / name
            stream = self._streams[name] = Stream(directory, self._series, fsync=self._settings.fsync)
        if stream.size >= self._settings.rotate_bytes:
            stream.close()
        try:
            stream.write(b"".join(lines), now, wall)
        except OSError as error:
            self._losses.events_dropped += len(lines)
            self._try_at = now + _PATIENCE_S
            self._in_trouble(f"{self._directory}: events cannot be written: {error.strerror or error}")
        else:
            if self.trouble:
                self._in_trouble("")

    def _in_trouble(self, why: str) -> None:
        """Said once, until it is over."""
        if not why:
            self._losses.events_stuck -= 1
            _log.info("events are written again")
        elif not self.trouble:
            self._losses.events_stuck += 1
            _log.error("%s", why)
        self.trouble = why


def _stream(event: Event) -> str:
    """Errors that are kept longer have files of their own."""
    return "error_critical" if event[0] == "error" and event[5] == "critical" else event[0]


_: type[EventSink] = EventLog
