from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient, TestServer

from proxy.demo.upstreams import application

Start = Callable[[str], Awaitable[TestClient]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts an example upstream by its name on a free port, and gives a client of it."""
    clients: list[TestClient] = []

    async def started(name: str) -> TestClient:
        server = TestServer(application(name))
        await server.start_server()  # cancels the handler of a client that left, as ours do
        client = TestClient(server)
        clients.append(client)
        return client

    yield started
    for client in clients:
        await client.close()
