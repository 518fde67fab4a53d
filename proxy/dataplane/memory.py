"""What the sources of recommend routes have said, and what they are being asked at this moment.

Keyed by where an upstream is and how its answers are read, and by the whole target asked for: user, k and
filters are in it, and nothing else of the client's reaches a source but ids that only label (`rewrite`).
"""

from dataclasses import fields
from hashlib import blake2b
from typing import TYPE_CHECKING

from proxy.core.cache import Cache, CacheSettings, Entry, Lifetime
from proxy.core.policy import Upstream

if TYPE_CHECKING:
    from proxy.dataplane.source_call import SourceCall
    from proxy.telemetry.counters import Counters

# Settings of an upstream that cannot change what it answers; any other one makes it another place.
_OPERATION = frozenset(
    ("timeout_ms", "connect_timeout_ms", "idle_s", "max_connection_age_s", "max_inflight", "max_queue",
     "queue_timeout_ms", "dns_refresh_s", "eject_after", "eject_s", "eject_max_s", "retry_budget",
     "retry_floor_per_s", "breaker")
)  # fmt: skip


def place_of(name: str, settings: Upstream) -> bytes:
    """What the keys of an upstream's answers begin with; a reload that changes nothing there leaves it so."""
    what = [(it.name, getattr(settings, it.name)) for it in fields(settings) if it.name not in _OPERATION]
    return blake2b(repr((name, what)).encode(), digest_size=16).digest()


class Memory:
    """One for a data plane: policies come and go, and it stays."""

    __slots__ = ("cache", "calls", "candidates", "neighbours")

    def __init__(self) -> None:
        self.cache: Cache | None = None
        self.calls: dict[bytes, SourceCall] = {}
        """Under way, by key: who asks the same meanwhile waits for that one."""
        self.candidates = self.neighbours = Lifetime(0.0, 0.0)

    def configure(self, settings: CacheSettings) -> None:
        """Go by these settings from now on; what is there stays as long as it may by them."""
        self.candidates = Lifetime(settings.candidates_ttl_s, settings.stale_s)
        self.neighbours = Lifetime(settings.neighbours_ttl_s, settings.stale_s)
        if not settings.max_bytes:
            if self.cache is not None:
                self.cache.resize(0)
            self.cache = None
        elif self.cache is None:
            self.cache = Cache(settings.max_bytes)
        else:
            self.cache.resize(settings.max_bytes)

    def find(self, key: bytes, now: float, life: Lifetime) -> Entry | None:
        return None if self.cache is None else self.cache.find(key, now, life)

    def tell(self, counters: "Counters") -> None:
        """Bring what is shown of the cache up to date."""
        cache = self.cache
        counters.cache_bytes, counters.cache_entries = (0, 0) if cache is None else (cache.bytes, len(cache))
        if cache is not None:
            counters.cache_evictions += cache.evictions
            cache.evictions = 0

    def close(self, now: float) -> None:
        """End what is under way: nobody waits for it any more."""
        for call in tuple(self.calls.values()):
            call.abandon(now)
