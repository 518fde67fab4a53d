"""The connections of clients: accepted at sockets, bounded in number, closed when idle, drained."""

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from proxy.dataplane.client import ClientConnection

if TYPE_CHECKING:
    from proxy.dataplane.plane import DataPlane

_BACKLOG = 4096
_DRAIN_QUIET_S = 1.0
"""How long a connection has to be idle before a drain closes it: who is in the middle of a
conversation hears `Connection: close` with an answer instead."""


class Clients:
    """All of one data plane."""

    def __init__(self, plane: "DataPlane") -> None:
        self._plane = plane
        self._counters = plane.counters
        self._servers: list[asyncio.Server] = []
        self._emptied: asyncio.Event | None = None  # once it drains
        self._next_sweep = 0.0
        self.connections: set[ClientConnection] = set()

    async def start(self, address: str) -> tuple[str, int]:
        """Listen on `address` ("host:port"); where it came to be. OSError when that cannot be."""
        host, _, port = address.rpartition(":")
        server = await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(self._plane), host.strip("[]"), int(port), backlog=_BACKLOG
        )
        self._servers.append(server)
        name = server.sockets[0].getsockname()
        return name[0], name[1]

    async def listen(self, sock: socket.socket) -> asyncio.Server:
        """Listen on a bound socket, beside any others; it is taken over, and closes with the server."""
        server = await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(self._plane), sock=sock, backlog=_BACKLOG
        )
        self._servers = [*(other for other in self._servers if other.is_serving()), server]
        return server

    async def drain(self, within_s: float) -> None:
        """Take no more; return when the last one is gone, or when the time is over."""
        self._next_sweep = 0.0
        self._emptied = asyncio.Event()
        if self._servers:
            await asyncio.sleep(0)  # take what the kernel has already accepted for us
            for server in self._servers:
                server.close()
            await asyncio.sleep(0)  # … and let it become a connection
        if self.connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._emptied.wait()

    def close(self) -> None:
        """Abort what is left."""
        for server in self._servers:
            server.close()
        for connection in tuple(self.connections):
            connection.transport.abort()

    def tick(self, now: float, idle_s: float) -> None:
        """Close those that have been idle for `idle_s`, when it is time to look."""
        if now < self._next_sweep:
            return
        if self._emptied is not None:
            idle_s = min(idle_s, _DRAIN_QUIET_S)
        self._next_sweep = now + min(1.0, idle_s / 4)
        for connection in tuple(self.connections):
            connection.close_if_idle(now - idle_s)

    # -- told by the connections

    def admit(self, connection: ClientConnection) -> bool:
        self._counters.accepted += 1
        if len(self.connections) >= self._plane.policy.limits.connections:
            return False
        self.connections.add(connection)
        self._counters.connections = len(self.connections)
        return True

    def gone(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)
        self._counters.connections = len(self.connections)
        if not self.connections and self._emptied is not None:
            self._emptied.set()
