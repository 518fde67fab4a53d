"""Listening at given sockets, and leaving them without losing who has come."""

import asyncio
import socket

import pytest

from proxy.core.policy import Deadlines, Policy
from proxy.dataplane.plane import DataPlane
from proxy.telemetry.counters import Counters

POLICY = Policy(routes=(), upstreams={}, deadlines=Deadlines(linger_s=0.01))
REQUEST = b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def plane():
    made = DataPlane(POLICY, Counters(), on_transition=lambda _: None)
    yield made
    made.close()


@pytest.fixture
async def loop():
    return asyncio.get_running_loop()


def door():
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def client(sock):
    made = socket.create_connection(sock.getsockname())
    made.setblocking(False)
    return made


async def answer(loop, connection):
    await loop.sock_sendall(connection, REQUEST)
    got = await loop.sock_recv(connection, 4096)
    connection.close()
    return got.split(b" ")[1]


async def test_every_socket_is_served_until_its_own_server_closes(plane, loop):
    first, second = door(), door()
    servers = [await plane.listen(sock.dup()) for sock in (first, second)]
    assert [await answer(loop, client(sock)) for sock in (first, second)] == [b"404", b"404"]
    servers[0].close()
    waiting = client(first)
    assert await answer(loop, client(second)) == b"404"
    await plane.listen(first.dup())  # whoever listens there next takes what has waited
    assert await answer(loop, waiting) == b"404"
    first.close()
    second.close()


async def test_who_has_connected_before_a_drain_is_answered_before_it_ends(plane):
    """The kernel has accepted it, and the loop has not yet looked."""
    sock = door()
    await plane.listen(sock.dup())
    waiting = client(sock)
    waiting.sendall(REQUEST)
    sock.close()
    await plane.drain()
    assert waiting.recv(4096).startswith(b"HTTP/1.1 404 ")
    waiting.close()
