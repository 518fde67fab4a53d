"""Previews: what a change of toggles would do, told from the requests of the last minutes."""

import asyncio
from collections.abc import Container

from proxy.clock import Clock, monotonic
from proxy.core.capacity import SLOT_S, Capacity, Missing, Reads, Total
from proxy.core.inputs import Recent
from proxy.core.policy import Policy
from proxy.core.preview import Preview, Replay
from proxy.ports import PolicyTarget, Traffic

_PIECE = 200
"""Requests decided again before others get their turn: less than a millisecond's work."""
_REST = 4.0
"""For each second of work so many of rest: whoever asks without pause gets a fifth of this process."""


class Previews:
    """`run` follows what upstreams show; `preview` tells. Nothing is changed here."""

    def __init__(
        self,
        target: PolicyTarget,
        traffic: Traffic,
        recent: Recent,
        *,
        seen: Container[bytes] | None = None,
        monotonic: Clock = monotonic,
    ) -> None:
        """`seen` are the users known before a freeze, as `core.decide` asks for them."""
        self._target = target
        self._traffic = traffic
        self._recent = recent
        self._seen = seen
        self._monotonic = monotonic
        self._capacity = Capacity()
        self._missing = Missing()
        self._working = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(SLOT_S)

    def look(self) -> None:
        """To be called every `SLOT_S`: see what was answered since, and forget what is too old."""
        now = self._monotonic()
        self._capacity.observe(now, self._totals())
        self._missing.observe(self._reads())
        self._recent.forget(now)

    async def preview(self, after: Policy) -> Preview:
        """The policy in force against `after`, piece by piece so that traffic goes on in between."""
        async with self._working:
            now = self._monotonic()
            before = self._target.policy
            replay = Replay(before, after, now, self._seen)
            inputs = self._recent.read(now)
            for at in range(0, len(inputs), _PIECE):
                began = self._monotonic()
                replay.add(inputs[at : at + _PIECE])
                await asyncio.sleep(_REST * (self._monotonic() - began))
            shown = {name: self._capacity.shown(name) for name in after.upstreams}
            return replay.report(shown, self._missing.share)

    def _reads(self) -> Reads:
        """A stale answer stands in for a source that was asked, or must not be."""
        cache = self._traffic.cache
        return Reads(cache["hit"] + cache["miss"] + cache["stale"], cache["miss"] + cache["stale"])

    def _totals(self) -> dict[str, Total]:
        traffic = self._traffic.upstreams
        return {
            name: Total(upstream.urls, cell.outcomes["success"], sum(cell.buckets), cell.seconds)
            for name, upstream in self._target.policy.upstreams.items()
            if (cell := traffic.get(name)) is not None
        }
