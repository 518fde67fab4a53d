"""One client connection: requests in, one after the other; answers out in their order.

Reading and answering run apart, because an answer may come before the body is all there. The next
request begins when both have ended.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol, cast

from proxy.clock import monotonic
from proxy.core.trust import direct
from proxy.dataplane import answers
from proxy.dataplane.chunked import BadChunk
from proxy.dataplane.downstream import BODY, CLOSED, HEAD, NO_BODY, TUNNEL, WAIT, Downstream
from proxy.dataplane.failures import Failure
from proxy.dataplane.request_body import RequestBody
from proxy.dataplane.request_head import HeadWatch, RequestHead, bad_request
from proxy.dataplane.rewrite import trust_lines
from proxy.dataplane.upstream import HIGH_WATER, RECEIVE
from proxy.errors import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.patterns import Pattern
    from proxy.dataplane.plane import DataPlane

_log = logging.getLogger("fusebox.dataplane")


class Exchange(Protocol):
    """What is done with one request. It ends with `ClientConnection.answered` or `.cut_off`."""

    def on_request_body(self, piece: bytes, *, ended: bool) -> None: ...
    def on_client_gone(self, *, refused: bool = False) -> bool: ...  # whether part of the answer is out
    def on_client_full(self) -> None: ...
    def on_client_ready(self) -> None: ...
    def on_client_tunnel(self, data: bytes) -> None: ...


class ClientConnection(Downstream):
    """Downstream side of the data plane."""

    __slots__ = ("_answered", "_close", "_head_watch", "_pattern", "_stalled", "exchange", "head")

    head: RequestHead

    def __init__(self, plane: "DataPlane") -> None:
        super().__init__(plane)
        self.exchange: Exchange | None = None
        self._answered = True
        self._close = False  # after the present answer
        self._stalled = False  # the next request waits until the client reads
        self._head_watch: HeadWatch | None = None
        self._pattern: Pattern | None = None  # that may fit the next head

    # -- told by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.hop_lines = trust_lines(direct(self.peer, tls=False))
        self._pattern = self.plane.reader.patterns.latest
        if self.plane.clients.admit(self):
            self._arm(self.plane.head_lane)
        else:
            overloaded = Refusal(
                "overloaded", 503, "Service Unavailable", "too many connections", retry_after_s=1
            )
            self.write(answers.problem(overloaded, b"", b"Connection: close\r\n", bodiless=False))
            self._shut()

    def connection_lost(self, error: Exception | None) -> None:
        self._reading = CLOSED
        self._disarm()
        self.plane.clients.gone(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.on_client_gone()

    def buffer_updated(self, nbytes: int) -> None:
        data = RECEIVE[:nbytes].tobytes()
        try:
            if self._reading == HEAD:
                if self._buffer:
                    data = self._buffer + data
                    self._buffer = b""
                self._heads(data)
            else:
                self._received(data)
        except Exception:  # noqa: BLE001 - a fault of ours: the client gets an answer all the same
            _log.exception("reading a request failed")
            refusal = Failure.INTERNAL.refusal("a fault in the sidecar")
            if self._reading == HEAD and self.exchange is None:
                self.refuse_unread(refusal)
            else:
                self._body_failed(refusal)

    def eof_received(self) -> bool:
        """A half-close after a full request is no abort: the answer still goes out."""
        reading = self._reading
        if reading == WAIT:
            self._eof = True
            return True
        if reading == BODY:
            self._eof = True
            self._body_failed(bad_request("the connection ended inside the body"))
            return True
        if reading == HEAD and self._buffer:
            self._eof = True
            self.refuse_unread(bad_request("the connection ended inside a head"))
            return True
        if reading == TUNNEL and self.exchange is not None:
            self.exchange.on_client_gone()
        return False

    def pause_writing(self) -> None:
        self.full = True
        if self.exchange is not None:
            self.exchange.on_client_full()

    def resume_writing(self) -> None:
        self.full = False
        if self.exchange is not None:
            self.exchange.on_client_ready()
        elif self._stalled:
            self._stalled = False
            self._disarm()
            self._next()

    def on_deadline(self, _now: float) -> None:
        self._lane = None
        reading = self._reading
        if reading == BODY:
            timeout = Refusal(
                "request_timeout", 408, "Request Timeout", "the body came too slowly", close=True
            )
            self._body_failed(timeout)
        elif reading == HEAD and self._buffer:
            self.refuse_unread(
                Refusal("request_timeout", 408, "Request Timeout", "the head came too slowly", close=True)
            )
        elif reading == HEAD:
            self._shut()
        else:
            self.transport.abort()  # it lingered long enough, or does not read what it asked for

    # -- reading

    def _heads(self, data: bytes) -> None:
        """Serve the requests in `data`; what has to wait is kept."""
        while data:
            if self._reading != HEAD:
                self._received(data)
                return
            plane = self.plane
            pattern = self._pattern
            reader = plane.reader
            read = None
            if pattern is not None and pattern.reader is reader:
                read = reader.again(data, pattern)
            if read is None:
                read = self._head(data)
                if read is None:
                    return
            head, data = read
            self.head = head
            self._head_watch = None
            if self._lane is not None:
                self._disarm()
            self._answered = False
            self._close = not head.keep_alive or plane.draining
            if head.content_length or head.chunked:
                data = self._with_body(head, data)
            else:
                self._reading = WAIT
                exchange = plane.exchange(self, head, b"", True)
                if not self._answered:
                    self.exchange = exchange

    def _head(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """The head that `data` begins with and what is behind it; None: refused, or not yet whole."""
        plane = self.plane
        if data[0] <= 0x0D:  # one empty line before a request is ignored (RFC 9112 §2.2)
            if not (data == b"\r" or data[:2] == b"\r\n") or data[2:3] in (b"\r", b"\n"):
                self.refuse_unread(bad_request("more than one empty line before the request"))
                return None
            if data[:2] == b"\r\n" and len(data) > 2:
                data = data[2:]
                self._head_watch = None
        lines, end, rest = data.partition(b"\r\n\r\n")
        if not end or len(lines) + 4 > plane.policy.limits.head_bytes:
            self._unfinished(data)
            return None
        try:
            head = plane.reader.read(lines + end if rest else data)
        except Refusal as refusal:
            self.refuse_unread(refusal)
            return None
        # A client whose head its own pattern does not fit may send more like it: the next is not tried.
        self._pattern = None if head.pattern is self._pattern else head.pattern
        return head, rest

    def _with_body(self, head: RequestHead, rest: bytes) -> bytes:
        """The first piece of the body goes with the head; a small body is whole at once."""
        self._reading = BODY
        self._body = RequestBody(head.content_length, self.plane.chunks() if head.chunked else None)
        try:
            piece, ended, rest = self._body.take(rest)
        except BadChunk as error:
            self.refuse_unread(bad_request(str(error)))
            return b""
        if ended:
            self._reading = WAIT
        exchange = self.plane.exchange(self, head, piece, ended)
        if self._reading == BODY:
            self.exchange = exchange
            if exchange is None:
                self._discard_body()
            elif not self._held:
                self._arm(self.plane.gap_lane)
        elif not self._answered:
            self.exchange = exchange
        return rest

    def _received(self, data: bytes) -> None:
        """Bytes that are not a head."""
        reading = self._reading
        if reading == BODY:
            try:
                piece, ended, rest = self._body.take(data)
            except BadChunk as error:
                self._body_failed(bad_request(str(error)))
                return
            self._pass_on(piece, ended=ended)
            if rest:
                self._heads(rest)
        elif reading == WAIT:
            self._buffer += data
            if len(self._buffer) > self.plane.policy.limits.pipelined_bytes:
                self.hold()
        elif reading == TUNNEL and self.exchange is not None:
            self.exchange.on_client_tunnel(data)

    def _pass_on(self, piece: bytes, *, ended: bool) -> None:
        if ended:
            self._reading = WAIT
            self._disarm()
        elif not self._held:
            self._arm(self.plane.gap_lane)
        if self.exchange is not None:
            self.exchange.on_request_body(piece, ended=ended)
        if ended and self._answered and self._reading == WAIT:
            self._next()

    def _unfinished(self, data: bytes) -> None:
        """Not a whole head yet: refuse early what can become none."""
        if len(data) > self.plane.policy.limits.head_bytes:
            self.refuse_unread(self.plane.reader.too_large(data))
            return
        self._pattern = None  # each further piece would be tried from the start
        if self._head_watch is None:
            self._head_watch = HeadWatch()
            if self._lane is not self.plane.head_lane:
                self._arm(self.plane.head_lane)
        try:
            self._head_watch.feed(data)
        except Refusal as refusal:
            self.refuse_unread(refusal)
            return
        self._buffer = data

    def trailers(self) -> bytes:
        """The trailer lines of the request that may go on, once its body has ended."""
        return self._body.trailers

    # -- answering

    def awaits(self, exchange: Exchange) -> bool:
        """Whether `exchange` still owes an answer here (one that ends while it begins is not yet known)."""
        return self.exchange is exchange or (self.exchange is None and not self._answered)

    def must_close(self) -> bool:
        """Whether the answer that begins now has to say `Connection: close`."""
        if self._reading == BODY or self.plane.draining:
            self._close = True  # in the first case it is answered before the body was there
        return self._close

    def answered(self, close: bool = False) -> None:
        """The present answer is written whole."""
        self.exchange = None
        self._answered = True
        self._close = self._close or close
        if self._reading == BODY:
            if self._close:
                self._linger()
            else:
                self._discard_body()
        elif self._reading == WAIT:
            self._next()

    def cut_off(self) -> None:
        """The answer cannot be completed: the client must see that it is not whole."""
        self.exchange = None
        self._reset()

    def tunnel(self) -> None:
        """From here on bytes pass as they come."""
        self._reading = TUNNEL
        if self._buffer and self.exchange is not None:
            data, self._buffer = self._buffer, b""
            self.exchange.on_client_tunnel(data)
        self.go_on()

    def close_tunnel(self) -> None:
        self.exchange = None
        self._shut()

    def refuse(self, refusal: Refusal) -> None:
        """Answer the present request with a problem document; the head was read."""
        head = self.head
        plane = self.plane
        if refusal.close or (self._reading == BODY and (head.expects_continue or self._body.far_to_go)):
            self._close = True
        self._close = self._close or plane.draining
        if head.action is not None:
            head.action.refused(refusal)
        lines = plane.own_lines(head)
        if self._close:
            lines += b"Connection: close\r\n"
        self.write(answers.problem(refusal, head.request_id, lines, bodiless=head.method == b"HEAD"))
        plane.accounting.refused(head, refusal, monotonic())
        if refusal.close:
            self.exchange = None
            self._answered = True
            self._linger()
        else:
            self.answered()

    def refuse_unread(self, refusal: Refusal) -> None:
        """Answer bytes that are no request; nothing behind them can be trusted."""
        self.exchange = None
        self._buffer = b""
        request_id = self.plane.new_id()
        lines = b"X-Request-Id: %b\r\nConnection: close\r\n" % request_id
        self.write(answers.problem(refusal, request_id, lines, bodiless=False))
        self.plane.accounting.refused(None, refusal, monotonic())
        self._linger()

    def _body_failed(self, refusal: Refusal) -> None:
        """The body cannot be read on: the client's fault, so the upstream's call is neutral."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None and exchange.on_client_gone(refused=True):
            self.cut_off()
        elif self._answered:
            self._linger()
        else:
            refusal.close = True
            self.refuse(refusal)

    def _discard_body(self) -> None:
        """The request was answered; its body is small enough to be read to its end and forgotten."""
        if self._close or self._body.far_to_go:
            self._linger()
            return
        self.go_on()
        self._arm(self.plane.gap_lane)

    def _next(self) -> None:
        """The request is over, both ways."""
        self._body = NO_BODY
        if self.full and not self._close:
            # A client that does not read its answers gets no further ones made.
            self._stalled = True
            self.hold()
            self._arm(self.plane.gap_lane)
            return
        if self._close or (self._eof and not self._buffer):
            if self._buffer or self.plane.draining:
                self._linger()  # more may be on its way: closing on it could destroy the answer
            else:
                self._shut()
            return
        self._reading = HEAD
        if self._held:
            self.go_on()
        if self._buffer:
            data, self._buffer = self._buffer, b""
            self._heads(data)
            if self._eof and self._reading == HEAD:
                self._linger()
            elif self._eof and self._reading == BODY:
                self._body_failed(bad_request("the connection ended inside the body"))
        else:
            self.idle_since = monotonic()  # read by the sweep
