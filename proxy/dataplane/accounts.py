"""Where every request for recommendations is accounted that is over: answered, refused, or left alone.

`Account` is the one place; what it counts goes up as signals (`core.rollback.signals`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from proxy.core.decision import Decision
from proxy.core.identity import IdentityReader
from proxy.core.policy import Policy
from proxy.core.rollback.signals import Calls, Delta, Key, Side
from proxy.core.rollback.tally import UNKNOWN, Cells, Segment, Tally
from proxy.core.toggles import UNKNOWN_USER
from proxy.dataplane.overdue import Overdue
from proxy.errors import Fault, Refusal

if TYPE_CHECKING:
    from proxy.core.recommend import Answer
    from proxy.dataplane.binding import Bound
    from proxy.dataplane.emitting import Emitting
    from proxy.dataplane.fetch import Fetch
    from proxy.dataplane.pool import Pool
    from proxy.dataplane.request_head import RequestHead
    from proxy.telemetry.counters import Counters, UpstreamCell

TAKE_S = 0.25
"""How often what was counted is handed on."""

_UNJUDGED: Mapping[Side, Side] = {
    "exposed": "decided",
    "control": "decided",
    "staged": "decided",
    "recovered": "decided",
    "drill": "drill_decided",
    "drill_control": "drill_decided",
    "drill_staged": "drill_decided",
    "drill_recovered": "drill_decided",
}
"""The sides somebody judges, by segment too, and where of each those count that say nothing about it.
Of the other sides totals are enough.
"""
_COLD = UNKNOWN_USER.encode()
_NOT_FAILED = "client_error"
"""The outcome of a source that answered 4xx: it works, and has nothing for this one (facts 2.20)."""
_OURS = frozenset(("overloaded", "aborted"))
"""Outcomes that are the sidecar's own fault: no slot became free, an exception."""
_BY_FLAG = "flag_off"
"""The code of the only 5xx that somebody wanted."""


class Account:
    """Requests of one route, arm and side. Each is accounted once, when it is over, by one of the first
    five.
    """

    __slots__ = ("_books", "_cells", "_place", "_segmented", "_unjudged", "overdue", "unjudged")

    def __init__(self, books: "Books", route: str, arm: str, side: Side) -> None:
        self._books = books
        self._place = route, arm, side
        self._segmented = side in _UNJUDGED
        self._cells: Cells = books.tally.cells(route, arm, side)
        self.overdue = books.overdue if self._segmented else None
        """Who watches requests while they are in flight; None: nobody."""
        self.unjudged = Account(books, route, arm, _UNJUDGED[side]) if self._segmented else self
        """The one of requests that turn out to say nothing of the recommender."""
        self._unjudged = self.unjudged._cells  # noqa: SLF001 - its own kind

    def under(self, decision: Decision) -> "Account":
        """The one of requests that are served so. Of a copy it stays the mirror's, whatever is decided."""
        route, _, side = self._place
        return Account(self._books, route, decision.arm, side if side == "mirror" else decision.side)

    # -- a request is over

    def warmed(self) -> None:
        """It was asked for on behalf of nobody, to be remembered."""
        self._unjudged.plain += 1

    def popular(self, head: "RequestHead", now: float, body: bytes) -> None:
        """It was answered with `body`, from the popularity list by decision."""
        self._unjudged.plain += 1
        if (events := self._books.events) is not None and events.picks():
            events.ranking(head, self.unjudged._key(UNKNOWN), now, body)  # noqa: SLF001 - its own kind

    def answered(
        self,
        head: "RequestHead",
        bound: "Bound",
        k: int,
        answer: "Answer",
        fetches: "Sequence[Fetch]",
        now: float,
        *,
        passed: int = 0,
        prevented: bool = False,
        broken: bool = False,
    ) -> None:
        """It was answered with what `fetches` brought, all of which are over, or was `prevented` by a kill
        from asking on. `passed`: see `overdue.Waiting`; `broken`: by a fault of ours they were of no use.
        """
        decided = prevented
        failed = broken
        reads = hits = 0
        for fetch in fetches:
            decided = decided or fetch.by_decision
            if fetch.failed and fetch.outcome != _NOT_FAILED:
                failed = True
                broken = broken or fetch.outcome in _OURS
            cache = fetch.cache
            if cache != "bypass":
                reads += 1
                hits += cache == "hit"
        if decided:
            if passed > 0:  # it has been counted as late, and stays where that was
                self._cells.left(self._cell(head), now - head.started, passed)
                self._told(head, now, answer.body)
            else:
                self.popular(head, now, answer.body)
            return
        covered = answer.covered
        if bound.judged:
            counters = bound.counters
            counters.slots_asked += k
            counters.slots_covered += covered
        self._cells.ended(
            self._cell(head),
            now - head.started,
            k=k,
            covered=covered,
            reads=reads,
            hits=hits,
            failed=failed,
            broken=broken,
            passed=passed,
        )
        if (events := self._books.events) is not None:
            self._told(head, now, answer.body, failed=failed)
            if failed:
                events.errors(head, self._key(self._segment(head)), now, fetches, broken=broken)

    def refused(self, head: "RequestHead", refusal: Refusal, now: float) -> None:
        """It was answered with a problem."""
        if refusal.status < 500:
            self._cells.refused += 1
        elif refusal.code == _BY_FLAG:
            self._unjudged.plain += 1
        else:
            broken = refusal.fault is not Fault.UPSTREAM
            self._cells.ended(self._cell(head), now - head.started, failed=True, broken=broken)
            self._told(head, now, b"", refusal.status, failed=True)
            if (events := self._books.events) is not None:
                events.error(head, self._key(self._segment(head)), now, refusal.code, str(refusal))

    def gone(self, head: "RequestHead", now: float, passed: int) -> None:
        """Its client has left. What was counted as late stays so."""
        if passed > 0:
            self._cells.left(self._cell(head), now - head.started, passed)
            self._told(head, now, b"", 499)
        else:
            self._cells.refused += 1

    # -- while it is in flight

    def late(self, head: "RequestHead", at: int) -> None:
        """It has passed a target, and still is."""
        self._cells.late(self._cell(head), at)

    # -- whose it is

    def _told(
        self, head: "RequestHead", now: float, body: bytes, status: int = 200, *, failed: bool = False
    ) -> None:
        """Tell the event log of a request that counts here, if it is picked: whose it is takes its time."""
        if (events := self._books.events) is not None and events.picks():
            events.ranking(head, self._key(self._segment(head)), now, body, status, failed=failed)

    def _key(self, segment: Segment) -> Key:
        return Key(*self._place, *segment)

    def _cell(self, head: "RequestHead") -> list[int]:
        """That of its segment: found by what was sent as it stands, where there is one already."""
        cells = self._cells
        names = self._books.identity.segment_fields
        if names is not None and self._segmented:
            fields = head.fields
            region, cohort, client = names
            as_sent = fields.get(region, b""), fields.get(cohort, b""), fields.get(client, b"")
            found = cells.known.get(as_sent)  # what is not well-formed is not among them
            if found is not None and (head.user or as_sent[1]):
                return found
        return cells.of(self._segment(head))

    def _segment(self, head: "RequestHead") -> Segment:
        """As scopes see it: who has no user id and no cohort is `cold`."""
        if not self._segmented:
            return UNKNOWN
        user, region, cohort, client = self._books.identity.who(head.user, head.fields, head.query)
        return region, cohort or (b"" if user else _COLD), client


class Books:
    """All accounts of one process, and what has to be handed on of them."""

    def __init__(
        self,
        counters: "Counters",
        pools: "Mapping[str, Pool]",
        told: Callable[[Delta], None] | None,
        events: "Emitting | None" = None,
    ) -> None:
        """`pools`: all there ever were, by upstream. Without somebody to be `told` every 250 ms, whoever
        wants to know calls `take`. `events`: the event log, if there is one.
        """
        self.events = events
        self.tally = Tally()
        self.overdue = Overdue()
        self.identity: IdentityReader
        self._counters = counters
        self._pools = pools
        self._told = told
        self._calls: dict[str, Calls] = {}
        self._next_take = 0.0

    def apply(self, policy: Policy, identity: IdentityReader) -> None:
        """Go by this policy: where segments are read, what is late."""
        self.identity = identity
        targets = policy.rollback.targets
        if targets != self.tally.targets:
            self.tally.retarget(targets)
            self.overdue.retarget(targets)

    def account(self, route: str, arm: str, side: Side) -> Account:
        return Account(self, route, arm, side)

    def tick(self, now: float) -> None:
        if self._told is not None and now >= self._next_take:
            self._next_take = max(self._next_take + TAKE_S, now)
            # Apart from this tick: a fault in judging is none of the traffic's.
            asyncio.get_running_loop().call_soon(self._told, self.take(now))

    def take(self, now: float) -> Delta:
        """What was counted since the last time."""
        self.overdue.look(now)
        delta = self.tally.take(self._upstreams())
        self._counters.signals_overflowed += delta.overflowed
        return delta

    def _upstreams(self) -> dict[str, Calls]:
        """What calls came to since the last time, of upstreams with any."""
        risen = {}
        for name, pool in self._pools.items():
            now = _calls(pool.cell, pool.breaker.slow_calls)
            before = self._calls.get(name)
            if now != before:
                self._calls[name] = now
                risen[name] = now if before is None else Calls(*map(int.__sub__, now, before))
        return risen


def _calls(cell: "UpstreamCell", slow: int) -> Calls:
    counts = cell.outcomes
    failed = sum(map(counts.__getitem__, _FAILED))
    return Calls(counts["success"] + failed, failed, slow)


_FAILED = ("error", "timeout", "unreachable", "invalid", "reset")
"""Outcomes of calls that say something bad about the upstream."""
