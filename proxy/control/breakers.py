"""Breakers by hand: hold one open, hold one closed, give it back to its own judgement."""

import logging
from collections.abc import Mapping

from proxy.clock import Clock, monotonic
from proxy.core.breaker import BreakerStatus
from proxy.errors import FuseboxError
from proxy.ports import BreakerHolder

_log = logging.getLogger("fusebox.breakers")

ACTIONS = ("open", "close", "auto")


class UnknownBreaker(FuseboxError):
    """No breaker has this name; the text lists those there are."""


class BreakerControl:
    """Every breaker belongs to one upstream and bears its name."""

    def __init__(self, holder: BreakerHolder, *, monotonic: Clock = monotonic) -> None:
        self._holder = holder
        self._monotonic = monotonic

    def read(self) -> Mapping[str, BreakerStatus]:
        now = self._monotonic()
        return {name: breaker.snapshot(now) for name, breaker in self._holder.breakers.items()}

    def command(self, name: str, action: str, *, reason: str, by: str) -> BreakerStatus:
        """One of `ACTIONS`, effective with the next request; it holds until `auto` or a restart."""
        breaker = self._holder.breakers.get(name)
        if breaker is None:
            known = ", ".join(sorted(self._holder.breakers)) or "none"
            raise UnknownBreaker(f"no breaker is named {name!r}; there are: {known}")
        now = self._monotonic()
        moves = {"open": breaker.open, "close": breaker.close, "auto": breaker.auto}
        moves[action](now, reason)
        _log.warning("breaker %s: %s by %s: %s", name, action, by, reason)
        return breaker.snapshot(now)
