"""When each token was last used, in a file of its own: only to be looked at, and never in the way."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

import orjson

from proxy.clock import Clock, monotonic, wall
from proxy.ports import StoreError
from proxy.storage import atomic
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.tokens")

EVERY_S = 60.0
"""A token's use is written down at most so often, in seconds."""


def last_used(path: Path) -> dict[str, str]:
    """RFC 3339 by name of token; nothing when the file cannot be understood, since nothing hangs on it."""
    try:
        raw = orjson.loads(path.read_bytes())
        return {str(name): str(at) for name, at in raw.items()}
    except (OSError, ValueError, AttributeError):
        return {}


class TokenUse:
    """Notes uses in memory and writes them behind the requests, from a thread; failing is only logged."""

    def __init__(self, path: Path, *, monotonic: Clock = monotonic, wall: Clock = wall) -> None:
        self._path = path
        self._monotonic = monotonic
        self._wall = wall
        self._noted: dict[str, float] = {}  # when each was put down last, monotonic
        self._waiting: dict[str, str] = {}
        self._writing: asyncio.Task[None] | None = None

    def used(self, name: str) -> None:
        """Never waits and never fails."""
        now = self._monotonic()
        if now - self._noted.get(name, -EVERY_S) < EVERY_S:
            return
        self._noted[name] = now
        self._waiting[name] = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="seconds")
        if self._writing is None or self._writing.done():
            self._writing = spawn(self._write(), "last use of tokens")

    async def settled(self) -> None:
        """Return when what was noted so far has been written, or could not be."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        while self._waiting:
            uses, self._waiting = self._waiting, {}
            try:
                await asyncio.to_thread(self._merge, uses)
            except StoreError as error:
                _log.warning("the last use of tokens is not written down: %s", error)

    def _merge(self, uses: dict[str, str]) -> None:
        atomic.replace(self._path, orjson.dumps(last_used(self._path) | uses) + b"\n")
