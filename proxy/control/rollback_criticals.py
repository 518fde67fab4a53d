"""Failures that need no statistics: looked for a few times a second, and shown as long as they last."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from proxy.core.rollback.verdicts import Critical
from proxy.ports import BreakerHolder, Traffic

CONTRACT_S = 10.0
CONTRACT_CALLS = 5
CONTRACT_SHARE = 0.5
"""A contract is broken when so many answers in so many seconds were none, and so large a share of all."""
CRASH_S = 60.0
CRASHES = 3
"""Workers crash in a loop when so many were replaced within so many seconds."""
_REACHED = ("success", "error", "timeout", "invalid", "reset")
"""Outcomes of calls that were an upstream's to answer."""


class _Calls(NamedTuple):
    at: float
    reached: int
    invalid: int


class Criticals:
    """`look` is to be called a few times a second; it tells what is critical now."""

    def __init__(
        self, holder: BreakerHolder, traffic: Traffic, restarts: Callable[[], int] = lambda: 0
    ) -> None:
        """`restarts`: workers that failed and were replaced, counted from the start."""
        self._holder = holder
        self._traffic = traffic
        self._restarts = restarts
        self._calls: dict[str, deque[_Calls]] = {}
        self._crashes: deque[tuple[float, int]] = deque()

    def look(self, upstreams: Sequence[str], now: float) -> tuple[Critical, ...]:
        """Of these upstreams, and of the workers."""
        for gone in self._calls.keys() - set(upstreams):
            del self._calls[gone]
        found = [*self._breakers(upstreams, now), *self._contracts(upstreams, now), *self._loop(now)]
        return tuple(found)

    def _breakers(self, upstreams: Sequence[str], now: float) -> Iterator[Critical]:
        """Until it has closed again: while it probes, nobody knows better. Held open by hand is a decision,
        and a dry run keeps nobody from the upstream.
        """
        breakers = self._holder.breakers
        for name in upstreams:
            if name in breakers:
                it = breakers[name].snapshot(now)
                if it.state != "closed" and not it.dry_run and it.forced is None:
                    yield Critical("breaker_open", name, it.last.reason if it.last is not None else "")

    def _contracts(self, upstreams: Sequence[str], now: float) -> Iterator[Critical]:
        cells = self._traffic.upstreams
        for name in upstreams:
            if (cell := cells.get(name)) is None:
                continue
            outcomes = cell.outcomes
            newest = _Calls(now, sum(outcomes[it] for it in _REACHED), outcomes["invalid"])
            known = self._calls.setdefault(name, deque())
            known.append(newest)
            while known[0].at < now - CONTRACT_S:
                known.popleft()
            reached, invalid = newest.reached - known[0].reached, newest.invalid - known[0].invalid
            if invalid >= CONTRACT_CALLS and invalid >= CONTRACT_SHARE * reached:
                told = f"{invalid} of {reached} answers in {CONTRACT_S:g} s were not what was agreed"
                yield Critical("contract_broken", name, told)

    def _loop(self, now: float) -> Iterator[Critical]:
        count = self._restarts()
        self._crashes.append((now, count))
        while self._crashes[0][0] < now - CRASH_S:
            self._crashes.popleft()
        crashed = count - self._crashes[0][1]
        if crashed >= CRASHES:
            yield Critical("crash_loop", "workers", f"{crashed} failed within {CRASH_S:g} s")
