"""Recommend routes: ask the sources side by side, blend what came, always answer k items.

Where slots stay open content is asked once more, for neighbours of what was offered (level B); all of it
within the route's deadline.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxy.clock import monotonic
from proxy.core.asks import Ask, neighbours_query, parse_ask, plain_k
from proxy.core.recommend import Answer, compose, first_round, second_round
from proxy.dataplane import answers, rewrite
from proxy.dataplane.binding import NEIGHBOURS, NO_STORE, Bound, decided
from proxy.dataplane.explaining import explained
from proxy.dataplane.failures import Failure
from proxy.dataplane.faults import FaultyFetch
from proxy.dataplane.fetch import CacheResult, Fetch
from proxy.dataplane.pool import Pool
from proxy.dataplane.request_head import RequestHead

if TYPE_CHECKING:
    from proxy.core.ladder import Offered
    from proxy.dataplane.client import ClientConnection

_log = logging.getLogger("fusebox.dataplane")

_ANSWER = (
    b"HTTP/1.1 200 OK\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\nX-Request-Id: %b\r\n"
    b"%b%d%bServer-Timing: total;dur=%.1f%b\r\n%b\r\n%b"
)


class Recommend:
    """One recommend request under way: one round of asking, a second where that left slots open."""

    __slots__ = (
        "_ask", "_bound", "_client", "_done", "_fetches", "_head", "_lines", "_pending", "_rounds", "passed",
    )  # fmt: skip

    def __init__(self, client: "ClientConnection", head: RequestHead, bound: Bound, ask: Ask) -> None:
        self._client = client
        self._head = head
        self._bound = bound
        self._ask = ask
        self._fetches: list[Fetch] = []
        self._rounds: list[Offered] = []  # those that are over
        self._done = False
        self._lines = b""
        self.passed = -1  # see `overdue.Waiting`
        self._pending = 1  # sources that are not over; and the beginning, which waits for all to be asked

    @classmethod
    def begin(
        cls, client: "ClientConnection", head: RequestHead, bound: Bound, now: float
    ) -> "Recommend | None":
        """Ask its sources, all at once. None when the answer is already out. Raises `Refusal`: bad query."""
        if bound.sources:
            ask = parse_ask(head.query, head.user, k_default=bound.route.k_default, k_max=bound.route.k_max)
        elif (page := popular(client, head, bound)) is None:
            return None
        else:
            ask = page
        if ask.cursor is not None:
            bound, ask = client.plane.paging.turned(head, bound, ask)
            if not bound.sources:
                _popular(client, head, bound, ask)
                return None
        self = cls(client, head, bound, ask)
        fetches = self._fetches
        asking = Fetch if bound.faults is None else FaultyFetch
        query = b"?" + ask.query
        for kind, pool in bound.sources.items():
            fetches.append(asking(self, kind, pool, pool.candidates_path + query, bound))
        self._pending += len(fetches)
        if bound.deadline is not None:
            bound.deadline.set(self, now)
        for fetch in fetches:
            fetch.begin(now, head.bucket)
        self.source_over(now)
        if self._done:
            return None
        if (overdue := bound.account.overdue) is not None:
            overdue.add(self)
        return self

    def source_lines(self) -> bytes:
        """The same for all its sources."""
        if not self._lines:
            self._lines = rewrite.candidates_lines(self._head)
        return self._lines

    def source_over(self, now: float) -> None:
        """Go on as soon as every source is over; their deadlines see to it that they come to be."""
        self._pending -= 1
        if not self._pending and not self._done:
            self._go_on(now, in_time=True)

    def on_deadline(self, now: float) -> None:
        """Answer with what has arrived; who is late has failed this request (facts 2.18)."""
        if not self._done:
            for fetch in self._fetches:
                if not fetch.over:
                    fetch.leave(now)
            self._go_on(now, in_time=False)

    def _go_on(self, now: float, *, in_time: bool) -> None:
        """A round is over: ask once more, or answer."""
        bound, ask = self._bound, self._ask
        prevented = False
        try:
            catalogue = self._client.plane.popularity.catalogue
            if not self._rounds:
                items = {fetch.kind: fetch.items for fetch in self._fetches}
                ranked, offered = first_round(bound.decision, items, ask, catalogue)
                self._rounds.append(offered)
                pool = bound.expansion
                asks = bool(ranked.rows) or bound.asks  # of the cache alone nothing is asked without seeds
                if in_time and pool is not None and asks and self._expands(pool):
                    if not self._client.plane.killed:
                        self._ask_neighbours(pool, ranked.ids(), now)
                        return
                    prevented = True  # popularity has the rest by decision (facts 2.18)
            else:
                self._rounds.append(second_round(self._fetches[-1].items, ask, catalogue))
            answer = self._answer()
        except Exception:  # noqa: BLE001 - a fault of ours: the user gets a full answer all the same
            _log.exception("blending failed")
            if self._done:
                return
            fetches = self._end()
            answer = bound.popular.answer(ask, self._head.user, self._head.request_id, self._head.bucket)
            bound.account.answered(
                self._head, bound, ask.k, answer, fetches, now, passed=self.passed, broken=True
            )
            _write(self._client, self._head, bound, answer, monotonic(), b"", ())
            return
        timings = b""
        fetches = self._end()
        for fetch in fetches:
            timings += b"%b%.1f" % (fetch.pool.timing, fetch.milliseconds)
        bound.account.answered(
            self._head, bound, ask.k, answer, fetches, now, passed=self.passed, prevented=prevented
        )
        _write(self._client, self._head, bound, answer, now, timings, fetches)

    def _expands(self, pool: Pool) -> bool:
        """Whether to ask `pool` in a second round: slots are open; who has failed this request is not asked
        again.
        """
        return (
            len(self._rounds[0].kept) < self._ask.k
            and not any(fetch.failed and fetch.pool is pool for fetch in self._fetches)
            and bool(pool.neighbours_path)  # a reload may have taken it away
        )

    def _ask_neighbours(self, pool: Pool, seeds: Sequence[str], now: float) -> None:
        query = neighbours_query(self._ask, seeds)
        asking = Fetch if self._bound.faults is None else FaultyFetch
        fetch = asking(self, NEIGHBOURS, pool, b"%b?%b" % (pool.neighbours_path, query), self._bound)
        self._fetches.append(fetch)
        self._pending = 2  # it, and this beginning
        fetch.begin(now, self._head.bucket)
        self.source_over(now)

    def _answer(self) -> Answer:
        failed = False
        cache: CacheResult = "bypass"
        for fetch in self._fetches:
            failed = failed or fetch.failed
            if fetch.cache != "bypass":
                failed = failed or fetch.cache == "stale"
                cache = max(cache, fetch.cache)
        return compose(
            request_id=self._head.request_id.decode("ascii"),
            ask=self._ask,
            rounds=self._rounds,
            popularity=self._client.plane.popularity,
            failed=failed,
            cache=cache,
            bucket=self._head.bucket,
            decision=self._bound.decision,
            toggles_version=self._bound.version,
        )

    def _end(self) -> list[Fetch]:
        """Wait for nothing any more. What was asked points back here, and only the collector would see."""
        self._done = True
        if self._bound.deadline is not None:
            self._bound.deadline.clear(self)
        if self.passed >= 0 and (overdue := self._bound.account.overdue) is not None:
            overdue.discard(self)
        fetches, self._fetches = self._fetches, []
        return fetches

    @property
    def killed(self) -> bool:
        """Since it began."""
        return self._client.plane.killed

    # -- watched while it waits

    @property
    def started(self) -> float:
        return self._head.started

    def late(self, at: int) -> bool:
        if any(fetch.by_decision for fetch in self._fetches):
            return False
        self._bound.account.late(self._head, at)
        return True

    # -- told by the client's connection

    def on_client_gone(self, *, refused: bool = False) -> bool:
        if not self._done:
            now = monotonic()
            for fetch in self._end():
                fetch.give_up(now)
            if not refused:
                self._bound.account.gone(self._head, now, self.passed)
                self._client.plane.accounting.finished(self._head, 499, now, Failure.ABORTED)
        return False

    def on_request_body(self, piece: bytes, *, ended: bool) -> None:
        """A body on a GET means nothing here."""

    def on_client_full(self) -> None:
        """The answer is one write; there is nothing to hold back."""

    def on_client_ready(self) -> None:
        """See `on_client_full`."""

    def on_client_tunnel(self, data: bytes) -> None:
        """A recommend route never tunnels."""


def popular(client: "ClientConnection", head: RequestHead, bound: Bound) -> Ask | None:
    """Answer from the popularity list in memory: no upstream, no store (facts 2.9). Raises `Refusal`.

    None when the answer is out; else a page was asked for, whose mode has the say unless all is killed.
    """
    route, known = bound.route, bound.popular
    query, user, request_id, bucket = head.query, head.user, head.request_id, head.bucket
    k = plain_k(query, k_default=route.k_default, k_max=route.k_max)
    if k:
        bound.counters.levels["D"] += 1
        body = known.body(k, user, request_id, bucket)
        now = monotonic()
        bound.account.popular(head, now, body)
        _send(client, head, bound, body, bound.popular_end, NO_STORE, now, b"", ())
        return None
    ask = parse_ask(query, user, k_default=route.k_default, k_max=route.k_max)
    if ask.cursor is not None:
        if not client.plane.killed:
            return ask
        bound, ask = client.plane.paging.turned(head, bound, ask)
    _popular(client, head, bound, ask)
    return None


def _popular(client: "ClientConnection", head: RequestHead, bound: Bound, ask: Ask) -> None:
    answer = bound.popular.answer(ask, head.user, head.request_id, head.bucket)
    now = monotonic()
    bound.account.popular(head, now, answer.body)
    _write(client, head, bound, answer, now, b"", ())


def _write(
    client: "ClientConnection",
    head: RequestHead,
    bound: Bound,
    answer: Answer,
    now: float,
    timings: bytes,
    fetches: Sequence[Fetch],
) -> None:
    level = answer.level
    bound.counters.levels[level] += 1
    end = decided(bound.decision_tail, level, answer.source)
    lines = NO_STORE if answer.degraded else bound.lines
    _send(client, head, bound, answer.body, end, lines, now, timings, fetches)


def _send(
    client: "ClientConnection",
    head: RequestHead,
    bound: Bound,
    body: bytes,
    decision_end: bytes,
    lines: bytes,
    now: float,
    timings: bytes,
    fetches: Sequence[Fetch],
) -> None:
    if bound.lines:
        try:
            lines += explained(head, bound, body, fetches)
        except Exception:  # noqa: BLE001 - a fault of ours: the answer goes out without
            _log.exception("explaining failed")
    if client.must_close():
        lines += b"Connection: close\r\n"
    whole = _ANSWER % (
        answers.date_line(),
        len(body),
        head.request_id,
        bound.decision_start,
        head.bucket,
        decision_end,
        (now - head.started) * 1000,
        timings,
        lines,
        b"" if head.method == b"HEAD" else body,
    )
    client.write(whole)
    client.plane.accounting.finished(head, 200, now)
    client.answered()
    if bound.shadow is not None:
        bound.shadow.answered(client, head, body)
