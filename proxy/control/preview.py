"""Previews: what a change of toggles would do, told from the requests of the last minutes."""

import asyncio
from collections.abc import Callable, Container

from proxy.clock import Clock, monotonic
from proxy.core.capacity import SLOT_S, Capacity, Missing, Reads, Shown, Total
from proxy.core.inputs import Recent
from proxy.core.policy import Policy
from proxy.core.preview import Preview, Replay
from proxy.ports import PolicyTarget, Traffic

WORK_S = 0.5
"""Decided again is what there is time for: where ten thousand rules apply, that is a part of all."""
_PARTS = 67
"""Parts of all requests, each over the whole time; a prime: clients who take turns are in all of them."""
_PIECE = 20
"""Requests between two looks at the clock."""
_TURN_S = 0.001
"""Of work, and others get their turn."""
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
        foreseen: Callable[[Policy], Policy] = lambda policy: policy,
        monotonic: Clock = monotonic,
    ) -> None:
        """`seen` are the users known before a freeze, as `core.decide` asks for them; `foreseen` gives a
        policy as it would be in force.
        """
        self._target = target
        self._traffic = traffic
        self._recent = recent
        self._seen = seen
        self._foreseen = foreseen
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

    def shown(self, upstream: str) -> Shown:
        """What that one has shown that it can take."""
        return self._capacity.shown(upstream)

    async def preview(self, after: Policy) -> Preview:
        """The policy in force against `after`, piece by piece so that traffic goes on in between."""
        async with self._working:
            now = self._monotonic()
            before = self._target.policy
            replay = Replay(before, self._foreseen(after), now, self._seen)
            inputs = self._recent.read(now)
            work = _Work(self._monotonic)
            for part in range(_PARTS):
                if work.spent_s >= WORK_S:
                    break
                of = inputs[part::_PARTS]
                for at in range(0, len(of), _PIECE):
                    replay.add(of[at : at + _PIECE])
                    await work.turn()
            shown = {name: self.shown(name) for name in after.upstreams}
            weight = sum(one.weight for one in inputs)
            return replay.report(shown, self._missing.share, weight)

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


class _Work:
    """Work that lets others have their turn."""

    def __init__(self, clock: Clock) -> None:
        self.spent_s = 0.0
        self._clock = clock
        self._began = clock()

    async def turn(self) -> None:
        """To be called often; returns at once as long as little was done."""
        now = self._clock()
        worked_s = now - self._began
        if worked_s >= _TURN_S:
            self.spent_s += worked_s
            await asyncio.sleep(_REST * worked_s)
            self._began = self._clock()
