"""Everything at once: every answer belongs to its request, no write happens twice, nothing stays behind."""

import asyncio
import random
import re
from collections import Counter

import pytest
from harness import GoneError, Wire, reply, turn, until
from rig import Rig, sidecar

from proxy.core.policy import Deadlines

SEEDS = range(4)
HOWS = (
    b"plain",
    b"chunked",
    b"late",
    b"extra",
    b"close",
    b"reset",
    b"cut",
    b"garbage",
    b"hints",
    b"silent",
    b"early",
)
SETTINGS = {
    "max_inflight": 12,
    "max_queue": 400,
    "queue_timeout_ms": 20_000,
    "timeout_ms": 400,
    "idle_s": 0.2,
}


async def misbehaving(wire: Wire) -> None:
    """Does with each request what its target says: `/how/number`."""
    while True:
        head = await wire.request_head()
        how = head.target.split(b"/")[1]
        if how == b"early":
            wire.send(reply(head.target, b"Connection: close"))
            await wire.ended()
            return
        size = int(head.get("content-length") or b"0")
        await wire.until(lambda size=size: len(wire.data) - wire.at >= size or wire.eof, "a body")  # type: ignore[misc]
        if len(wire.data) - wire.at < size:
            return
        wire.at += size
        body = head.target
        if how == b"late":
            for _ in range(20):
                await turn()
        if how == b"chunked":
            coded = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            await wire.pieces(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded, 7)
        elif how == b"cut":
            wire.send(reply(body)[:-2])
            wire.close()
        elif how == b"garbage":
            wire.send(b"\x15\x03\x01\x00\x02\x02\x28 no HTTP\r\n\r\n")
        elif how == b"reset":
            wire.reset()
        elif how == b"silent":
            await wire.ended()
        else:
            hints = b"HTTP/1.1 103 Early Hints\r\n\r\n" if how == b"hints" else b""
            wire.send(hints + reply(body) + (reply(b"evil") if how == b"extra" else b""))
        if how in (b"close", b"cut", b"reset", b"silent") or wire.transport.is_closing():
            wire.close()
            return


class Client:
    """Sends requests of all kinds, well and badly, and checks every answer against what was asked."""

    def __init__(self, rig: Rig, name: int, seed: int) -> None:
        self._rig = rig
        self._name = name
        self._rng = random.Random(f"{seed}.{name}")
        self.statuses: Counter[int | str] = Counter()

    async def run(self, requests: int) -> None:
        wire = await self._rig.client()
        for number in range(requests):
            if wire.eof or wire.transport.is_closing():
                wire = await self._rig.client()
            how = self._rng.choice(HOWS)
            target = b"/%b/%d.%d" % (how, self._name, number)
            method = self._rng.choice((b"GET", b"POST", b"POST"))
            body = bytes(self._rng.randrange(4_000)) if method == b"POST" else b""
            raw = method + b" %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
                target,
                len(body),
                body,
            )
            await self._one(wire, raw, target, method)

    async def _one(self, wire: Wire, raw: bytes, target: bytes, method: bytes) -> None:
        manner = self._rng.randrange(10)
        if manner == 0:
            wire.send(raw[: self._rng.randrange(1, len(raw))])
            await turn()
            wire.reset()
            return
        if manner == 1:
            wire.send(raw)
            for _ in range(self._rng.randrange(8)):
                await turn()
            wire.reset()
            return
        if manner == 2:
            await wire.pieces(raw, max(1, len(raw) // 9))
        else:
            wire.send(raw)
        if manner == 3:
            wire.half_close()
        try:
            answer = await wire.response(method)
        except GoneError:
            self.statuses["cut"] += 1
            return
        self.statuses[answer.status] += 1
        if answer.status == 200:
            assert answer.body == target
        else:
            assert answer.get("content-type") == b"application/problem+json"
        if manner == 3:
            await wire.ended()


@pytest.mark.parametrize("seed", SEEDS)
async def test_chaos(seed: int) -> None:
    deadlines = Deadlines(head_s=2.0, body_gap_s=2.0, idle_client_s=5.0, linger_s=0.1)
    async with sidecar(misbehaving, upstream=SETTINGS, deadlines=deadlines) as rig:
        clients = [Client(rig, name, seed) for name in range(40)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run(25))
        rig.close_clients()
        cell = rig.counters.upstream("up")
        await until(lambda: rig.counters.connections == 0, "all clients to be gone")
        await until(lambda: cell.inflight == 0 and cell.queued == 0, f"{cell.inflight} in flight")
        await until(lambda: all(wire.eof for wire in rig.upstream.wires), "idle connections to go")
        writes = Counter(re.findall(rb"POST (\S+) HTTP/1.1", rig.upstream.data))
        assert not [target for target, count in writes.items() if count > 1]
        statuses = sum((client.statuses for client in clients), Counter())
        assert set(statuses) <= {200, 502, 503, 504, "cut"}
        assert statuses[200] > 300
