"""One end of the socketpair between the supervisor and a worker."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from proxy.runtime.workers.messages import Down, Frames, Up, frame


class Channel(asyncio.Protocol):
    """Messages both ways, each heard in its order; `closed` is set when the other end is gone."""

    _transport: asyncio.Transport

    def __init__(self, on_message: Callable[[Down | Up], None]) -> None:
        self.closed = asyncio.Event()
        self._on_message = on_message
        self._frames = Frames()

    @classmethod
    async def over(cls, sock: socket.socket, on_message: Callable[[Down | Up], None]) -> "Channel":
        """The channel over one end of a socketpair, which it owns from here on."""
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: cls(on_message), sock=sock)
        return channel

    @property
    def clogged(self) -> bool:
        """The other end has not yet taken what it was sent."""
        return self._transport.get_write_buffer_size() > 0

    def send(self, message: Down | Up) -> None:
        """Never waits; to an end that is gone it does nothing."""
        self.send_frame(frame(message))

    def send_frame(self, data: bytes) -> None:
        """The same with a frame made before: one for many workers."""
        if not self.closed.is_set() and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close once all is sent; `closed` tells when that is so."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            self._on_message(message)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()
