"""Listening sockets for workers: ours alone, spread evenly, kept when a worker is gone."""

import socket

import pytest

from proxy.runtime.workers.doors import open_doors


@pytest.fixture
async def four():
    doors = await open_doors("127.0.0.1", 0, 4)
    yield doors
    doors.close()


def accepted(door):
    """How many connections wait there."""
    count = 0
    for sock in door:
        while True:
            try:
                sock.accept()[0].close()
            except BlockingIOError:
                break
            count += 1
    return count


async def test_connections_are_spread_over_all_doors(four):
    clients = [socket.create_connection(four.address) for _ in range(200)]
    counts = [accepted(door) for door in four._doors]
    for client in clients:
        client.close()
    assert sum(counts) == 200
    assert min(counts) > 10, counts


async def test_nobody_else_gets_the_address_not_even_doors(four):
    with pytest.raises(OSError, match="in use"):
        await open_doors(*four.address, 2)
    with pytest.raises(OSError, match="in use"):
        socket.create_server(four.address)
    with pytest.raises(OSError, match="in use"):
        await open_doors("0.0.0.0", four.address[1], 2)


async def test_an_address_in_use_is_refused_and_nothing_stays_open():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await open_doors(*taken.getsockname(), 4)


async def test_the_address_is_free_again_after_use(four):
    with socket.create_connection(four.address):
        accepted(four._doors[0])
    four.close()
    again = await open_doors(*four.address, 4)
    again.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_ipv6_too():
    doors = await open_doors("::1", 0, 2)
    with socket.create_connection(doors.address):
        pass
    doors.close()
