"""Recommend routes: ask the sources side by side, blend what came, always answer k items."""

import logging
from typing import TYPE_CHECKING

from proxy.clock import monotonic
from proxy.core.asks import Ask, parse_ask, plain_k
from proxy.core.blending import blend, ranking
from proxy.core.decide import Decision
from proxy.core.experiment import CONTROL
from proxy.core.recommend import Answer, compose
from proxy.dataplane import answers, rewrite
from proxy.dataplane.binding import NO_STORE, Bound
from proxy.dataplane.failures import Failure
from proxy.dataplane.fetch import Fetch
from proxy.dataplane.request_head import RequestHead
from proxy.errors import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.client import ClientConnection

_log = logging.getLogger("fusebox.dataplane")

_ANSWER = (
    b"HTTP/1.1 200 OK\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\nX-Request-Id: %b\r\n"
    b"%b%d%bServer-Timing: total;dur=%.1f%b\r\n%b\r\n%b"
)


class Recommend:
    """One recommend request under way."""

    __slots__ = ("_ask", "_bound", "_client", "_done", "_fetches", "_head", "_pending")

    def __init__(self, client: "ClientConnection", head: RequestHead, bound: Bound, ask: Ask) -> None:
        self._client = client
        self._head = head
        self._bound = bound
        self._ask = ask
        self._fetches: list[Fetch] = []
        self._done = False
        self._pending = 1  # sources that are not over; and the beginning, which waits for all to be asked

    @classmethod
    def begin(
        cls, client: "ClientConnection", head: RequestHead, bound: Bound, now: float
    ) -> "Recommend | None":
        """Ask its sources, all at once. None when the answer is already out. Raises `Refusal`: bad query."""
        if not bound.sources:
            popular(client, head, bound)
            return None
        ask = parse_ask(head.query, head.user, k_default=bound.route.k_default, k_max=bound.route.k_max)
        self = cls(client, head, bound, ask)
        lines = rewrite.candidates_lines(head, client)
        fetches = self._fetches
        for kind, pool in bound.sources.items():
            request = rewrite.candidates_request(pool, ask.query, lines)
            fetches.append(Fetch(self, kind, pool, request, bound))
        self._pending += len(fetches)
        for fetch in fetches:
            try:
                fetch.begin(now, head.bucket)
            except Refusal:
                fetch.refused()
                self.source_over(now)
        self.source_over(now)
        return None if self._done else self

    def source_over(self, now: float) -> None:
        """Answer as soon as every source has; their deadlines see to it that they do."""
        self._pending -= 1
        if self._pending or self._done:
            return
        self._done = True
        fetches, self._fetches = self._fetches, []  # they point back here, and only the collector would see
        try:
            answer = self._blended(fetches, self._bound.decision)
        except Exception:  # noqa: BLE001 - a fault of ours: the user gets a full answer all the same
            _log.exception("blending failed")
            popular(self._client, self._head, self._bound)
            return
        timings = b""
        judged = self._bound.judged
        for fetch in fetches:
            timings += b"%b%.1f" % (fetch.pool.timing, fetch.milliseconds)
            judged = judged and not fetch.by_decision
        if judged:
            counters = self._bound.counters
            counters.slots_asked += self._ask.k
            counters.slots_covered += answer.covered
        _write(self._client, self._head, self._bound, answer, now, timings)

    def _blended(self, fetches: list[Fetch], decision: Decision) -> Answer:
        items = {}
        failed = False
        for fetch in fetches:
            items[fetch.kind] = fetch.items
            failed = failed or fetch.failed
        return compose(
            request_id=self._head.request_id.decode("ascii"),
            ask=self._ask,
            ranked=blend(decision.alpha, items.get("cf"), items.get("content"))
            if decision.exposed
            else ranking(CONTROL, items[CONTROL]),
            popularity=self._client.plane.popularity,
            failed=failed,
            bucket=self._head.bucket,
            decision=decision,
            toggles_version=self._bound.version,
        )

    # -- told by the client's connection

    def on_client_gone(self, *, refused: bool = False) -> bool:
        if not self._done:
            self._done = True
            now = monotonic()
            for fetch in self._fetches:
                fetch.give_up(Failure.ABORTED, now)
            self._fetches = []
            if not refused:
                self._client.plane.finished(self._head, 499, now, Failure.ABORTED)
        return False

    def on_request_body(self, piece: bytes, *, ended: bool) -> None:
        """A body on a GET means nothing here."""

    def on_client_full(self) -> None:
        """The answer is one write; there is nothing to hold back."""

    def on_client_ready(self) -> None:
        """See `on_client_full`."""

    def on_client_tunnel(self, data: bytes) -> None:
        """A recommend route never tunnels."""


def popular(client: "ClientConnection", head: RequestHead, bound: Bound) -> None:
    """Answer from the popularity list in memory: no upstream, no store (facts 2.9). Raises `Refusal`."""
    route, known = bound.route, bound.popular
    query, user, request_id, bucket = head.query, head.user, head.request_id, head.bucket
    k = plain_k(query, k_default=route.k_default, k_max=route.k_max)
    if k:
        bound.counters.levels["D"] += 1
        body = known.body(k, user, request_id, bucket)
        _send(client, head, bound, body, bound.popular_end, NO_STORE, monotonic(), b"")
    else:
        answer = known.answer(query, user, request_id, bucket, k_default=route.k_default, k_max=route.k_max)
        _write(client, head, bound, answer, monotonic(), b"")


def _write(
    client: "ClientConnection", head: RequestHead, bound: Bound, answer: Answer, now: float, timings: bytes
) -> None:
    body, level, source, _, _, degraded = answer
    bound.counters.levels[level] += 1
    end = bound.decided(level, source)
    _send(client, head, bound, body, end, NO_STORE if degraded else bound.lines, now, timings)


def _send(
    client: "ClientConnection",
    head: RequestHead,
    bound: Bound,
    body: bytes,
    decision_end: bytes,
    lines: bytes,
    now: float,
    timings: bytes,
) -> None:
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
    client.plane.finished(head, 200, now)
    client.answered()
    if bound.shadow is not None:
        bound.shadow.answered(client, head, body)
