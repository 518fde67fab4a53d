"""One sidecar: what it is made of, how it starts, how it ends."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import TypeVar

from proxy import __version__
from proxy.admin.app import AdminServer, application
from proxy.admin.calls import Services
from proxy.admin.issuer_keys import IssuerKeys
from proxy.admin.oidc import OidcIssuer
from proxy.clock import monotonic
from proxy.control import BreakerControl, KillSwitch, Numbers, StatusBoard, ToggleControl
from proxy.control.drills import DrillControl, DrillStatus
from proxy.control.flaps import FlapGuard
from proxy.control.layering import Layering
from proxy.control.preview import Previews
from proxy.control.rollback import RollbackControl
from proxy.control.rollback_board import RollbackBoard
from proxy.control.rollback_criticals import Criticals
from proxy.control.rollback_loads import Loads
from proxy.control.rollback_words import layers_words
from proxy.control.rollback_world import Surroundings
from proxy.core.breaker import Transition
from proxy.core.inputs import Recent
from proxy.core.rollback.signals import Delta
from proxy.dataplane.plane import DataPlane
from proxy.dataplane.sampling import Sampling
from proxy.runtime.announce import announce
from proxy.runtime.events import Events
from proxy.runtime.ledger import Ledger, instance
from proxy.runtime.process import Spooling, StartError, data_plane, raise_open_files, settle_memory
from proxy.runtime.reload import Reloader
from proxy.runtime.signing import Signing
from proxy.runtime.workers.supervisor import Supervisor
from proxy.settings import Settings, split_address
from proxy.settings.model import Oidc
from proxy.storage.kill_file import KillFile
from proxy.storage.rollback_file import RollbackFile
from proxy.storage.toggles_file import TogglesFile
from proxy.storage.token_use import TokenUse
from proxy.storage.tokens import TokenFile
from proxy.tasks import spawn
from proxy.telemetry.collector import Metrics, SidecarCollector
from proxy.telemetry.counters import Counters
from proxy.telemetry.logs import Logs
from proxy.telemetry.rollback import RollbackNow

T = TypeVar("T")

_log = logging.getLogger("fusebox")


class Sidecar:
    """Everything that runs, wired together. Make it inside the running loop; `run` once.

    SettingsError for what shows only in use, such as a file of certificates that holds none.
    """

    def __init__(
        self, settings: Settings, counters: Counters, logs: Logs, workers: int | None = None
    ) -> None:
        self._settings = settings
        self._logs = logs
        self._workers = workers
        self._counters = counters
        self._ledger = ledger = Ledger(settings)
        self._signing = Signing()
        self._events = Events(settings, counters)
        recent = Recent()
        self._plane, self._supervisor = self._composed(counters, workers, recent)
        self._tokens = TokenFile(settings.tokens_file)
        numbers = Numbers()
        self._flaps = flaps = FlapGuard(self._plane)
        layering = Layering(flaps)  # whatever changes the policy does so through it
        self._previews = previews = Previews(
            self._plane, counters, recent, seen=self._plane.remembering, foreseen=flaps.foreseen
        )
        self._kill = kill = KillSwitch(layering, KillFile(settings.kill_file), numbers=numbers)
        self._toggles = toggles = ToggleControl(
            layering,
            kill,
            file=TogglesFile(settings.toggles_file),
            journal=ledger.journal,
            trail=ledger.trail,
            numbers=numbers,
            environment=settings.environment,
        )
        toggles.restore()
        criticals = Criticals(self._plane, counters, lambda: counters.worker_restarts)
        self._rollback = rollback = RollbackControl(
            layering,
            Surroundings(layering, criticals, Loads(counters, previews.shown)),
            store=RollbackFile(settings.rollback_file),
            trail=ledger.trail,
        )
        rollback.heard = self._events.rollback_moved
        rollback.restore()
        rollback_board = RollbackBoard(rollback, layering)
        kill.beyond = rollback.kills
        toggles.over = lambda: layers_words(rollback.layers) if rollback.layers else ""
        self._drills = drills = DrillControl(layering, rollback.earnest)
        drills.heard = self._drilled
        self._breakers = breakers = BreakerControl(self._plane)
        statuses = self._supervisor.statuses if self._supervisor else tuple
        board = StatusBoard(
            self._plane,
            counters,
            kill=kill,
            breakers=breakers,
            toggles=toggles,
            workers=statuses,
            troubles=self._troubles,
            held=flaps.status,
            rollback=rollback_board.brief,
        )
        self._uses = TokenUse(settings.state_directory / "token_use.json")
        services = Services(
            tokens=self._tokens,
            kill=kill,
            toggles=toggles,
            previews=previews,
            rollback=rollback,
            rollback_board=rollback_board,
            drills=drills,
            breakers=breakers,
            board=board,
            readiness=self,
            metrics=Metrics(
                SidecarCollector(
                    counters, self._plane, board.policy_age_s, records=ledger.now, rollback=self._rolled
                )
            ),
            trail=ledger.trail,
            audit=ledger.reader,
            issuer=_issuer(settings.oidc),
            uses=self._uses,
            troubles=self._troubles,
        )
        self._admin = AdminServer(application(services))
        self._reloader = Reloader(
            settings,
            kill=kill,
            toggles=toggles,
            board=board,
            trail=ledger.trail,
            set_level=self._set_level,
            signing=self._signing,
        )
        self._listening = False
        self._stopping = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    def _composed(
        self, counters: Counters, workers: int | None, recent: Recent
    ) -> tuple[DataPlane | Supervisor, Supervisor | None]:
        """What carries the traffic: this process, or workers with a supervisor."""
        settings = self._settings
        policy = settings.policy(self._signing.key(settings))
        spooling = Spooling(
            state=settings.state_directory,
            directory=settings.spool_directory,
            limit=settings.audit.spool_bytes,
            sync=settings.audit.spool_sync,
            instance=instance(),
            events=self._events.files,
        )
        if workers is None:
            raise_open_files(policy.limits.connections)
            sampling = Sampling(recent.keep, monotonic())
            return data_plane(
                policy,
                counters,
                self._heard,
                spooling,
                sampling,
                on_signals=self._counted,
                events=self._events.log,
            ), None
        supervisor = Supervisor(
            policy,
            counters,
            workers=workers,
            level=settings.log.level,
            heard=self._heard,
            spooling=spooling,
            recent=recent,
            on_signals=self._counted,
        )
        return supervisor, supervisor

    def _troubles(self) -> list[str]:
        found = [self._signing.trouble, self._plane.remembering.trouble]
        if self._counters.warm_unreadable:
            found.append("the warm list cannot be used: the log has the reason")
        found += self._events.troubles()
        found += [*self._toggles.troubles(), *self._rollback.troubles(), *self._ledger.troubles()]
        return list(filter(None, found))

    def unready(self) -> list[str]:
        """Why no traffic should be sent here; empty: ready (contract, Admin API)."""
        if self._stopping.is_set():
            return ["draining"]
        if not self._listening:
            return ["not listening yet"]
        return self._supervisor.unready() if self._supervisor else []

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain; a second one aborts.

        Returns 0 after a drain, 1 after an abort. StartError when an address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        loop.add_signal_handler(signal.SIGUSR2, self._on_roll)
        async with AsyncExitStack() as closing:
            # The ledger outlives all that writes to it.
            closing.callback(self._events.close)
            self._ledger.start()
            closing.push_async_callback(self._ledger.stop)
            closing.push_async_callback(self._uses.settled)
            await self._toggles.begin()
            closing.push_async_callback(self._toggles.stop)
            await self._flaps.begin(self._toggles.past)
            closing.callback(self._flaps.close)
            await self._rollback.begin()
            closing.push_async_callback(self._rollback.stop)
            closing.callback(self._drills.stop)
            # Admin opens first and closes last: it tells of the start and of the drain.
            closing.push_async_callback(self._admin.stop)
            host, port = split_address(self._settings.admin.address)
            admin = await _bound(self._admin.start(host, port), "admin.address", self._settings.admin.address)
            closing.callback(self._plane.close)
            address = self._settings.listen.address
            await _bound(self._plane.start(address), "listen.address", address)
            self._listening = True
            spawn(self._previews.run(), "what upstreams show")
            settle_memory()
            started = {"version": __version__, "workers": self._workers, "killed": self._kill.status.kill}
            await self._ledger.note("sidecar.start", after=started)
            announce(
                self._settings,
                listen=_url(self._plane.address),
                admin=_url(admin),
                kill=self._kill.status,
                tokens=self._tokens,
            )
            await self._stopping.wait()
            code = await self._wind_down()
            await self._ledger.note("sidecar.stop", reason="aborted" if code else "drained")
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

    def _on_roll(self) -> None:
        if self._supervisor is None:
            _log.warning("SIGUSR2 replaces workers, and there are none: start with --workers")
        else:
            spawn(self._supervisor.roll(), "rolling restart")

    def _heard(self, change: Transition) -> None:
        self._breakers.heard(change)
        self._events.breaker_moved(change)

    def _counted(self, delta: Delta) -> None:
        self._rollback.feed(delta)
        self._drills.feed(delta)

    def _rolled(self) -> RollbackNow:
        rollback = self._rollback
        return RollbackNow(
            state=rollback.engine.state,
            applied=rollback.engine.applied,
            verdicts=rollback.engine.judgement.verdicts,
            transitions=rollback.transitions,
        )

    def _drilled(self, drill: DrillStatus) -> None:
        after = {"name": drill.name, "state": drill.state, "requests": drill.requests}
        ended = self._ledger.note("drill.end", target=drill.id, reason=drill.why or drill.over, after=after)
        spawn(ended, "the end of a drill")

    def _set_level(self, level: str) -> None:
        self._logs.set_level(level)
        if self._supervisor is not None:
            self._supervisor.set_level(level)


def _issuer(settings: Oidc) -> OidcIssuer | None:
    if not settings.issuer:
        return None
    return OidcIssuer(settings, IssuerKeys(settings.issuer, settings.jwks_url))


async def _bound(start: Awaitable[T], setting: str, address: str) -> T:
    try:
        return await start
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
        raise StartError(f"cannot listen on {address} ({setting}): {cause}") from error


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
