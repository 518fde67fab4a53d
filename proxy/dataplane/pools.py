"""The pools of all upstreams: their connections, slots and breakers outlive a policy."""

import random
from collections.abc import Callable, Mapping

from proxy.clock import monotonic
from proxy.core.breaker import Breaker, Transition
from proxy.core.policy import Policy, Upstream
from proxy.dataplane.deadlines import Ticker
from proxy.dataplane.place import Place, key
from proxy.dataplane.pool import Pool
from proxy.dataplane.response_head import ResponseReader
from proxy.telemetry.counters import Counters


class Pools:
    """Makes and remembers them, by upstream."""

    def __init__(
        self,
        counters: Counters,
        ticker: Ticker,
        responses: ResponseReader,
        on_transition: Callable[[Transition], None],
    ) -> None:
        self._counters = counters
        self._ticker = ticker
        self._responses = responses
        self._on_transition = on_transition
        self.ever: dict[str, Pool] = {}  # also those a reload took away: one may come back

    def places(self, policy: Policy) -> dict[str, Place]:
        """Where the upstreams of `policy` are. What can fail of it does so here, and changes nothing."""
        return {
            name: self._place(name, settings, policy.authorities.get(settings.ca_file, ""))
            for name, settings in policy.upstreams.items()
        }

    def take(self, policy: Policy, places: Mapping[str, Place]) -> dict[str, Pool]:
        """The pools of `policy`, under its settings. Closing those that are gone is the caller's."""
        pools = {}
        for name, settings in policy.upstreams.items():
            known = self.ever.get(name)
            if known is None:
                known = self.ever[name] = self._new(name, settings, places[name], policy)
            known.reconfigure(settings, places[name], policy.limits)
            pools[name] = known
        return pools

    def close(self) -> None:
        """Close every connection that is idle now, and each of the others when it is."""
        for pool in self.ever.values():
            pool.close()

    def _place(self, name: str, settings: Upstream, authorities: str) -> Place:
        """The one it had before if it is the same: making one for TLS takes its time."""
        known = self.ever.get(name)
        if known is not None and known.place.key == key(settings, authorities):
            return known.place
        return Place(settings, authorities)

    def _new(self, name: str, settings: Upstream, place: Place, policy: Policy) -> Pool:
        breaker = Breaker(
            name,
            settings.breaker,
            rng=random.random,
            on_transition=self._on_transition,
            now=monotonic(),
        )
        cell = self._counters.upstream(name)
        return Pool(name, settings, place, breaker, cell, self._ticker, self._responses, policy.limits)
