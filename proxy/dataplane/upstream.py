"""One connection to an upstream: it writes a request and reads exactly one answer at a time."""

import asyncio
import logging
import os
import socket
from typing import Protocol, cast

from proxy.core.addresses import Address
from proxy.core.policy import Limits
from proxy.dataplane.chunked import FORBIDDEN_TRAILERS, BadChunk, ChunkedReader
from proxy.dataplane.failures import Failure
from proxy.dataplane.response_head import Malformed, ResponseHead, ResponseReader

_log = logging.getLogger("fusebox.dataplane")

RECEIVE = memoryview(bytearray(64 * 1024))
"""Every connection reads into this one buffer; what is read is copied out before the next read.
It bounds what one read can add to a stalled peer's backlog."""

HIGH_WATER = 32 * 1024
"""Bytes that may wait for a slow peer before the other side is paused: with one more read of 64 KiB
the most that a connection holds per direction."""

_MAX_INTERIM = 16
_BODILESS = (204, 304)


class Consumer(Protocol):
    """Who called. Told of everything that happens to its answer, never after `release`."""

    bodiless: bool  # the request was HEAD
    upgrade: bytes  # the protocol asked for

    def on_interim(self, head: ResponseHead) -> None: ...
    def on_response(self, head: ResponseHead, body: bytes, ended: bool) -> None: ...
    def on_body(self, piece: bytes, trailers: bytes, *, ended: bool) -> None: ...
    def on_switch(self, head: ResponseHead, data: bytes) -> None: ...
    def on_tunnel(self, data: bytes) -> None: ...
    def on_tunnel_end(self) -> None: ...
    def on_failure(self, failure: Failure, detail: str) -> None: ...
    def on_fault(self) -> None: ...  # ours, after the connection was given back
    def on_upstream_full(self) -> None: ...
    def on_upstream_ready(self) -> None: ...


class Home(Protocol):
    """The pool a connection goes back to."""

    limits: Limits
    reader: ResponseReader

    def release(self, connection: "UpstreamConnection", reusable: bool) -> None: ...
    def lost(self, connection: "UpstreamConnection") -> None: ...


_IDLE, _HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _TUNNEL = range(6)


class UpstreamConnection(asyncio.BufferedProtocol):
    """States: idle → head → (length | chunked | until close) → idle or closed; or tunnel."""

    __slots__ = (
        "_chunks",
        "_consumer",
        "_home",
        "_interim",
        "_keeps",
        "_last",
        "_left",
        "_mode",
        "_partial",
        "_spare",
        "address",
        "idle_limit",
        "idle_since",
        "place",
        "retire_at",
        "reused",
        "transport",
        "unsent",
    )

    transport: asyncio.Transport

    def __init__(self, home: Home, place: object, address: Address, idle_limit: float) -> None:
        self._home = home
        self.place = place  # where the upstream was when this was opened
        self.address = address
        self.idle_limit = idle_limit  # seconds; less where the upstream says so (Keep-Alive: timeout)
        self.idle_since = 0.0
        self.retire_at = 0.0  # not used again after this moment
        self.reused = False
        self.unsent = False  # the request body is not all written yet
        self._consumer: Consumer | None = None
        self._mode = _IDLE
        self._partial = b""
        self._last: ResponseHead | None = None  # the head of the last answer
        self._left = 0
        self._keeps = False
        self._interim = 0
        self._chunks: ChunkedReader | None = None
        self._spare: socket.socket | None = None

    # -- asked by the call

    def take(self, consumer: Consumer, request: bytes) -> None:
        """Send `request` and hear the answer as `consumer`."""
        self._consumer = consumer
        self._mode = _HEAD
        self._interim = 0
        self.transport.write(request)

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def keep_spare(self) -> None:
        """Keep a second handle on the socket while a body is streamed up.

        An upstream may answer early and close. The next write then fails and the transport drops
        what was received but not read; through the spare handle that answer is still found.
        """
        sock = self.transport.get_extra_info("socket")
        if sock is not None and self.transport.get_extra_info("ssl_object") is None:
            self._spare = socket.socket(fileno=os.dup(sock.fileno()))

    def drop(self) -> None:
        """Forget the consumer and close at once: the exchange was given up."""
        self._consumer = None
        self._mode = _IDLE
        self._close_spare()
        self.transport.abort()

    def leave_tunnel(self) -> None:
        """Close behind what was already written."""
        self.unsent = True
        self._leave(False)

    def quiet_close(self) -> None:
        """Close an idle connection."""
        self.transport.close()

    # -- told by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)

    def get_buffer(self, sizehint: int) -> memoryview:
        return RECEIVE

    def buffer_updated(self, nbytes: int) -> None:
        consumer = self._consumer
        try:
            data = RECEIVE[:nbytes].tobytes()
            if self._mode == _HEAD:
                self._head(data)
            else:
                self._received(data)
        except Exception:  # noqa: BLE001 - a fault of ours: whoever waits for this answer must hear of it
            _log.exception("reading an answer failed")
            if self._consumer is not None:
                self._fail(Failure.INTERNAL, "a fault in the sidecar")
            elif consumer is not None:
                consumer.on_fault()

    def pause_writing(self) -> None:
        if self._consumer is not None:
            self._consumer.on_upstream_full()

    def resume_writing(self) -> None:
        if self._consumer is not None:
            self._consumer.on_upstream_ready()

    def eof_received(self) -> bool:
        if self._mode == _TUNNEL and self._consumer is not None:
            self._consumer.on_tunnel_end()
            return self.transport.can_write_eof()
        if self._mode == _UNTIL_CLOSE:
            self._ended(b"", b"")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if self._spare is not None:
            self._read_spare()
        consumer, mode = self._consumer, self._mode
        self._consumer, self._mode = None, _IDLE
        self._home.lost(self)
        if consumer is None:
            return
        if mode == _TUNNEL:
            consumer.on_tunnel_end()
        elif mode == _HEAD and not self._partial and not self._interim:
            consumer.on_failure(Failure.RESET, "the connection closed before an answer")
        else:
            consumer.on_failure(Failure.TRUNCATED, "the connection closed inside the answer")

    # -- the answer

    def _received(self, data: bytes) -> None:
        mode = self._mode
        if mode == _HEAD:
            self._head(data)
        elif mode == _LENGTH:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                self._consumer.on_body(data, b"", ended=False)  # type: ignore[union-attr]
            elif left == 0:
                self._ended(data, b"")
            else:
                self._ended(data[:left], data[left:])
        elif mode == _CHUNKED:
            self._chunk(data)
        elif mode == _UNTIL_CLOSE:
            self._consumer.on_body(data, b"", ended=False)  # type: ignore[union-attr]
        elif mode == _TUNNEL:
            self._consumer.on_tunnel(data)  # type: ignore[union-attr]
        else:
            # Bytes nobody asked for: this connection is out of step.
            self.transport.abort()

    def _head(self, data: bytes) -> None:
        if self._partial:
            data = self._partial + data
            self._partial = b""
        while True:
            last = self._last
            if last is not None and last.raw and data.startswith(last.raw):  # the date changes once a second
                head = last
                rest = data[len(head.raw) :]
            else:
                end = data.find(b"\r\n\r\n") + 4
                if end == 3 or end > self._home.limits.response_head_bytes:
                    self._unfinished_head(data)
                    return
                try:
                    head = self._home.reader.read(data[:end], last)
                except Malformed as error:
                    self._fail(Failure.INVALID, str(error))
                    return
                rest = data[end:]
            if head.status >= 200:
                self._last = head
                self._final(head, rest)
                return
            consumer = self._consumer
            if consumer is None:
                return
            if head.status == 101:
                self._switch(consumer, head, rest)
                return
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                self._fail(Failure.INVALID, "too many interim answers")
                return
            consumer.on_interim(head)
            if not rest:
                return
            data = rest

    def _unfinished_head(self, data: bytes) -> None:
        if len(data) > self._home.limits.response_head_bytes:
            self._fail(Failure.INVALID, "the answer's head is too large")
        elif not data.startswith(b"HTTP/1."[: len(data)]):
            self._fail(Failure.INVALID, "what came is no HTTP/1 answer")
        elif data.count(b"\n") != data.count(b"\r\n"):
            self._fail(Failure.INVALID, "a line of the head does not end with CRLF")
        else:
            self._partial = data

    def _switch(self, consumer: Consumer, head: ResponseHead, rest: bytes) -> None:
        granted = head.fields.get(b"upgrade", b"").lower()
        if not consumer.upgrade or granted != consumer.upgrade or b"upgrade" not in head.connection:
            self._fail(Failure.INVALID, "the upstream switched to a protocol nobody asked for")
            return
        self._mode = _TUNNEL
        consumer.on_switch(head, rest)

    def _final(self, head: ResponseHead, rest: bytes) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        length = head.content_length
        keeps = self._keeps = head.keeps
        if consumer.bodiless or head.status in _BODILESS:
            self._leave(keeps and not rest)
            consumer.on_response(head, b"", True)
        elif head.chunked:
            limits = self._home.limits
            self._chunks = ChunkedReader(
                extension_limit=limits.chunk_extension_bytes,
                trailer_limit=limits.head_bytes,
                fields_limit=limits.head_fields,
                forbidden=FORBIDDEN_TRAILERS,
            )
            self._mode = _CHUNKED
            self._first_chunks(consumer, head, rest)
        elif length < 0:
            self._mode = _UNTIL_CLOSE
            consumer.on_response(head, rest, False)
        elif len(rest) >= length:
            if b"keep-alive" in head.fields:
                self._note_keep_alive(head.fields[b"keep-alive"])
            self._leave(keeps and len(rest) == length)
            consumer.on_response(head, rest[:length], True)
        else:
            self._mode = _LENGTH
            self._left = length - len(rest)
            consumer.on_response(head, rest, False)

    def _first_chunks(self, consumer: Consumer, head: ResponseHead, rest: bytes) -> None:
        """Answer with what came along, so that a whole small chunked answer is one write."""
        chunks = cast("ChunkedReader", self._chunks)
        try:
            piece = chunks.feed(rest)
        except BadChunk as error:
            self._fail(Failure.INVALID, str(error))
            return
        consumer.on_response(head, piece, False)
        if chunks.done and self._consumer is not None:
            self._ended(b"", chunks.rest)

    def _chunk(self, data: bytes) -> None:
        chunks = cast("ChunkedReader", self._chunks)
        try:
            piece = chunks.feed(data)
        except BadChunk as error:
            self._fail(Failure.INVALID, str(error))
            return
        if chunks.done:
            self._ended(piece, chunks.rest)
        elif piece:
            cast("Consumer", self._consumer).on_body(piece, b"", ended=False)

    def _ended(self, piece: bytes, extra: bytes) -> None:
        """The body is complete with `piece`; `extra` is what nobody announced."""
        consumer = self._consumer
        trailers = self._chunks.trailers if self._chunks is not None else b""
        reusable = self._keeps and not extra and self._mode != _UNTIL_CLOSE
        self._chunks = None
        self._leave(reusable)
        if consumer is not None:
            consumer.on_body(piece, trailers, ended=True)

    def _leave(self, reusable: bool) -> None:
        self._consumer = None
        self._mode = _IDLE
        if self._spare is not None:
            self._close_spare()
        self._home.release(self, reusable and not self.unsent)

    def _fail(self, failure: Failure, detail: str) -> None:
        consumer = self._consumer
        self.drop()
        if consumer is not None:
            consumer.on_failure(failure, detail)

    def _note_keep_alive(self, value: bytes) -> None:
        """`Keep-Alive: timeout=N`: stay a fifth below what the upstream allows."""
        for part in value.split(b","):
            name, _, seconds = part.strip().partition(b"=")
            if name.lower() == b"timeout" and seconds.isdigit():
                self.idle_limit = min(self.idle_limit, int(seconds[:6]) * 0.8)

    # -- the spare handle

    def _read_spare(self) -> None:
        spare = cast("socket.socket", self._spare)
        spare.setblocking(False)
        try:
            while self._consumer is not None and (data := spare.recv(64 * 1024)):
                self._received(data)
        except OSError:
            pass  # nothing (more) had arrived
        finally:
            self._close_spare()

    def _close_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None
