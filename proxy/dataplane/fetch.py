"""One source asked for its candidates."""

from typing import TYPE_CHECKING

from proxy.clock import monotonic
from proxy.core.candidates import Candidate, ContractBroken, parse_candidates
from proxy.dataplane.binding import Bound
from proxy.dataplane.call import Call
from proxy.dataplane.failures import Failure
from proxy.dataplane.pool import Pool
from proxy.dataplane.response_head import ResponseHead

if TYPE_CHECKING:
    from proxy.dataplane.recommend import Recommend

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

    _recommend: "Recommend | None"

    def __init__(self, recommend: "Recommend", kind: str, pool: Pool, request: bytes, bound: Bound) -> None:
        self._recommend = recommend
        self.kind = kind
        self.pool = pool
        self.request = request
        self.priority = bound.priority
        self.first_byte = bound.source_lanes[kind]
        if bound.decision.aside:
            self.aside = bound.counters.upstream(pool.name)

    def on_response(self, head: ResponseHead, body: bytes, *, ended: bool) -> None:
        now = monotonic()
        self._status = head.status if head.is_json() or head.status != 200 else 0
        if ended:
            self._conclude(self._status, body, now)
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
                self.items = parse_candidates(body, self.pool.shape)
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

    def leave(self, now: float) -> None:
        """Its request has to answer without it: the call goes on to its own deadline, and tells nobody."""
        self.failed = True
        self.milliseconds = (now - self.sent_at) * 1000 if self.sent_at else 0.0
        self._recommend = None

    def _end(self, now: float) -> None:
        self.over = True
        if self._recommend is not None:
            self.milliseconds = (now - self.sent_at) * 1000 if self.sent_at else 0.0
            self._recommend.source_over(now)
