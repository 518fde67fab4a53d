"""Breakers as an operator has them: hold one open, hold one closed, let go; see what moved it and when."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from proxy.clock import Clock, monotonic, wall
from proxy.core.breaker import OPEN, BreakerStatus, Rule, State, Transition
from proxy.errors import FuseboxError
from proxy.ports import BreakerHolder

_log = logging.getLogger("fusebox.breakers")

ACTIONS = ("open", "close", "auto")


class UnknownBreaker(FuseboxError):
    """No breaker has this name; the text lists those there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A transition as it is shown: `Transition` with its moment on the wall clock."""

    before: State
    to: State
    rule: Rule
    observed: float  # as in `Transition`, in the rule's own unit
    n: int
    threshold: float
    dry_run: bool
    reason: str
    at: str  # RFC 3339
    ago_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerReport(BreakerStatus):
    """A breaker at one moment. Without a change so far, `last` and `last_trip` are None."""

    last: Change | None  # type: ignore[assignment]  # core tells moments by the monotonic clock only
    last_trip: Change | None  # the last change to open, which probes and recovery do not hide


class BreakerControl:
    """Every breaker belongs to one upstream and bears its name.

    `heard` is to be called with each transition: core remembers only the last one, and no wall time.
    """

    def __init__(self, holder: BreakerHolder, *, monotonic: Clock = monotonic, wall: Clock = wall) -> None:
        self._holder = holder
        self._monotonic = monotonic
        self._wall = wall
        self._last: dict[str, tuple[Transition, str]] = {}
        self._trips: dict[str, tuple[Transition, str]] = {}

    def heard(self, change: Transition) -> None:
        """Remember a transition that has just happened."""
        at = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="seconds")
        self._last[change.upstream] = change, at
        if change.to == OPEN:
            self._trips[change.upstream] = change, at

    def read(self) -> Mapping[str, BreakerReport]:
        now = self._monotonic()
        return {
            name: self._report(breaker.snapshot(now), now) for name, breaker in self._holder.breakers.items()
        }

    async def command(self, name: str, action: str, *, reason: str, by: str) -> BreakerReport:
        """One of `ACTIONS`, effective with the next request; it holds until `auto` or a restart."""
        breaker = self._holder.breakers.get(name)
        if breaker is None:
            known = ", ".join(sorted(self._holder.breakers)) or "none"
            raise UnknownBreaker(f"no breaker is named {name!r}; there are: {known}")
        now = self._monotonic()
        moves = {"open": breaker.open, "close": breaker.close, "auto": breaker.auto}
        moves[action](now, reason)
        await self._holder.settled()
        _log.warning("breaker %s: %s by %s: %s", name, action, by, reason)
        now = self._monotonic()
        return self._report(breaker.snapshot(now), now)

    def _report(self, status: BreakerStatus, now: float) -> BreakerReport:
        values: dict[str, Any] = {field.name: getattr(status, field.name) for field in fields(status)}
        # A breaker that has not moved is new, whatever another one of its name has done before a reload.
        moved = status.last is not None
        values["last"] = _change(self._last.get(status.name), now) if moved else None
        values["last_trip"] = _change(self._trips.get(status.name), now) if moved else None
        return BreakerReport(**values)


def _change(heard: tuple[Transition, str] | None, now: float) -> Change | None:
    if heard is None:
        return None
    it, at = heard
    return Change(
        before=it.before,
        to=it.to,
        rule=it.rule,
        observed=it.observed,
        n=it.n,
        threshold=it.threshold,
        dry_run=it.dry_run,
        reason=it.reason,
        at=at,
        ago_s=round(max(0.0, now - it.at), 3),
    )
