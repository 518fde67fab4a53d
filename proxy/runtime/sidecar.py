"""One sidecar in one process: what it is made of, how it starts, how it ends."""

import asyncio
import gc
import logging
import os
import resource
import signal
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import TypeVar

from proxy.admin.app import AdminServer, application
from proxy.admin.calls import Services
from proxy.control import BreakerControl, KillSwitch, StatusBoard
from proxy.core.breaker import Transition
from proxy.dataplane.plane import DataPlane
from proxy.errors import FuseboxError
from proxy.runtime.announce import announce
from proxy.runtime.reload import Reloader
from proxy.settings import Settings, split_address
from proxy.storage.kill_file import KillFile
from proxy.storage.tokens import TokenFile
from proxy.tasks import spawn
from proxy.telemetry.collector import Metrics, SidecarCollector
from proxy.telemetry.counters import Counters
from proxy.telemetry.logs import Logs

T = TypeVar("T")

_log = logging.getLogger("fusebox")
_breaker_log = logging.getLogger("fusebox.breakers")

GC_THRESHOLDS = (20_000, 20, 100)
"""Requests leave few cycles behind, and the young generation's default of 700 allocations would be
looked through many times a second for nothing. What the start has built lives until the end and is
frozen out of every collection, so that none has to walk the popularity list."""


class StartError(FuseboxError):
    """The sidecar cannot start; the text names the setting to look at."""


class Sidecar:
    """Everything that runs, wired together. Make it inside the running loop; `run` once.

    SettingsError for what shows only in use, such as a file of certificates that holds none.
    """

    def __init__(self, settings: Settings, counters: Counters, logs: Logs) -> None:
        self._settings = settings
        self._counters = counters
        self._plane = DataPlane(settings.policy(), counters, on_transition=self._on_transition)
        self._tokens = TokenFile(settings.tokens_file)
        self._kill = kill = KillSwitch(self._plane, KillFile(settings.kill_file))
        kill.restore()
        self._breakers = breakers = BreakerControl(self._plane)
        board = StatusBoard(self._plane, counters, kill=kill, breakers=breakers)
        metrics = Metrics(SidecarCollector(counters, self._plane, board.policy_age_s))
        services = Services(
            tokens=self._tokens, kill=kill, breakers=breakers, board=board, readiness=self, metrics=metrics
        )
        self._admin = AdminServer(application(services))
        self._reloader = Reloader(settings, kill=kill, board=board, logs=logs)
        self._listening = False
        self._stopping = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    def unready(self) -> list[str]:
        """Why no traffic should be sent here; empty: ready (contract, Admin API)."""
        if self._stopping.is_set():
            return ["draining"]
        return [] if self._listening else ["not listening yet"]

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain; a second one aborts.

        Returns 0 after a drain, 1 after an abort. StartError when an address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        _raise_open_files(self._settings.limits.connections)
        async with AsyncExitStack() as closing:
            # Admin opens first and closes last: it tells of the start and of the drain.
            closing.push_async_callback(self._admin.stop)
            host, port = split_address(self._settings.admin.address)
            admin = await _bound(self._admin.start(host, port), "admin.address", self._settings.admin.address)
            closing.callback(self._plane.close)
            address = self._settings.listen.address
            await _bound(self._plane.start(address), "listen.address", address)
            self._listening = True
            _settle_memory()
            announce(
                self._settings,
                listen=_url(self._plane.address),
                admin=_url(admin),
                kill=self._kill.status,
                tokens=self._tokens,
            )
            await self._stopping.wait()
            code = await self._wind_down()
        _log.info("stopped")
        return code

    async def _wind_down(self) -> int:
        _log.info("draining")
        self._draining = spawn(self._drain(), "drain")
        await asyncio.wait([self._draining])
        drained = not self._draining.cancelled() and self._draining.exception() is None
        _log.info("drained" if drained else "aborted")
        return 0 if drained else 1

    async def _drain(self) -> None:
        # Balancers first see the readiness fail; only then does the listener close on them.
        await asyncio.sleep(self._plane.policy.deadlines.drain_notice_s)
        await self._plane.drain()

    def _on_stop(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
        self._stopping.set()

    def _on_reload(self) -> None:
        spawn(self._reloader.reload(), "reload")

    def _on_transition(self, change: Transition) -> None:
        self._breakers.heard(change)
        self._counters.transitions[change.upstream, change.to, change.rule] += 1
        _breaker_log.warning(
            "breaker %s: %s to %s: %s",
            change.upstream,
            change.before,
            change.to,
            change.reason,
            extra={
                "upstream": change.upstream,
                "before": change.before,
                "to": change.to,
                "rule": change.rule,
                "observed": change.observed,
                "n": change.n,
                "threshold": change.threshold,
                "dry_run": change.dry_run,
            },
        )


async def _bound(start: Awaitable[T], setting: str, address: str) -> T:
    try:
        return await start
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
        raise StartError(f"cannot listen on {address} ({setting}): {cause}") from error


def _raise_open_files(connections: int) -> None:
    """Each client connection may need one to an upstream; the soft limit of a shell is often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + 256
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < 2 * connections + 256:
        _log.warning(
            "open-file limit %d: fewer than limits.connections = %d, each of which may need two; raise it",
            wanted,
            connections,
        )


def _settle_memory() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
