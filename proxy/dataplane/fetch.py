"""One source asked for its candidates on behalf of one request."""

import logging
from typing import Literal, Protocol, TypeAlias

from proxy.core.cache import Entry, Lifetime
from proxy.core.candidates import Candidates, parse_candidates
from proxy.dataplane import rewrite
from proxy.dataplane.binding import NEIGHBOURS, Bound
from proxy.dataplane.call import OVER
from proxy.dataplane.deadlines import Lane
from proxy.dataplane.failures import Failure
from proxy.dataplane.pool import Pool
from proxy.dataplane.source_call import SourceCall
from proxy.errors import Refusal

_log = logging.getLogger("fusebox.dataplane")

CacheResult: TypeAlias = Literal["bypass", "hit", "miss", "stale"]
"""Of several, the last one by the alphabet says most."""


class Asker(Protocol):
    """Who asks."""

    def source_lines(self) -> bytes:
        """The fields that say for whom; `rewrite.candidates_lines`."""

    def source_over(self, now: float) -> None:
        """A source is `over`."""


class _Nobody:
    """Takes the place of who has heard, or will hear, nothing more."""

    def source_lines(self) -> bytes:
        return b""

    def source_over(self, now: float) -> None:
        pass


NOBODY = _Nobody()


class Fetch:
    """What one source has to say to one request: remembered, called for, or said to another request that
    asks the same at this moment.

    Once it is `over` the fields hold, and of client and call nothing is held any more.
    """

    items: Candidates | None = None
    failed: bool
    """The source, asked or not because its breaker is open, did not answer as it should (facts 2.20)."""
    by_decision: bool
    """It was not asked because somebody wanted that: its breaker is held open, or the cache alone may answer
    (facts 2.18)."""
    over: bool
    milliseconds = 0.0
    """From sent, or from when this request joined, to the end of the answer or the waiting; 0: not asked."""
    outcome = "answered"
    """Or `remembered`, `late`, `not_asked`, `client_error` (4xx), or the outcome of a call that failed."""
    cache: CacheResult
    """`stale`: what the cache has is too old, and still better than nothing."""

    _call: SourceCall | None = None
    _lane: Lane | None

    def __init__(self, asker: Asker, kind: str, pool: Pool, target: bytes, bound: Bound) -> None:
        """`target`: path and query that the source is asked for."""
        self._asker: Asker = asker
        self.kind = kind
        self.pool = pool
        self.bound = bound
        self.key = pool.place_key + target
        self.shape = pool.shape  # with the key: a reload may change how answers are read
        self._target = target
        # What each request looks at; a default that stands on the class takes five times as long to read.
        self.over = self.failed = self.by_decision = False
        self.cache = "bypass"
        self._joined = 0.0
        self._lane = None

    def begin(self, now: float, bucket: int) -> None:
        """The asker is told once, perhaps before this returns."""
        bound = self.bound
        try:
            if bound.reads_cache and self._recalled(now):
                return
            if not bound.asks:
                self.by_decision = True
                self.outcome = "not_asked"
                self._end(now)
                return
            calls = bound.memory.calls
            call = calls.get(self.key)
            if call is not None and call.suits(self):
                self._join(call, now)
                return
            request = rewrite.candidates_request(self.pool, self._target, self._asker.source_lines())
            self._call = call = SourceCall(self, request)
            call.begin(now, bucket)
            if call.phase != OVER:
                calls[self.key] = call
        except Refusal:
            self.by_decision = self.pool.breaker.forced == "open"
            self.told(None, now)
        except Exception:  # noqa: BLE001 - a fault of ours: this source has failed, and the others answer
            _log.exception("asking a source failed")
            if self._call is not None:
                self._call.expire(Failure.INTERNAL, "a fault in the sidecar", now)
            self.told(None, now)

    def _join(self, call: SourceCall, now: float) -> None:
        bound = self.bound
        self._joined = now
        call.join(self)
        self._call = call
        bound.counters.coalesced += 1
        lane = bound.source_lanes[self.kind]
        if lane is not call.first_byte:
            self._lane = lane
            lane.set(self, now)

    def _recalled(self, now: float) -> bool:
        """Whether the cache is all that is needed."""
        life = self._life()
        entry = self.bound.memory.find(self.key, now, life)
        fresh = entry is not None and entry.fresh(now, life)
        if entry is None or not (fresh or not self.bound.asks):
            self.cache = "miss"
            return False
        self._take(entry, "hit" if fresh else "stale")
        self.outcome = "remembered"
        self._end(now)
        return True

    def _life(self) -> Lifetime:
        memory = self.bound.memory
        return memory.neighbours if self.kind == NEIGHBOURS else memory.candidates

    def _take(self, entry: Entry, result: CacheResult) -> None:
        self.items = parse_candidates(entry.body, self.shape)
        self.cache = result

    def told(self, items: Candidates | None, now: float) -> None:
        """The call is over: with these candidates, or None."""
        if self.over:
            return
        call = self._call
        if call is not None and (since := self._joined or call.sent_at):
            self.milliseconds = (now - since) * 1000
        self.items = items
        if items is None:
            failed = "aborted" if call is None else call.outcome
            self.outcome = "client_error" if failed == "success" else failed
            self._failed(now)
        self._end(now)

    def _failed(self, now: float) -> None:
        """What is too old stands in, and changes nothing about the failure."""
        self.failed = True
        if self.bound.reads_cache:
            entry = self.bound.memory.find(self.key, now, self._life())
            if entry is not None:
                self._take(entry, "stale")

    def on_deadline(self, now: float) -> None:
        """The call has more time than this request."""
        self._lane = None
        asker = self._asker
        self.leave(now)
        asker.source_over(now)

    def leave(self, now: float) -> None:
        """Be over now, without telling the asker: it waits no longer. The call goes on, to be remembered and
        judged, unless it still waits for a slot.
        """
        if self.over:
            return
        call = self._call
        if call is not None and (since := self._joined or call.sent_at):
            self.milliseconds = (now - since) * 1000
        self.outcome = "late"
        self._failed(now)
        self._finish()
        if call is not None:
            call.left(now, keep=not self.pool.queues(call))

    def give_up(self, now: float) -> None:
        """The client is gone. The call ends if nobody else waits for it, unless its answer is of use."""
        if self.over:
            return
        call = self._call
        self._finish(counts=False)
        if call is not None:
            call.left(now, keep=self.bound.reads_cache and self.pool.has_headroom())

    def _end(self, now: float) -> None:
        asker = self._asker
        self._finish()
        asker.source_over(now)

    def _finish(self, *, counts: bool = True) -> None:
        self.over = True
        self._asker = NOBODY
        self._call = None
        if self._lane is not None:
            self._lane.clear(self)
            self._lane = None
        if counts:
            self.bound.cache_results[self.cache] += 1
