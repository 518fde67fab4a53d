"""Waiting for what changes with events: whoever causes one tells, whoever waits looks again."""

import asyncio
from collections.abc import Callable


class News:
    """Wakes all who wait; what has changed they see for themselves."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Something has changed."""
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, holds: Callable[[], bool], within_s: float | None = None) -> bool:
        """Wait for what changes with the news; False when it does not come in time."""
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    await self._event.wait()
        except TimeoutError:
            return holds()
        return True
