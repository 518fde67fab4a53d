"""Recommend routes: ask the sources side by side, blend what came, always answer k items."""

import logging
from typing import TYPE_CHECKING

from proxy.clock import monotonic
from proxy.core.asks import Ask, parse_ask
from proxy.core.decide import Decision
from proxy.core.experiment import CONTROL
from proxy.core.recommend import (
    Answer,
    Candidate,
    ContractBroken,
    blend,
    compose,
    parse_candidates,
    ranking,
)
from proxy.dataplane import answers, rewrite
from proxy.dataplane.binding import Bound
from proxy.dataplane.call import Call
from proxy.dataplane.failures import Failure
from proxy.dataplane.pool import Pool
from proxy.dataplane.request_head import RequestHead
from proxy.dataplane.response_head import ResponseHead
from proxy.errors import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.client import ClientConnection

_log = logging.getLogger("fusebox.dataplane")

_ANSWER = (
    b"HTTP/1.1 200 OK\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\nX-Request-Id: %b\r\n"
    b"%b%d;level=%b;source=%b;v=%d\r\n"
    b"Server-Timing: total;dur=%.1f%b\r\n%b\r\n%b"
)

_MAX_CANDIDATE_BYTES = 1024 * 1024


class Fetch(Call):
    """One source asked for its candidates, within its upstream's `timeout_ms` in all."""

    one_deadline = True
    items: list[Candidate] | None = None
    failed = False
    by_decision = False
    over = False
    milliseconds = 0.0
    _body: tuple[bytes, ...] = ()
    _size = 0
    _status = 0

    def __init__(self, recommend: "Recommend", kind: str, pool: Pool, request: bytes, bound: Bound) -> None:
        self._recommend = recommend
        self.kind = kind
        self.pool = pool
        self.request = request
        self.priority = bound.priority
        self.first_byte = bound.source_lanes[kind]

    def on_response(self, head: ResponseHead, body: bytes, *, ended: bool) -> None:
        now = monotonic()
        self._status = head.status
        if ended:
            self._conclude(head.status, body, now)
            return
        self.answered(head, now, ended=False)
        self.on_body(body, b"", ended=False)

    def on_body(self, piece: bytes, trailers: bytes, *, ended: bool) -> None:
        self._body = (*self._body, piece)
        self._size += len(piece)
        if ended:
            self._conclude(self._status, b"".join(self._body), monotonic())
        elif self._size > _MAX_CANDIDATE_BYTES:
            self.expire(Failure.INVALID, "the answer is too long", monotonic())

    def _conclude(self, status: int, body: bytes, now: float) -> None:
        """A whole answer counts as the upstream's failure when it is not what sources answer."""
        if status == 200 and len(body) <= _MAX_CANDIDATE_BYTES:
            try:
                self.items = parse_candidates(body)
            except ContractBroken:
                self.items = None
        if self.items is not None or 400 <= status < 500:
            self.failed = self.items is None
            self.concluded(status, now)
        else:
            self.failed = True
            self.concluded(status if status >= 500 else 0, now)
        self._end(now)

    def on_failed(self, failure: Failure, detail: str) -> None:
        if not self.over:
            self.failed = True
            self._end(monotonic())

    def refused(self) -> None:
        """Its breaker is open: a failure of the request's source, unless held so by hand (facts 2.18)."""
        self.failed = True
        self.over = True
        self.by_decision = self.pool.breaker.forced == "open"

    def _end(self, now: float) -> None:
        self.over = True
        self.milliseconds = (now - self.sent_at) * 1000 if self.sent_at else 0.0
        self._recommend.source_over(now)


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
            counters = self._client.plane.counters
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
    answer = bound.popular.answer(
        head.query,
        head.user,
        head.request_id,
        head.bucket,
        k_default=bound.route.k_default,
        k_max=bound.route.k_max,
    )
    _write(client, head, bound, answer, monotonic(), b"")


def _write(
    client: "ClientConnection", head: RequestHead, bound: Bound, answer: Answer, now: float, timings: bytes
) -> None:
    plane = client.plane
    body, level, source, _, _, degraded = answer
    plane.counters.levels[level] += 1
    more = b"Cache-Control: no-store\r\n" if degraded else b""
    if client.must_close():
        more += b"Connection: close\r\n"
    whole = _ANSWER % (
        answers.date_line(),
        len(body),
        head.request_id,
        bound.decision_start,
        head.bucket,
        level.encode(),
        source.encode(),
        bound.version,
        (now - head.started) * 1000,
        timings,
        more,
        b"" if head.method == b"HEAD" else body,
    )
    client.write(whole)
    plane.finished(head, 200, now)
    client.answered()
