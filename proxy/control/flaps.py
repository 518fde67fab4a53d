"""The flap budget in force: whatever changes the exposure, nobody is let back in more often than that.

It stands before the data plane, so every change passes it: by hand, by reload, by a time limit. Whom
it holds it lets in by itself.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

from proxy.clock import Clock, monotonic, rfc3339, wall
from proxy.core.flaps import BUCKETS, HOUR_S, FlapBook, Held, Place
from proxy.core.policy import Policy
from proxy.core.toggles import Scope, Toggles
from proxy.ports import PolicyTarget

MEMORY_S = 2 * HOUR_S
"""What of the past matters at a start: an hour, and the hour that says who was held when it began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStatus:
    """Users whom exposure would let in and the flap budget does not."""

    scope: Scope | None  # of a rule; none: whoever no rule gives an exposure of its own
    low: int  # their buckets: from this one
    high: int  # … to this one
    percent: float  # of the users there
    until: str  # RFC 3339; then they are let in


class FlapGuard:
    """A `PolicyTarget` before another one. `begin` once, before anything listens; `close` at the end."""

    def __init__(self, target: PolicyTarget, *, monotonic: Clock = monotonic, wall: Clock = wall) -> None:
        self._target = target
        self._monotonic = monotonic
        self._wall = wall
        self._book = FlapBook.at(target.policy.toggles)
        self._begun = False  # until then nobody is served, so nobody changes
        self._timer: asyncio.TimerHandle | None = None

    @property
    def policy(self) -> Policy:
        return self._target.policy

    def apply(self, policy: Policy) -> None:
        """As the target's, but for the users who are held."""
        toggles, budget = policy.toggles, policy.flaps.changes_per_hour
        now = self._monotonic()
        book = self._book.moved(toggles, now, budget) if self._begun else FlapBook.at(toggles)
        held = book.held(budget)
        ranges = {place: tuple((it.low, it.high) for it in there) for place, there in held.items()}
        self._target.apply(replace(policy, held=ranges))
        self._book = book
        self._wait()

    async def settled(self) -> None:
        await self._target.settled()

    def begin(self, past: Iterable[tuple[float, Toggles]] = ()) -> None:
        """From now on changes count. `past`: the toggles in force of the last `MEMORY_S`, oldest first, each
        with the seconds since it took effect.
        """
        self._begun = True
        now, budget = self._monotonic(), self.policy.flaps.changes_per_hour
        for n, (ago, toggles) in enumerate(past):
            self._book = self._book.moved(toggles, now - ago, budget) if n else FlapBook.at(toggles)
        self.apply(self.policy)

    def status(self) -> tuple[HeldStatus, ...]:
        """Who is held now."""
        offset = self._wall() - self._monotonic()
        return tuple(
            HeldStatus(
                scope=place,
                low=it.low,
                high=it.high - 1,
                percent=(it.high - it.low) * 100 / BUCKETS,
                until=rfc3339(it.until + offset),
            )
            for place, ranges in self._held().items()
            for it in ranges
        )

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _held(self) -> dict[Place, tuple[Held, ...]]:
        return self._book.held(self.policy.flaps.changes_per_hour)

    def _wait(self) -> None:
        """Let in who is held when their time comes, without anybody doing anything."""
        self.close()
        until = min((it.until for ranges in self._held().values() for it in ranges), default=None)
        if until is not None:
            delay = max(0.0, until - self._monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self.due)

    def due(self) -> None:
        """Somebody's time has come."""
        self._timer = None
        self.apply(self.policy)
