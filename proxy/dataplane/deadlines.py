"""Deadlines without a timer per request.

Deadlines of one duration expire in the order they were set, so a lane is an ordered dict whose
head alone is looked at. Setting and clearing cost two dict operations; one ticker for the process
finds what is over, within `TICK_S`.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from proxy.clock import Clock, monotonic

TICK_S = 0.01


class Timed(Protocol):
    """Whatever can run out of time."""

    def on_deadline(self, now: float) -> None: ...


class Lane:
    """All deadlines of one duration, in seconds."""

    __slots__ = ("entries", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.entries: dict[Timed, float] = {}
        """When each runs out of time, in that order; calls of upstreams come and go here themselves."""

    def __len__(self) -> int:
        return len(self.entries)

    def set(self, who: Timed, now: float) -> None:
        """Start or restart the time of `who`."""
        self.entries.pop(who, None)
        self.entries[who] = now + self.seconds

    def clear(self, who: Timed) -> None:
        self.entries.pop(who, None)

    def expire(self, now: float) -> None:
        """Tell everybody whose time is over, oldest first; each is cleared before it is told."""
        entries = self.entries
        while entries:
            who = next(iter(entries))
            if entries[who] > now:
                return
            del entries[who]
            who.on_deadline(now)


class Ticker:
    """Owns the lanes and looks at them every `TICK_S` while the data plane runs."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._lanes: dict[tuple[float, str], Lane] = {}
        self._also: list[Callable[[float], None]] = []
        self._handle: asyncio.TimerHandle | None = None

    def lane(self, seconds: float, of: str = "") -> Lane:
        """For who has two deadlines at once, `of` keeps them apart even where they are as long."""
        found = self._lanes.get((seconds, of))
        if found is None:
            found = self._lanes[seconds, of] = Lane(seconds)
        return found

    def also(self, work: Callable[[float], None]) -> None:
        """Call `work(now)` on every tick."""
        self._also.append(work)

    def start(self) -> None:
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        now = self._clock()
        for lane in tuple(self._lanes.values()):
            if lane:
                lane.expire(now)
        for work in self._also:
            work(now)
