"""The drills of the rollback: what is done to their own requests, when, and what has to come of it.

They are the shadow tests of seeds/001. The engine is the very same that real traffic has, with shorter
clocks; it sees the drill's requests alone, and what it lays over toggles holds for those alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args

from annotated_types import Interval

from proxy.core.audit_settings import STRICT
from proxy.core.drill import Criterion
from proxy.core.policy import Policy
from proxy.core.rollback.drills import Drill, Fault
from proxy.core.rollback.engine import Engine, State, Transition, World
from proxy.core.rollback.judge import Judge
from proxy.core.rollback.settings import RollbackSettings, Trigger
from proxy.core.rollback.signals import REQUESTS, Delta, Side
from proxy.core.rollback.stages import Stage
from proxy.core.rollback.verdicts import Metric, Verdict

Name: TypeAlias = Literal["rollback", "coverage", "latency", "error", "recovery"]
NAMES: tuple[Name, ...] = get_args(Name)
Over: TypeAlias = Literal["", "finished", "aborted", "out_of_time"]

BY = "drill"
"""Who gives the orders of a drill."""
SLOWER = 1.5
"""A drill of latency holds its requests so many times as long as the target allows."""

_BY_ITSELF: tuple[State, ...] = (
    "NORMAL", "DEGRADED", "ROLLBACK_PENDING", "ROLLED_BACK", "RECOVERY_VERIFY", "NORMAL",
)  # fmt: skip
_ORDERS: tuple[Stage, ...] = ("2", "3", "emergency")


class Exercise(NamedTuple):
    """One drill."""

    does: str
    metric: Metric | None  # whose P1 trigger has to fire; None: it is ordered by hand
    path: tuple[State, ...]  # that it has to take
    relapses: bool = False  # the fault outlasts the first recovery


EXERCISES: Mapping[Name, Exercise] = {
    "rollback": Exercise(
        "by hand: stage 2, 3, emergency, and released again",
        None,
        ("NORMAL", "ROLLED_BACK", "RECOVERY_VERIFY", "NORMAL"),
    ),
    "coverage": Exercise("no source offers anything", "coverage", _BY_ITSELF),
    "latency": Exercise("a source is slower than the target", "latency", _BY_ITSELF),
    "error": Exercise("a source fails", "error", _BY_ITSELF),
    "recovery": Exercise(
        "a source fails, and goes on failing when recovery is tried first",
        "error",
        (*_BY_ITSELF[:-1], "ROLLED_BACK", "RECOVERY_VERIFY", "NORMAL"),
        relapses=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """The clocks of a drill, in seconds: shorter than those of `[rollback]`, and bounded."""

    __pydantic_config__: ClassVar[Any] = STRICT
    lead_s: Annotated[float, Interval(ge=0.1, le=60)] = 5.0  # of its traffic before anything is done to it
    confirm_s: Annotated[float, Interval(ge=0, le=60)] = 3.0
    hold_s: Annotated[float, Interval(ge=0.1, le=300)] = 10.0  # by hand: each stage as well
    recovery_step_s: Annotated[float, Interval(ge=0.1, le=120)] = 5.0
    limit_s: Annotated[float, Interval(ge=1, le=1_800)] = (
        600.0  # for all of it; then it is over, whatever was seen
    )


WITHIN_S = 600.0
"""A trigger has to have rolled it back by then (facts 2.7)."""
RECOVERED_S = 900.0
"""From when nothing is wrong any more, until nothing lies over the toggles."""
STEPS = (25.0, 50.0, 100.0)
"""Of a drill's recovery, in percent: it has too few users for smaller ones."""


def settings_of(real: RollbackSettings, clocks: Clocks) -> RollbackSettings:
    """What a drill is judged by: the same triggers, sooner."""
    return replace(
        real,
        mode="act",
        confirm_s=clocks.confirm_s,
        hold_s=clocks.hold_s,
        recovery_steps=STEPS,
        recovery_step_s=clocks.recovery_step_s,
    )


def obstacle(name: Name, policy: Policy) -> str:
    """Why there can be no such drill under this policy; empty: there can."""
    metric = EXERCISES[name].metric
    if not _sources(policy):
        return "no route recommends anything by a source"
    if metric and not any(_fires(it, metric) for it in policy.rollback.triggers):
        return f"[rollback] has no P1 trigger for {metric}"
    return ""


def faults_of(name: Name, policy: Policy) -> tuple[Fault, ...]:
    """What a drill does to its requests. Where cf alone breaks, stage 2 heals."""
    metric = EXERCISES[name].metric
    sources = _sources(policy)
    first = sources[:1]
    if metric == "coverage":
        return tuple(Fault(source=it, effect="empty") for it in sources)
    if metric == "latency":
        targets = [it.target_ms or 0.0 for it in policy.rollback.triggers if _fires(it, metric)]
        return tuple(Fault(source=it, effect="delay", delay_ms=SLOWER * max(targets)) for it in first)
    return () if metric is None else tuple(Fault(source=it, effect="error") for it in first)


def _fires(it: Trigger | Verdict, metric: Metric) -> bool:
    return it.metric == metric and it.priority == "P1"


def _sources(policy: Policy) -> tuple[Literal["cf", "content"], ...]:
    routes = [route for route in policy.routes if route.kind == "recommend"]
    kinds: tuple[Literal["cf", "content"], ...] = ("cf", "content")
    return tuple(kind for kind in kinds if any(getattr(route.sources, kind) for route in routes))


_JUDGED_AS: Mapping[Side, Side] = {
    "drill": "exposed",
    "drill_control": "control",
    "drill_staged": "staged",
    "drill_recovered": "recovered",
    "drill_decided": "decided",
}


def own(delta: Delta) -> Delta:
    """What the drill's requests came to, as if there were no others."""
    cells = {
        key._replace(side=_JUDGED_AS[key.side]): counts
        for key, counts in delta.cells.items()
        if key.side in _JUDGED_AS
    }
    return Delta(targets=delta.targets, cells=cells)


class Run:
    """One drill under way. `feed` as signals come, `step` a few times a second; `drill` is for the policy."""

    def __init__(self, name: Name, policy: Policy, clocks: Clocks, *, drill_id: str, now: float) -> None:
        self.name = name
        self.id = drill_id
        self.clocks = clocks
        self.ends_at = now + clocks.limit_s
        self.exercise = EXERCISES[name]
        self.requests = 0
        self.moves: list[Transition] = []
        self.broken_at: float | None = None  # when the fault, or the first order, took effect
        self.lifted_at: float | None = None  # when it was over, or released
        self.ended_at: float | None = None
        self.over: Over = ""
        self.why = ""
        settings = settings_of(policy.rollback, clocks)
        self._engine = Engine(settings, now, judge=Judge(settings, now))
        self._faults = faults_of(name, policy)
        self._since: float | None = None  # when its first request was counted
        self._orders = list(_ORDERS) if self.exercise.metric is None else []
        self._ordered_at = 0.0
        self._settle_s = min(World().settle_s, clocks.recovery_step_s)

    @property
    def state(self) -> State:
        return self._engine.state

    @property
    def stage(self) -> str:
        return self._engine.stage

    @property
    def broken(self) -> bool:
        """The fault is there now."""
        return self.broken_at is not None and self.lifted_at is None and not self.over

    @property
    def drill(self) -> Drill | None:
        """As the policy has it; None: it is over."""
        if self.over:
            return None
        return Drill(
            id=self.id,
            ends_at=self.ends_at,
            faults=self._faults if self.broken else (),
            layers=self._engine.layers,
        )

    def feed(self, delta: Delta, now: float) -> None:
        mine = own(delta)
        count = sum(counts[REQUESTS] for counts in mine.cells.values())
        if count and self._since is None:
            self._since = now
        self.requests += count
        self._engine.feed(mine, now)

    def step(self, now: float) -> tuple[Transition, ...]:
        """What has happened since; the engine's moves."""
        if self.over:
            return ()
        if now >= self.ends_at:
            waited = "its requests" if self._since is None else f"the end of {self.state}"
            self.end("out_of_time", f"{self.clocks.limit_s:g} s were not enough: it waited for {waited}", now)
            return ()
        if self.broken_at is None and self._since is not None and now - self._since >= self.clocks.lead_s:
            self.broken_at = self._ordered_at = now
        moves = (*self._order(now), *self._engine.step(now, World(settle_s=self._settle_s)))
        self.moves += moves
        if moves and self.broken_at is None and self.state not in {"NORMAL", "DEGRADED"}:
            why = f"its requests were in trouble before anything was done to them: {moves[-1].reason}"
            self.end("aborted", why, now)
            return moves
        if self.broken and self._may_lift():
            self.lifted_at = now
        if self.lifted_at is not None and self.state == "NORMAL":
            self.end("finished", "", now)
        return moves

    def _order(self, now: float) -> tuple[Transition, ...]:
        """By hand: one stage after the other, and the release."""
        if self.exercise.metric is not None or not self.broken or now < self._ordered_at:
            return ()
        self._ordered_at = now + self.clocks.hold_s
        if self._orders:
            stage = self._orders.pop(0)
            return self._engine.start(now, BY, f"drill: stage {stage}", stage=stage)
        self.lifted_at = now
        return self._engine.release(now, BY, "drill: released")

    def _may_lift(self) -> bool:
        """Rolled back, and if that is what the drill is about, in vain once."""
        if self.exercise.metric is None:
            return False
        if self.exercise.relapses:
            return any(it.event == "relapsed" for it in self.moves)
        return self.state == "ROLLED_BACK"

    def end(self, how: Over, why: str, now: float) -> None:
        """It is over, once."""
        if not self.over:
            self.over, self.why, self.ended_at = how, why, now

    # -- what came of it

    @property
    def path(self) -> tuple[State, ...]:
        """The states it went through. What is ordered by hand may find it degraded, by whatever is true."""
        states: list[State] = ["NORMAL"]
        for move in self.moves:
            passing = move.to == "DEGRADED" and move.to not in self.exercise.path
            if move.to != states[-1] and not passing:
                states.append(move.to)
        return tuple(states)

    def criteria(self, real: RollbackSettings) -> tuple[Criterion, ...]:
        """What the engine has to have done; `real`: the settings in force."""
        found = [] if self.exercise.metric is None else [self._fired(self.exercise.metric)]
        found += [self._took(), self._recovered(real)]
        if self.exercise.relapses:
            found.append(self._held_longer())
        ended = {"finished": "by itself", "": "still running"}.get(self.over, self.why)
        found.append(_criterion("ended", self.over == "finished", ended, "by itself"))
        return tuple(found)

    def _fired(self, metric: Metric) -> Criterion:
        """Counted from the fault to the rollback, and not only to the trigger."""
        wanted = f"within {WITHIN_S:g} s"
        breached = next((it for it in self.moves if it.event == "breached"), None)
        names = [it.trigger for it in breached.causes if _fires(it, metric)] if breached else []
        back = next((it.at for it in self.moves if it.to == "ROLLED_BACK"), None)
        if self.broken_at is None or breached is None or back is None or not names:
            return _criterion("trigger", False, f"no P1 trigger for {metric} has rolled it back", wanted)
        after, until = breached.at - self.broken_at, back - self.broken_at
        seen = f"{names[0]} after {after:.1f} s, rolled back after {until:.1f} s"
        return _criterion("trigger", 0 <= until <= WITHIN_S, seen, wanted)

    def _took(self) -> Criterion:
        seen, wanted = (" → ".join(path) for path in (self.path, self.exercise.path))
        return _criterion("transitions", self.path == self.exercise.path, seen, wanted)

    def _recovered(self, real: RollbackSettings) -> Criterion:
        """Also by the clocks in force, which nobody has the patience to try."""
        least = len(real.recovery_steps) * real.recovery_step_s
        wanted = f"within {RECOVERED_S:g} s of green"
        last = self.moves[-1] if self.moves else None
        if self.lifted_at is None or last is None or last.to != "NORMAL":
            return _criterion("recovery", False, f"it ended in {self.state}", wanted)
        took = last.at - self.lifted_at
        seen = f"NORMAL after {took:.1f} s; by the clocks in force {least:g} s of steps"
        return _criterion("recovery", max(took, least) <= RECOVERED_S, seen, wanted)

    def _held_longer(self) -> Criterion:
        holds = []
        since: float | None = None
        for move in self.moves:
            if move.to == "ROLLED_BACK" and since is None:
                since = move.at
            elif move.to == "RECOVERY_VERIFY" and since is not None:
                holds.append(move.at - since)
                since = None
        seen = ", then ".join(f"{it:.1f} s" for it in holds)
        return _criterion("hold", len(holds) > 1 and holds[1] > holds[0], seen or "never", "longer again")


def _criterion(name: str, holds: bool, seen: str, wanted: str) -> Criterion:  # noqa: FBT001 - the finding
    return Criterion(mode="rollback", name=name, holds=holds, seen=seen, wanted=wanted)
