"""What the fuzz tests are made of: one sidecar for many examples, mutations, and what they may lead to."""

import asyncio
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop
from harness import Wire, reply, turn
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from rig import Rig, sidecar

from proxy.core.policy import Deadlines

if TYPE_CHECKING:
    import strict

T = TypeVar("T")

EXAMPLES = int(os.environ.get("FUSEBOX_FUZZ_EXAMPLES", "0"))
"""Set it for a longer, random search; without it the same examples run each time."""

fuzzed = settings(
    max_examples=EXAMPLES or 1_500,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

NASTY = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\0", b" ", b"\t", b"\x0b", b"\x7f", b"\x80", b"\xff",
    b":", b",", b";", b"0", b"5", b"-", b"+", b"_", b"0x", b"\r\n ", b"0\r\n\r\n", b"5\r\nhello\r\n",
    b"FFFFFFFFFFFFFFFF", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Content-Length: 1000000\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding : chunked\r\n", b"Host: evil\r\n",
    b"Connection: close\r\n", b"Connection: content-length, host, transfer-encoding\r\n",
    b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"X-A: b\r\n", b"HTTP/1.0", b"HTTP/1.1",
    b"http://evil/", b"HEAD", b"CONNECT", b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204 N\r\n\r\n",
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One to three seeds in a row, changed in up to four places."""
    raw = b"".join(draw(st.lists(st.sampled_from(seeds), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            raw = raw[:at] + draw(st.sampled_from(NASTY)) + raw[at:]
        elif kind == 1:
            raw = raw[:at] + bytes([draw(st.integers(0, 255))]) + raw[at + 1 :]
        elif kind == 2:
            raw = raw[:at] + raw[at + draw(st.integers(1, 8)) :]
        elif kind == 3:
            raw = raw[:at] + raw[max(0, at - draw(st.integers(1, 30))) :]
        else:
            raw = raw[:at] + draw(st.binary(max_size=6)) + raw[at:]
    return raw


def cuts() -> st.SearchStrategy[list[int]]:
    """Where to cut a message into pieces; positions beyond its end change nothing."""
    return st.lists(st.integers(1, 400), max_size=8).map(sorted)


async def send_cut(wire: Wire, raw: bytes, at: list[int]) -> None:
    for start, end in zip([0, *at], [*at, len(raw)], strict=True):
        if raw[start:end] and not wire.transport.is_closing():
            wire.send(raw[start:end])
            await turn()


class Lab:
    """A loop and a sidecar that outlive single examples. The upstream answers with `answer`, then, if
    `leaves`, closes; without one it answers with the request's body."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stack = AsyncExitStack()
        self.seen: list[strict.Request] = []  # by the upstream
        self.answer: bytes | None = None
        self.cuts: list[int] = []
        self.leaves = False
        self.left = False
        self.rig: Rig = self.run(self._enter())

    async def _enter(self) -> Rig:
        deadlines = Deadlines(head_s=2.0, body_gap_s=2.0, idle_client_s=2.0, linger_s=0.2)
        upstream = {"timeout_ms": 2_000}
        return await self._stack.enter_async_context(
            sidecar(self._script, deadlines=deadlines, upstream=upstream, route={"total_ms": 4_000})
        )

    async def _script(self, wire: Wire) -> None:
        while True:
            request = await wire.request()
            self.seen.append(request)
            answer, leaves = self.answer, self.leaves
            self.answer, self.leaves = None, False
            if answer is None:
                wire.send(reply(b"" if request.method == b"HEAD" else request.body))
            else:
                await send_cut(wire, answer, self.cuts)
            if leaves:
                wire.close()
                self.left = True
                return

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def clear(self) -> None:
        """Forget what earlier examples did; what they broke shows at once."""
        assert not self.rig.complaints, self.rig.complaints
        assert not self.rig.upstream.faults, self.rig.upstream.faults
        self.seen.clear()
        self.answer, self.leaves, self.left = None, False, False
        self.rig.upstream.wires[:] = [wire for wire in self.rig.upstream.wires if not wire.eof]
        self.rig.close_clients()
        self.rig._clients.clear()

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._runner.close()
