"""What the upstreams take now that a stage sends traffic to, beside what they have shown that they can."""

from collections import deque
from collections.abc import Callable, Iterable

from proxy.core.capacity import SLOT_S, Shown
from proxy.core.policy import Route
from proxy.core.rollback.headroom import Load
from proxy.ports import Traffic

_ASKED = ("success", "error", "timeout", "unreachable", "invalid", "reset", "aborted")
"""Outcomes of calls that reached it, or tried to."""


class Loads:
    """`look` is to be called a few times a second."""

    def __init__(self, traffic: Traffic, shown: Callable[[str], Shown]) -> None:
        self._traffic = traffic
        self._shown = shown
        self._calls: dict[str, deque[tuple[float, int]]] = {}

    def look(self, routes: Iterable[Route], now: float) -> dict[str, Load]:
        """Of every upstream that recommend routes ask for content, which is where stage 2 leads."""
        names = {route.sources.content for route in routes if route.kind == "recommend"} - {""}
        for gone in self._calls.keys() - names:
            del self._calls[gone]
        return {name: Load(self._per_s(name, now), self._shown(name).per_s) for name in sorted(names)}

    def _per_s(self, name: str, now: float) -> float:
        cell = self._traffic.upstreams.get(name)
        calls = sum(cell.outcomes[it] for it in _ASKED) if cell is not None else 0
        known = self._calls.setdefault(name, deque())
        known.append((now, calls))
        while known[0][0] < now - SLOT_S:
            known.popleft()
        since, before = known[0]
        return (calls - before) / (now - since) if now > since else 0.0
