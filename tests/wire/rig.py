"""The data plane in this loop, between a raw client and a scripted upstream."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import strict
from harness import Script, Scripted, Wire, turn

from proxy.core.breaker import BreakerSettings
from proxy.core.policy import Deadlines, Limits, Policy, Route, Upstream
from proxy.dataplane.plane import DataPlane
from proxy.dataplane.recording import Recorder
from proxy.ports.records import Spool
from proxy.telemetry.counters import Counters

# The breaker, ejection and retry floor stay out of the way unless a test asks for them.
UPSTREAM = Upstream(
    url="http://127.0.0.1:9",
    timeout_ms=1_500,
    connect_timeout_ms=1_000,
    idle_s=30.0,
    eject_after=1_000_000,
    retry_budget=1.0,
    retry_floor_per_s=1_000.0,
    breaker=BreakerSettings(consecutive_failures=0, minimum_calls=1_000_000),
)
DEADLINES = Deadlines(head_s=4.0, body_gap_s=4.0, idle_client_s=30.0, linger_s=0.3, drain_s=5.0)
ROUTE = Route(name="all", path="/", upstream="up", total_ms=10_000)


class Rig:
    """A running data plane, its upstream, and what it logged."""

    def __init__(self, plane: DataPlane, upstream: Scripted, policy: Policy, counters: Counters) -> None:
        self.plane = plane
        self.upstream = upstream
        self.policy = policy
        self.counters = counters
        self.complaints: list[str] = []
        self.transitions: list[tuple[Any, ...]] = []
        self._clients: list[Wire] = []

    @property
    def port(self) -> int:
        return self.plane.address[1]

    async def client(self, *, receive_buffer: int = 0) -> Wire:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(sock, ("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        _, wire = await loop.create_connection(Wire, sock=sock)
        self._clients.append(wire)
        return wire

    async def ask(self, raw: bytes, method: bytes = b"GET") -> strict.Response:
        """One request on a connection of its own."""
        wire = await self.client()
        wire.send(raw)
        answer = await wire.response(method)
        wire.close()
        return answer

    def close_clients(self) -> None:
        for wire in self._clients:
            wire.transport.abort()


class _Complaints(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        self._into.append(self.format(record))


def policy(
    url: str | list[str] = UPSTREAM.url,
    *,
    upstream: dict[str, Any] | None = None,
    route: dict[str, Any] | None = None,
    routes: tuple[Route, ...] = (),
    limits: Limits | None = None,
    deadlines: Deadlines = DEADLINES,
    **more: Any,
) -> Policy:
    """One route for everything to one upstream, changed where the test says so."""
    up = replace(UPSTREAM, url=url, **(upstream or {}))
    return Policy(
        routes=routes or (replace(ROUTE, **(route or {})),),
        upstreams={"up": up},
        authorities=authorities(up.ca_file),
        limits=limits or Limits(),
        deadlines=deadlines,
        access_log_sample=0.0,
        **more,
    )


def authorities(file: str) -> dict[str, str]:
    """What the settings hand on of a `ca_file`."""
    return {file: Path(file).read_text()} if file else {}


@asynccontextmanager
async def sidecar(
    *scripts: Script, tls: ssl.SSLContext | None = None, spool: Spool | None = None, **settings: Any
) -> AsyncIterator[Rig]:
    """The data plane before one scripted upstream. On the way out: nothing may have been
    logged as an error, nothing malformed may have reached the upstream."""
    scripted = Scripted(*scripts, tls=tls)
    await scripted.start()
    settings.setdefault("url", scripted.url)
    wanted = policy(**settings)
    counters = Counters()
    transitions: list[tuple[Any, ...]] = []
    plane = DataPlane(
        wanted,
        counters,
        on_transition=lambda *what: transitions.append(what),
        recorder=None if spool is None else Recorder(spool, counters, instance="here"),
    )
    rig = Rig(plane, scripted, wanted, counters)
    rig.transitions = transitions
    listening = _Complaints(rig.complaints)
    logging.getLogger().addHandler(listening)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: rig.complaints.append(repr(context)))
    await plane.start("127.0.0.1:0")
    try:
        yield rig
        assert not rig.complaints, rig.complaints
        assert not scripted.faults, scripted.faults
    finally:
        rig.close_clients()
        plane.close()
        await scripted.stop()
        await turn()
        logging.getLogger().removeHandler(listening)
        loop.set_exception_handler(None)
