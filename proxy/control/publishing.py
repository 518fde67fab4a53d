"""Sending the newest checkpoint away. Sinks fail alone: nothing waits for them."""

import asyncio
import logging
from contextlib import suppress

from proxy.ports.audit import CheckpointSink

_log = logging.getLogger("fusebox.audit")
_LONGEST_PAUSE_S = 60.0


class Publisher:
    """One sink. Only the newest checkpoint is worth sending: it says everything that older ones say."""

    def __init__(self, sink: CheckpointSink, *, retry_s: float = 1.0) -> None:
        self._sink = sink
        self._retry_s = retry_s
        self._note = ""  # not sent yet
        self._offered = asyncio.Event()
        self._sending = asyncio.Lock()
        self.sent = 0
        self.failed = 0
        self.trouble = ""  # why the newest has not arrived; empty: it has

    @property
    def name(self) -> str:
        return self._sink.name

    def offer(self, note: str) -> None:
        self._note = note
        self._offered.set()

    async def run(self) -> None:
        """Until cancelled; a sink that fails is asked again, less and less often."""
        pause = self._retry_s
        while True:
            await self._offered.wait()
            if await self.deliver():
                pause = self._retry_s
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def deliver(self) -> bool:
        """Send what was offered last, if it has not been; whether nothing is left to send."""
        async with self._sending:
            note = self._note
            if not note:
                return True
            try:
                await self._sink.send(note)
            except OSError as error:
                self.failed += 1
                if not self.trouble:
                    _log.error("checkpoints do not reach %s: %s", self.name, error)
                self.trouble = f"{self.name}: {error}"
                return False
            self.sent += 1
            self.trouble = ""
            if self._note == note:
                self._note = ""
                self._offered.clear()
            return True

    async def finish(self, deadline_s: float) -> None:
        """A last attempt at what has not arrived, for `deadline_s` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self.deliver()
