"""Signals as plain integers: counted on the hot path, read by whoever scrapes.

A cell is a list of ints behind names. Counting is `cell.status[s] += 1` and one bisect; no locks,
because one loop thread writes and a scrape tolerates being a moment apart. Cells add up, so
workers and instances merge by addition.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from functools import partial

from proxy.core.rollback.signals import BOUNDS_S

bucket_of: Callable[[float], int] = partial(bisect_left, BOUNDS_S)
"""The index of the latency bucket that so many seconds fall in."""


class Cell:
    """Requests of one route and arm: by status class (index 1…5), and their latency."""

    __slots__ = ("buckets", "seconds", "status")

    def __init__(self) -> None:
        self.status = [0] * 6
        self.buckets = [0] * (len(BOUNDS_S) + 1)  # the last is +Inf
        self.seconds = 0.0

    def count(self, status: int, seconds: float) -> None:
        self.status[status // 100] += 1
        self.buckets[bucket_of(seconds)] += 1
        self.seconds += seconds


class UpstreamCell:
    """Calls of one upstream: by outcome, their latency to the first byte, and what runs now."""

    __slots__ = ("buckets", "inflight", "outcomes", "queued", "retries", "seconds")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0
        self.inflight = 0
        self.queued = 0
        self.retries = 0


class ShadowCell:
    """Copies of one route's requests: what became of them, and how far their answers agreed."""

    __slots__ = ("overlap", "overlap_sum", "rank", "rank_sum", "real_seconds", "results", "seconds")

    def __init__(self) -> None:
        self.results: dict[str, int] = dict.fromkeys(SHADOW_RESULTS, 0)
        self.overlap = [0] * len(AGREEMENT)
        self.overlap_sum = 0.0
        self.rank = [0] * len(AGREEMENT)
        self.rank_sum = 0.0
        self.real_seconds = 0.0  # of the answers that were compared
        self.seconds = 0.0  # … and of their shadows

    def agreed(self, overlap: float, rank: float) -> None:
        """How far two lists of items agree, each 0…1."""
        self.overlap[bisect_left(AGREEMENT, overlap)] += 1
        self.overlap_sum += overlap
        self.rank[bisect_left(AGREEMENT, rank)] += 1
        self.rank_sum += rank


AGREEMENT: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Upper bounds of the buckets of agreement."""

SHADOW_RESULTS = (
    # compared
    "same",
    "other_status",
    "other_items",
    "other_body",
    "unreadable",  # by their coding
    # asked in vain
    "failed",
    "timeout",
    # not asked
    "skipped_busy",  # as many as may run, run
    "skipped_no_headroom",  # an upstream has enough to do
    "skipped_breaker",  # an upstream is, or was just, broken
    "skipped_killed",
    "skipped_same_plan",
    # not compared
    "skipped_size",
    "skipped_late",  # the real answer took too long to end
)

OUTCOMES = (
    "success",  # answered below 500
    "error",  # answered 5xx
    "timeout",
    "unreachable",
    "invalid",
    "reset",  # closed before or inside an answer
    "aborted",  # the client left: neutral
    "breaker_open",  # refused here: never the upstream's fault
    "overloaded",  # shed here
)


CACHE_RESULTS = (
    "hit",
    "miss",
    "stale",  # too old, in place of a source that failed or must not be asked
    "bypass",  # not looked: the mode is cold, or there is no cache
)
"""What came of asking for the candidates of one source."""


class Counters:
    """All counters of one process."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], Cell] = {}  # (route, arm)
        self.upstreams: dict[str, UpstreamCell] = {}
        self.shadows: dict[str, ShadowCell] = {}  # by route
        self.transitions: defaultdict[tuple[str, str, str], int] = defaultdict(int)  # (upstream, to, rule)
        self.levels: defaultdict[str, int] = defaultdict(int)  # A…D: where recommend answers came from
        self.slots_asked = 0  # recommend: k summed over judged requests
        self.slots_covered = 0  # … of which filled without popularity (facts 2.19)
        self.cache: dict[str, int] = dict.fromkeys(CACHE_RESULTS, 0)
        self.coalesced = 0  # sources that another request was asking the same already
        self.cache_bytes = 0  # now, as is the next
        self.cache_entries = 0
        self.cache_evictions = 0
        self.warm = {"asked": 0, "had": 0, "failed": 0}  # calls for the warm list, and what was there already
        self.warm_left = 0  # now: places on it that are still to be looked at
        self.warm_unreadable = 0  # processes that cannot read it
        self.unsticky = 0  # recommend requests without a user: the request id chose the bucket (facts 2.12)
        self.refusals: defaultdict[str, int] = defaultdict(int)  # by code
        self.actions: defaultdict[tuple[str, str], int] = defaultdict(int)  # recorded: (action, outcome)
        self.audit_lost = 0  # actions that could not be recorded and went on
        self.connections = 0  # open client connections
        self.accepted = 0  # client connections ever
        self.events_dropped = 0  # log lines and events
        self.events_stuck = 0  # now: processes whose event log cannot be written
        self.signals_overflowed = 0  # recommend requests that found no cell of their own
        self.workers = 0  # that carry traffic; counted by their supervisor, as are the next
        self.worker_restarts = 0  # workers put in the place of one that failed
        self.asides: dict[str, Counters] = {}  # by why the traffic must not be judged; see `aside`

    def aside(self, why: str) -> "Counters":
        """The same columns again, for traffic that must not be judged (facts 2.18): nothing of it is in
        those above, but connections and what runs and waits at an upstream.
        """
        found = self.asides.get(why)
        if found is None:
            found = self.asides[why] = Counters()
        return found

    def cell(self, route: str, arm: str) -> Cell:
        found = self.routes.get((route, arm))
        if found is None:
            found = self.routes[route, arm] = Cell()
        return found

    def upstream(self, name: str) -> UpstreamCell:
        found = self.upstreams.get(name)
        if found is None:
            found = self.upstreams[name] = UpstreamCell()
        return found

    def shadow(self, route: str) -> ShadowCell:
        found = self.shadows.get(route)
        if found is None:
            found = self.shadows[route] = ShadowCell()
        return found
