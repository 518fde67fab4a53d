"""Forwarding: one request streamed up, its answer streamed down, neither kept."""

import asyncio
from typing import TYPE_CHECKING

from proxy.clock import monotonic
from proxy.core.routing import DIGITS
from proxy.dataplane import rewrite
from proxy.dataplane.answers import milliseconds
from proxy.dataplane.binding import Bound
from proxy.dataplane.call import ANSWERING, OVER, SENDING, TUNNEL, WAITING, Call
from proxy.dataplane.chunked import framed, last_chunk
from proxy.dataplane.failures import Failure
from proxy.dataplane.request_head import RequestHead
from proxy.dataplane.response_head import ResponseHead
from proxy.errors import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.client import ClientConnection

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110 §9.2.2

_HELD_BODY = 64 * 1024


class Forward(Call):
    """One request of a client, forwarded to the route's upstream."""

    _body_ended = True
    _body_size = 0
    _chunked_up = False
    _begun = False  # part of the answer is out
    _upstream_full = False
    _client_was_full = False
    _status = 0
    _chunked_down = False
    _pending: tuple[bytes, ...] = ()  # body that came before there was a connection
    _total: asyncio.TimerHandle | None = None

    def __init__(
        self, client: "ClientConnection", head: RequestHead, bound: Bound, piece: bytes, ended: bool
    ) -> None:
        self._client = client
        self._head = head
        self._bound = bound
        # What every call reads stands on the object: a default on the class takes ten times as long to read.
        self.aside = self._lane = self._total = None
        self.whole = self.idempotent = True
        self.bodiless = False
        self.first_byte_s = 0.0
        self.pool = pool = bound.pool  # type: ignore[assignment]  # a route that forwards has one
        self.priority = bound.priority
        self.first_byte = bound.first_byte
        rest = b"\r\n"
        if head.method != b"GET":
            self.bodiless = head.method == b"HEAD"
            self.idempotent = head.method in IDEMPOTENT or (
                bound.route.idempotency_key and b"idempotency-key" in head.fields
            )
        if piece or not ended or head.chunked:
            self.whole = self._body_ended = ended
            self._body_size = len(piece)
            rest = b"\r\n" + piece
            if head.chunked:
                self._chunked_up = True
                body = framed(piece) + last_chunk(client.trailers()) if ended else framed(piece)
                rest = b"Transfer-Encoding: chunked\r\n\r\n" + body
        elif head.upgrade and head.upgrade in bound.upgrades:
            self.upgrade = head.upgrade
            rest = b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % head.upgrade
        self.request = rewrite.request(head, client, pool.place.authority, rest)  # type: ignore[union-attr]

    # -- the request body

    def on_request_body(self, piece: bytes, *, ended: bool) -> None:
        self._body_size += len(piece)
        if self._body_size > self._bound.max_body:
            self.give_up(Failure.ABORTED, monotonic())
            self._stop()
            if self._begun:
                self._client.cut_off()
            else:
                self._client.refuse(self._bound.too_large())
            return
        self._body_ended = ended
        data = piece
        if self._chunked_up:
            data = framed(piece)
            if ended:
                data += last_chunk(self._client.trailers())
        if self.phase == WAITING:
            self._pending = (*self._pending, data)
            if self._body_size > _HELD_BODY and not ended:
                self._client.hold()
            return
        connection = self._connection
        if connection is None:
            return
        if data:
            connection.write(data)
        if ended:
            self.sent_whole(monotonic())

    def sent(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if self._pending:
            connection.write(b"".join(self._pending))
            self._pending = ()
        if self._body_ended:
            self.sent_whole(monotonic())
        else:
            self._client.go_on()

    def on_upstream_full(self) -> None:
        self._upstream_full = True
        if self.phase == SENDING:
            self._arm(self._client.plane.gap_lane, monotonic())
        self._client.hold()

    def on_upstream_ready(self) -> None:
        self._upstream_full = False
        if self.phase == SENDING:
            self._disarm()
        self._client.go_on()

    # -- the answer

    def on_interim(self, head: ResponseHead) -> None:
        if self._head.http11:
            self._client.write(rewrite.interim(head))

    def on_response(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        now = monotonic()
        request = self._head
        client = self._client
        if ended:
            self.succeeded(head.status, now)
        else:
            self.answering(now)
        if request.action is not None:
            request.action.answered(head)
        self._begun = True
        self._status = head.status
        close = client.must_close()
        framing = b""
        start = head.start
        if head.content_length < 0 and not self.bodiless and head.status not in (204, 304):
            if request.http11:
                framing = b"Transfer-Encoding: chunked\r\n"
                self._chunked_down = True
                body = framed(body)
            else:
                close = True
        elif head.status == 204 and head.content_length >= 0:
            start = rewrite.without_length(start)
        if close:
            framing += b"Connection: close\r\n"
        bound = self._bound
        client.write(
            b"".join(
                (
                    start,
                    framing,
                    b"Via: 1.1 fusebox\r\nX-Request-Id: ",
                    request.request_id,
                    b"\r\n",
                    bound.decision_start,
                    DIGITS[request.bucket],
                    bound.decision_end,
                    b"Server-Timing: total;dur=",
                    milliseconds(now - request.started),
                    self.pool.timing,
                    milliseconds(self.first_byte_s),
                    b"\r\n\r\n",
                    body,
                )
            )
        )
        if ended:
            self._stop()
            client.plane.accounting.finished(request, head.status, now)
            client.answered(close)
            return
        self.limit_total()
        if self.phase == ANSWERING:
            self._arm(client.plane.gap_lane, now)
            if client.full:
                self.on_client_full()

    def on_body(self, piece: bytes, trailers: bytes, *, ended: bool) -> None:
        client = self._client
        if self._chunked_down:
            piece = framed(piece) + last_chunk(trailers) if ended else framed(piece)
        if piece:
            client.write(piece)
        now = monotonic()
        if not ended:
            if not client.full:
                self._arm(client.plane.gap_lane, now)
            return
        self.succeeded(self._status, now)
        self._stop()
        client.plane.accounting.finished(self._head, self._status, now)
        client.answered(not self._head.http11)

    def on_client_full(self) -> None:
        self._client_was_full = True
        if self.phase in (ANSWERING, TUNNEL) and self._connection is not None:
            self._connection.transport.pause_reading()

    def on_client_ready(self) -> None:
        if self.phase in (ANSWERING, TUNNEL) and self._connection is not None:
            self._connection.transport.resume_reading()
            if self.phase == ANSWERING:
                self._arm(self._client.plane.gap_lane, monotonic())

    # -- the ends that are none

    def on_failed(self, failure: Failure, detail: str) -> None:
        self._stop()
        client = self._client
        if not client.awaits(self):
            return
        if self._begun:
            client.plane.accounting.finished(self._head, self._status, monotonic(), failure)
            client.cut_off()
        else:
            client.refuse(failure.refusal(detail))

    def on_deadline(self, now: float) -> None:
        if self.phase == ANSWERING and self._client.full:
            # It is the client that does not read on.
            self._lane = None
            self.expire(Failure.ABORTED, "the client stopped reading", now)
        elif self.phase == TUNNEL:
            self._lane = None
            self._end_tunnel()
            self._client.close_tunnel()
        else:
            super().on_deadline(now)

    def on_client_gone(self, *, refused: bool = False) -> bool:
        """The client left, or is `refused` (and counted so): no verdict on the upstream."""
        self._stop()
        now = monotonic()
        if self.phase == TUNNEL:
            self._end_tunnel()
            self._client.close_tunnel()
        elif self.phase != OVER:
            if self._head.action is not None and not refused:
                self._head.action.gone()
            self.give_up(Failure.ABORTED, now)
            if self._begun or not refused:
                self._client.plane.accounting.finished(self._head, 499, now, Failure.ABORTED)
        return self._begun

    def limit_total(self) -> None:
        """A request that does not end with its first packet needs a timer of its own."""
        if self._total is None and self._bound.total_s:
            loop = asyncio.get_running_loop()
            left = self._bound.total_s - (monotonic() - self._head.started)
            self._total = loop.call_later(max(0.0, left), self._overdue)

    def _overdue(self) -> None:
        """The route's total time is over; whose fault that is depends on who was waited for."""
        now = monotonic()
        phase = self.phase
        self._total = None
        if phase == OVER:
            return
        if phase == WAITING:
            self._disarm()
            self.on_deadline(now)  # it knows a full queue from a connect that hangs
        elif not self._body_ended and not self._upstream_full:
            self._client_too_slow(now)
        elif phase == ANSWERING and self._client_was_full:
            self.expire(Failure.ABORTED, "the client read too slowly", now)
        else:
            self.expire(Failure.TIMEOUT, "the request took longer than the route allows", now)

    def _client_too_slow(self, now: float) -> None:
        self.give_up(Failure.ABORTED, now)
        if self._begun:
            self._client.plane.accounting.finished(self._head, self._status, now, Failure.ABORTED)
            self._client.cut_off()
        else:
            detail = "the body took longer than the route allows"
            self._client.refuse(Refusal("request_timeout", 408, "Request Timeout", detail, close=True))

    def _stop(self) -> None:
        if self._total is not None:
            self._total.cancel()
            self._total = None

    # -- tunnels

    def on_switch(self, head: ResponseHead, data: bytes) -> None:
        """101: the exchange has succeeded; from here on bytes pass as they come."""
        now = monotonic()
        request, bound = self._head, self._bound
        connection = self._connection
        self.succeeded(head.status, now)
        if request.action is not None:
            request.action.answered(head)
        self._stop()
        self._connection = connection
        self.phase = TUNNEL
        self._begun = True
        self._client.write(
            b"HTTP/1.1 101 Switching Protocols\r\n%bConnection: Upgrade\r\nUpgrade: %b\r\n"
            b"Via: 1.1 fusebox\r\nX-Request-Id: %b\r\n%b%d%b\r\n%b"
            % (
                head.lines,
                self.upgrade,
                request.request_id,
                bound.decision_start,
                request.bucket,
                bound.decision_end,
                data,
            )
        )
        self._client.plane.accounting.finished(request, 101, now)
        self._arm(self._client.plane.tunnel_lane, now)
        self._client.tunnel()

    def on_tunnel(self, data: bytes) -> None:
        self._arm(self._client.plane.tunnel_lane, monotonic())
        self._client.write(data)

    def on_client_tunnel(self, data: bytes) -> None:
        if self._connection is not None and self.phase == TUNNEL:
            self._arm(self._client.plane.tunnel_lane, monotonic())
            self._connection.write(data)

    def on_tunnel_end(self) -> None:
        if self.phase == TUNNEL:
            self._end_tunnel()
            self._client.close_tunnel()

    def _end_tunnel(self) -> None:
        connection = self._connection
        self._connection = None
        self.phase = OVER
        self._disarm()
        if connection is not None:
            connection.leave_tunnel()
