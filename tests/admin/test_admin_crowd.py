"""Many connections at the admin port: whoever says nothing makes room."""

import asyncio
import socket

from proxy.admin.app import CONNECTIONS
from proxy.core.roles import Role
from proxy.tasks import spawn


class Crowd:
    """Connections that have sent `said` and nothing else."""

    def __init__(self, admin, said=b""):
        self.admin, self.said, self.socks = admin, said, []

    async def more(self, count):
        loop = asyncio.get_running_loop()
        for _ in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, (self.admin.host, self.admin.port))
            if self.said:
                await loop.sock_sendall(sock, self.said)
            self.socks.append(sock)

    def leave(self):
        for sock in self.socks:
            sock.close()


async def thinned(admin):
    """Return once no more are open than may be."""
    async with asyncio.timeout(10):
        while len(admin.server._runner.server.connections) > CONNECTIONS:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_silent_connections_keep_nobody_from_the_kill_switch(admin):
    """None of them needs a token, and each would hold a file that traffic needs."""
    for said in (b"", b"PUT /v1/kill HT"):
        crowd = Crowd(admin, said)
        await crowd.more(3 * CONNECTIONS)
        await thinned(admin)
        answer = await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json={"reason": "x"})
        assert answer.status == 200
        crowd.leave()


async def test_a_request_under_way_is_not_cut_for_a_crowd(admin):
    """Even the oldest connection of all stays until it is answered."""
    admin.trail.go.clear()
    change = spawn(
        admin.ask("POST", "/v1/breakers/payment/open", role=Role.OPERATOR, json={"reason": "x"}), "change"
    )
    await admin.trail.reached.wait()
    crowd = Crowd(admin)
    await crowd.more(2 * CONNECTIONS)
    await thinned(admin)
    admin.trail.go.set()
    assert (await change).status == 200
    crowd.leave()
