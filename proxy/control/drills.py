"""Drills of the rollback: begun by somebody, followed, and over in time. Whatever is real goes before them.

One at a time, and never beside a real breach: a kill, a rollback, or one of the operator's ends it at once.
Nothing of it is remembered over a restart; the data plane goes by it until its time is over at the most.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from proxy.clock import Clock, monotonic, rfc3339, wall
from proxy.core.decision import killed_by
from proxy.core.drill import Criterion
from proxy.core.override import Override, sign
from proxy.core.policy import Policy
from proxy.core.rollback.drills import Drill
from proxy.core.rollback.engine import Transition
from proxy.core.rollback.exercises import EXERCISES, Clocks, Name, Over, Run, obstacle
from proxy.core.rollback.signals import Delta
from proxy.errors import FuseboxError
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.drill")

TICK_S = 0.25
"""Between two looks, as of the rollback itself."""


class DrillRefused(FuseboxError):
    """Why there is no drill now. Nothing has changed."""


class Target(Protocol):
    """What puts a drill in force."""

    @property
    def policy(self) -> Policy: ...

    def drill(self, drill: Drill | None) -> None:
        """Effective with the next request, in place of any other; None: there is none."""

    async def settled(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillMove:
    """A move of the drill's own engine."""

    after_s: float  # since the drill began
    before: str
    to: str
    event: str
    stage: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillStatus:
    """A drill, running or over. Times in seconds."""

    id: str
    name: Name
    does: str
    by: str
    reason: str
    began: str  # RFC 3339
    for_s: float
    ends_in_s: float  # at the latest
    over: Over
    why: str  # it is over, where it did not finish
    state: str  # of its own engine
    stage: str
    broken: bool  # its fault is there now
    requests: int  # of its own
    moves: tuple[DrillMove, ...]  # the oldest first
    criteria: tuple[Criterion, ...]  # empty as long as it runs


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillsStatus:
    """The present drill, or the last one since the start."""

    drill: DrillStatus | None
    names: Mapping[str, str]  # what each does


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillStarted:
    """A drill that has begun. `override` marks requests as its own."""

    drill: DrillStatus
    override: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    run: Run
    by: str
    reason: str
    at: float


class DrillControl:
    """`stop` at the end."""

    def __init__(
        self, target: Target, real: Callable[[], str], *, monotonic: Clock = monotonic, wall: Clock = wall
    ) -> None:
        """`real` says what goes on in earnest and leaves no room for drills; empty: nothing does."""
        self.heard: Callable[[DrillStatus], None] = lambda _: None
        """Called once with each that is over."""
        self._target = target
        self._real = real
        self._monotonic = monotonic
        self._wall = wall
        self._begun: _Begun | None = None
        self._running: asyncio.Task[None] | None = None

    # -- what there is

    def status(self) -> DrillsStatus:
        begun = self._begun
        names: dict[str, str] = {name: it.does for name, it in EXERCISES.items()}
        return DrillsStatus(drill=None if begun is None else self._shown(begun), names=names)

    def _shown(self, begun: _Begun) -> DrillStatus:
        run, now = begun.run, self._monotonic()
        ended = run.ended_at if run.ended_at is not None else now
        return DrillStatus(
            id=run.id,
            name=run.name,
            does=run.exercise.does,
            by=begun.by,
            reason=begun.reason,
            began=rfc3339(self._wall() - (now - begun.at)),
            for_s=round(ended - begun.at, 3),
            ends_in_s=0.0 if run.over else round(max(0.0, run.ends_at - now), 3),
            over=run.over,
            why=run.why,
            state=run.state,
            stage=run.stage,
            broken=run.broken,
            requests=run.requests,
            moves=tuple(_shown(move, begun.at) for move in run.moves),
            criteria=run.criteria(self._target.policy.rollback) if run.over else (),
        )

    # -- by hand

    def obstacle(self, name: Name) -> str:
        """Why it cannot begin now; empty: it can."""
        policy = self._target.policy
        begun = self._begun
        if begun is not None and not begun.run.over:
            return f"the drill {begun.run.name} of {begun.by} is still running"
        if why := self._earnest():
            return why
        if not policy.overrides.enabled:
            return "its requests are marked by overrides, which are switched off (overrides.enabled)"
        if not policy.signing_key:
            return "there is no signing key here, so its requests cannot be marked"
        return obstacle(name, policy)

    async def start(self, name: Name, clocks: Clocks, *, reason: str, by: str) -> DrillStarted:
        """Begin; in force on return. DrillRefused says why not."""
        if why := self.obstacle(name):
            raise DrillRefused(why)
        now, policy = self._monotonic(), self._target.policy
        most = policy.overrides.max_ttl_s  # then its requests would be refused
        clocks = replace(clocks, limit_s=min(clocks.limit_s, most))
        run = Run(name, policy, clocks, drill_id=f"drill-{uuid.uuid4().hex[:12]}", now=now)
        self._target.drill(run.drill)
        begun = self._begun = _Begun(run=run, by=by, reason=reason, at=now)
        _log.warning("drill %s has begun: %s", name, reason, extra={"drill": run.id, "by": by})
        self._running = spawn(self._run(begun), "drill")
        await self._target.settled()
        at = int(self._wall())
        until = at + min(int(clocks.limit_s) + 1, most)
        override = Override(run.id, by, at, until, (), run.id)
        return DrillStarted(drill=self._shown(begun), override=sign(policy.signing_key, override))

    async def abort(self, *, reason: str, by: str) -> DrillsStatus:
        """End it; over for every next request on return. Where none is running nothing happens."""
        if self._begun is not None:
            self._end(self._begun, f"{by}: {reason}")
            await self._target.settled()
        return self.status()

    # -- what comes by itself

    def feed(self, delta: Delta) -> None:
        """What was counted since the delta before, of everybody."""
        if self._begun is not None and not self._begun.run.over:
            self._begun.run.feed(delta, self._monotonic())

    def tick(self) -> None:
        """To be called every `TICK_S` while one is running."""
        begun = self._begun
        if begun is None or begun.run.over:
            return
        run = begun.run
        if why := self._earnest():
            self._end(begun, why)
            return
        before = run.drill
        for move in run.step(self._monotonic()):
            extra = {"drill": run.id, "event": move.event}
            _log.info("drill %s: %s → %s: %s", run.name, move.before, move.to, move.reason, extra=extra)
        if run.drill != before:
            self._target.drill(run.drill)
        if run.over:
            self._tell(begun)

    def _earnest(self) -> str:
        killed = killed_by(self._target.policy) is not None
        return "the kill switch is on" if killed else self._real()

    def _end(self, begun: _Begun, why: str) -> None:
        run = begun.run
        if not run.over:
            run.end("aborted", why, self._monotonic())
            self._target.drill(None)
            self._tell(begun)

    def _tell(self, begun: _Begun) -> None:
        run = begun.run
        _log.warning("drill %s is over: %s", run.name, run.why or run.over, extra={"drill": run.id})
        self.heard(self._shown(begun))

    async def _run(self, begun: _Begun) -> None:
        while not begun.run.over:
            await asyncio.sleep(TICK_S)
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - nothing of it may stay in force
                _log.exception("a drill cannot go on")
                self._end(begun, f"a fault of ours: {error!r}")

    def stop(self) -> None:
        """End what is running."""
        if self._begun is not None:
            self._end(self._begun, "the sidecar ends")
        if self._running is not None:
            self._running.cancel()


def _shown(move: Transition, began: float) -> DrillMove:
    return DrillMove(
        after_s=round(move.at - began, 3),
        before=move.before,
        to=move.to,
        event=move.event,
        stage=move.stage,
        reason=move.reason,
    )
