"""The flap budget in force: whatever changes the exposure, nobody is let back in more often than that.

It stands before the data plane, so every change passes it: by hand, by reload, by a time limit. Whom
it holds it lets in by itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from proxy.clock import Clock, monotonic, rfc3339, wall
from proxy.core.flaps import BUCKETS, HOUR_S, FlapBook, Held, Place
from proxy.core.policy import Policy
from proxy.core.toggles import Toggles
from proxy.ports import PolicyTarget, StoreError
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.flaps")

Past: TypeAlias = Callable[[float], Awaitable[list[tuple[float, Toggles]]]]

MEMORY_S = 2 * HOUR_S
"""What of the past matters at a start: an hour, and the hour that says who was held when it began."""

PATIENCE_S = 0.5
"""What a start gives to hearing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStatus:
    """Users whom exposure would let in and the flap budget does not."""

    scope: dict[str, tuple[str, ...]] | None  # of a rule; none: whoever no rule gives an exposure of its own
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
        self._since: list[tuple[float, Toggles]] | None = None  # changes until the past is known
        self._timer: asyncio.TimerHandle | None = None
        self._until: float | None = None  # when the first of those held is let in
        self._budget: int | None = None  # by which that was found; None: it was not

    @property
    def policy(self) -> Policy:
        return self._target.policy

    def apply(self, policy: Policy) -> None:
        """As the target's, but for the users who are held."""
        now = self._monotonic()
        book, held = self._moved(policy, now)
        self._target.apply(held)
        known, self._book = self._book, book
        if self._since is not None:
            self._since.append((now, policy.toggles))
        if book is not known:
            self._wait()

    def foreseen(self, policy: Policy) -> Policy:
        """What `apply` would hand on; nothing changes."""
        return self._moved(policy, self._monotonic())[1]

    def _moved(self, policy: Policy, now: float) -> tuple[FlapBook, Policy]:
        toggles, budget = policy.toggles, policy.flaps.changes_per_hour
        if self._begun and self._same(toggles, now, budget):
            return self._book, replace(policy, held=self.policy.held)
        book = self._book.moved(toggles, now, budget) if self._begun else FlapBook.at(toggles)
        held = book.held(budget)
        ranges = {place: tuple((it.low, it.high) for it in there) for place, there in held.items()}
        return book, replace(policy, held=ranges)

    def _same(self, toggles: Toggles, now: float, budget: int) -> bool:
        """Nobody's exposure becomes another; of ten thousand rules none is looked at to tell that."""
        due = self._until is not None and self._until <= now
        return not due and budget == self._budget and self._book.asked_by(toggles)

    async def settled(self) -> None:
        await self._target.settled()

    async def begin(self, past: Past) -> None:
        """From now on changes count, and those of the past hour do as soon as `past` has told them: the
        toggles that held in the last so many seconds, oldest first, each with the seconds since it took
        effect. Nobody waits long for that: a start must not need the store.
        """
        self._begun = True
        self._since = [(self._monotonic(), self.policy.toggles)]
        await asyncio.wait([spawn(self._recall(past), "the past of the flap budget")], timeout=PATIENCE_S)

    async def _recall(self, past: Past) -> None:
        try:
            known = await past(MEMORY_S)
        except StoreError as error:
            _log.warning("who has used up the flap budget is not known, so it begins anew: %s", error)
            known = []
        now, budget = self._monotonic(), self.policy.flaps.changes_per_hour
        since = self._since or []
        past_steps = [(now - ago, toggles) for ago, toggles in known]
        first = (past_steps or since)[0][1]
        # In a thread: with thousands of rules each step takes its time.
        book = await asyncio.to_thread(_followed, FlapBook.at(first), past_steps, budget)
        self._book = _followed(book, since, budget)
        self._since = self._budget = None
        self.apply(self.policy)

    def status(self) -> tuple[HeldStatus, ...]:
        """Who is held now."""
        offset = self._wall() - self._monotonic()
        return tuple(
            HeldStatus(
                scope=None if place is None else place._asdict(),
                low=it.low,
                high=it.high - 1,
                percent=(it.high - it.low) * 100 / BUCKETS,
                until=rfc3339(it.until + offset),
            )
            for place, ranges in self._held().items()
            for it in _joined(ranges)
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
        self._budget = self.policy.flaps.changes_per_hour
        self._until = min((it.until for ranges in self._held().values() for it in ranges), default=None)
        if self._until is not None:
            delay = max(0.0, self._until - self._monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self.due)

    def due(self) -> None:
        """Somebody's time has come."""
        self._timer = None
        self._budget = None  # look, even where the timer came too early by a hair
        self.apply(self.policy)


def _joined(ranges: Iterable[Held]) -> list[Held]:
    """Neighbours who are let in at the same time are one, whatever brought them there."""
    found: list[Held] = []
    for it in ranges:
        if found and (found[-1].high, found[-1].until) == (it.low, it.until):
            found[-1] = found[-1]._replace(high=it.high)
        else:
            found.append(it)
    return found


def _followed(book: FlapBook, steps: list[tuple[float, Toggles]], budget: int) -> FlapBook:
    for at, toggles in steps:
        book = book.moved(toggles, at, budget)
    return book
