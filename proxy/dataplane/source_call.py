"""One call of a source, and everybody who waits for it."""

import asyncio
import logging
from typing import TYPE_CHECKING

from proxy.clock import monotonic
from proxy.core.candidates import Candidates, ContractBroken, parse_candidates
from proxy.dataplane.call import Call
from proxy.dataplane.failures import Failure
from proxy.dataplane.response_head import ResponseHead

if TYPE_CHECKING:
    from proxy.dataplane.fetch import Fetch

_log = logging.getLogger("fusebox.dataplane")

_MAX_CANDIDATE_BYTES = 1024 * 1024
_AT_ONCE = 16
"""Requests answered before the loop may look at its sockets again."""


class SourceCall(Call):
    """Asks for candidates within its upstream's `timeout_ms` in all, and remembers a good answer.

    To breaker, budget and counters it is one call, however many wait for it. It knows those, but no client,
    and goes on without any of them where its answer is worth keeping.
    """

    one_deadline = True
    _body: tuple[bytes, ...] = ()
    _size = 0
    _head: ResponseHead
    _others: "list[Fetch] | None" = None
    _waiting = 1

    def __init__(self, fetch: "Fetch", request: bytes) -> None:
        bound = fetch.bound
        self.pool = pool = fetch.pool
        self.request = request
        self.priority = bound.priority
        self.first_byte = bound.source_lanes[fetch.kind]
        self.aside = bound.counters.upstream(pool.name) if bound.decision.aside else None
        self.first_byte_s = 0.0
        self._lane = self._others = None
        self.key = fetch.key
        self._shape = fetch.shape
        self._memory = bound.memory
        self._first = fetch

    # -- who waits

    def suits(self, fetch: "Fetch") -> bool:
        """Whether its answer serves that one as well as a call of its own.

        A call that nobody may be judged by counts in no breaker, and one of less importance may be shed.
        """
        bound = fetch.bound
        return (self.aside is None or bool(bound.decision.aside)) and self.priority >= bound.priority

    def join(self, fetch: "Fetch") -> None:
        if self._others is None:
            self._others = []
        self._others.append(fetch)
        self._waiting += 1

    def left(self, now: float, *, keep: bool) -> None:
        """One waits no longer. Without any left it goes on only to be kept."""
        self._waiting -= 1
        if not self._waiting and not keep:
            self.abandon(now)

    def abandon(self, now: float) -> None:
        """End it, telling nobody."""
        self.give_up(Failure.ABORTED, now)
        calls = self._memory.calls
        if calls.get(self.key) is self:
            del calls[self.key]

    # -- the answer

    def on_response(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        now = monotonic()
        if ended:
            self._conclude(head, body, now)
            return
        self._head = head
        self.answering(now)
        self.on_body(body, b"", ended=False)

    def on_body(self, piece: bytes, trailers: bytes, *, ended: bool) -> None:
        self._body = (*self._body, piece)
        self._size += len(piece)
        if ended:
            self._conclude(self._head, b"".join(self._body), monotonic())
        elif self._size > _MAX_CANDIDATE_BYTES:
            self.expire(Failure.INVALID, "the answer is too long", monotonic())

    def _conclude(self, head: ResponseHead, body: bytes, now: float) -> None:
        """A whole answer counts as the upstream's failure when it is not what sources answer."""
        status = head.status
        items: Candidates | None = None
        broken = ""
        if status == 200 and len(body) <= _MAX_CANDIDATE_BYTES and head.is_json():
            try:
                items = parse_candidates(body, self._shape)
            except ContractBroken as error:
                broken = str(error)
        if items is not None or 400 <= status < 500:
            self.succeeded(status, now)
        else:
            self.concluded(status if status >= 500 else 0, now, broken or _strange(head))
        cache = self._memory.cache
        if cache is not None:
            if items is not None and items.items and not head.forbids_keeping():
                cache.put(self.key, body, now)
            elif status in (404, 410):  # whoever that was, the source knows nobody there any more
                cache.erase(self.key)
        self._end(items, now)

    def on_failed(self, failure: Failure, detail: str) -> None:
        self._end(None, monotonic())

    def _end(self, items: Candidates | None, now: float) -> None:
        calls = self._memory.calls
        if calls.get(self.key) is self:  # nobody can join any more
            del calls[self.key]
        if self._others is None:
            self._first.told(items, now)
        else:
            self._tell([self._first, *self._others], items)

    def _tell(self, fetches: "list[Fetch]", items: Candidates | None) -> None:
        """A few at a time: each makes an answer of it."""
        if len(fetches) > _AT_ONCE:
            asyncio.get_running_loop().call_soon(self._tell, fetches[_AT_ONCE:], items)
        now = monotonic()
        for fetch in fetches[:_AT_ONCE]:
            try:
                fetch.told(items, now)
            except Exception:  # noqa: BLE001 - a fault of ours in one answer is not the others'
                _log.exception("answering with what a source said failed")


def _strange(head: ResponseHead) -> str:
    """What keeps an answer from being read at all."""
    if head.status != 200:
        return f"status {head.status}"
    return "the answer is too long" if head.is_json() else "its Content-Type is not JSON"
