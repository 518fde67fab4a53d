"""A client's connection as such: reading held and resumed, lingering, closing, its one deadline.

What is read and answered on it is `client`'s business.
"""

import asyncio
import socket
import struct
from math import inf
from typing import TYPE_CHECKING

from proxy.clock import monotonic
from proxy.dataplane.deadlines import Lane
from proxy.dataplane.request_body import RequestBody
from proxy.dataplane.upstream import RECEIVE

if TYPE_CHECKING:
    from proxy.dataplane.plane import DataPlane

# What the next bytes are. LINGER: an answer is out, the rest is read and thrown away (so that the
# answer is not lost to a reset), until the client closes or `linger_s` is over.
HEAD, BODY, WAIT, TUNNEL, LINGER, CLOSED = range(6)

NO_BODY = RequestBody(0, None)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Downstream(asyncio.BufferedProtocol):
    """The housekeeping of one client connection."""

    __slots__ = (
        "_body",
        "_buffer",
        "_eof",
        "_held",
        "_lane",
        "_reading",
        "full",
        "hop_lines",
        "idle_since",
        "peer",
        "plane",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, plane: "DataPlane") -> None:
        self.plane = plane
        self.peer = ""
        self.hop_lines = b""  # what is told upstream about this hop, the same for all its requests
        self.idle_since = inf
        self.full = False  # the client takes no more for now
        self._reading = HEAD
        self._buffer = b""  # an unfinished head, or what was pipelined
        self._body = NO_BODY
        self._eof = False
        self._held = False  # reading is paused
        self._lane: Lane | None = None

    def get_buffer(self, sizehint: int) -> memoryview:
        return RECEIVE

    def write(self, data: bytes) -> None:
        if self._reading != CLOSED:
            self.transport.write(data)

    def hold(self) -> None:
        """Read no more for now."""
        if not self._held:
            self._held = True
            self.transport.pause_reading()
            if self._reading == BODY:
                self._disarm()  # it is not the client that is slow

    def go_on(self) -> None:
        """Read again."""
        if self._held and self._reading != CLOSED:
            self._held = False
            self.transport.resume_reading()
            if self._reading == BODY:
                self._arm(self.plane.gap_lane)

    def close_if_idle(self, before: float = inf) -> None:
        """Close a connection that has been waiting for a request since before that moment."""
        if self._reading == HEAD and not self._buffer and (self.idle_since < before or before == inf):
            self._shut()

    def _shut(self) -> None:
        """Close, once what was written has gone out; a client that does not take it is cut off."""
        self._reading = CLOSED
        self._disarm()
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._arm(self.plane.gap_lane)

    def _linger(self) -> None:
        self._reading = LINGER
        self._buffer = b""
        self._body = NO_BODY
        if self._eof or self.transport.is_closing() or not self.transport.can_write_eof():
            self._shut()
            return
        self.transport.write_eof()
        self.go_on()
        self._arm(self.plane.linger_lane)

    def on_deadline(self, now: float) -> None:
        """What was awaited did not come in time."""
        raise NotImplementedError

    def _reset(self) -> None:
        """Close so that the client sees it was cut: to HTTP/1.0 a plain close is how a body ends."""
        self._reading = CLOSED
        self._disarm()
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()

    def _arm(self, lane: Lane) -> None:
        if self._lane is not None and self._lane is not lane:
            self._lane.clear(self)
        self._lane = lane
        lane.set(self, monotonic())

    def _disarm(self) -> None:
        if self._lane is not None:
            self._lane.clear(self)
            self._lane = None
