"""A worker's place: what stays when one worker follows another."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.runtime.workers.member import Member

STABLE_S = 10.0
"""A worker that has served so long was well; one that fails earlier is part of a row."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0


class Slot:
    """The place of worker `number`. Whoever starts a worker here holds `changing`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.member: Member | None = None
        self.changing = asyncio.Lock()
        self.restarts = 0
        self.failed = ""  # how the last one that failed did
        self._row = 0  # failures in a row

    @property
    def waits(self) -> bool:
        """Its worker has failed, and the next does not serve yet."""
        return self.member is not None and self.member.ended

    def fail(self) -> float:
        """Its worker has failed. The pause before the next, in seconds: none at first, then it doubles."""
        member = self.member
        if member is None or not member.ended:
            return 0.0
        self.restarts += 1
        self.failed = member.cause
        self._row = 1 if member.served_s >= STABLE_S else self._row + 1
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._row - 2)) if self._row > 1 else 0.0
