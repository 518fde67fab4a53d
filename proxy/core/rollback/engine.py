"""The engine: signals go in, layers come out. Judge, machine and course put together, at any clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from proxy.core.rollback.conduct import (
    ACTIONS,
    GUARDS,
    Moment,
    World,
    causes,
    noticed,
    sides,
    watched,
)
from proxy.core.rollback.course import Course, restored, saved
from proxy.core.rollback.headroom import Demand, Load
from proxy.core.rollback.judge import Judge, Share
from proxy.core.rollback.layers import Layers
from proxy.core.rollback.machine import STATES, Event, Guard, IllegalMove, State, move, possible
from proxy.core.rollback.recovery import dwell_s, hold_s, next_look, next_low
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import REQUESTS, Delta, Side
from proxy.core.rollback.stages import ALL_SCOPE, Stage
from proxy.core.rollback.verdicts import ALL, Critical, Judgement, Segment, Verdict, segment_of
from proxy.core.rollback.words import reason_of
from proxy.core.toggles import BASELINES, Scope

__all__ = ("ITSELF", "Engine", "IllegalMove", "Load", "State", "Transition", "World")

ITSELF = "fusebox"
"""Who it was that moved by itself."""

_JUDGED: tuple[Side, ...] = ("exposed", "staged", "recovered")
_ANEW: tuple[State, ...] = ("ROLLED_BACK", "MANUAL_OVERRIDE")
"""Where all evidence begins anew: it was about other layers. And once more, when what was under way has
ended.
"""


class Judging(Protocol):
    """What the engine needs of a judge."""

    learning: bool

    def feed(self, delta: Delta, now: float) -> None: ...
    def judge(self, now: float, side: Side = "exposed", criticals: Sequence[Critical] = ()) -> Judgement: ...
    def restart(self, side: Side, now: float) -> None: ...
    def carry(self, side: Side, to: Side, now: float, segment: Segment = ALL) -> None: ...
    def pending(self, now: float) -> None: ...
    @property
    def passing(self) -> bool: ...
    def passed(self, now: float) -> bool: ...
    def shares(self, now: float) -> tuple[Share, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One move, with all that led to it."""

    before: State
    to: State
    event: Event
    at: float  # monotonic
    by: str
    reason: str
    causes: tuple[Verdict, ...] = ()  # what triggers said
    criticals: tuple[Critical, ...] = ()
    was: Layers = ()  # what lay over the operator's toggles
    layers: Layers = ()  # … and lies there now
    stage: str = ""  # the highest that lies there now, or the baseline; empty: none


class Engine:
    """`feed` as signals come, `step` a few times a second; by hand `start`, `override` and `release`.

    `layers` are what lies over the operator's toggles, if `applied`: in `watch` they only say what would.
    """

    def __init__(
        self,
        settings: RollbackSettings,
        now: float,
        saved: Mapping[str, Any] | None = None,
        *,
        judge: Judging | None = None,
    ) -> None:
        """ValueError says what in `saved` makes no sense. Time in which nothing ran can be taken in by a
        `now` that is so much earlier than the first step's. It goes on in the `mode` that it was saved in,
        until `reconfigure` says otherwise.
        """
        self.settings = settings
        self.judge: Judging = Judge(settings, now) if judge is None else judge
        self.judgements: Mapping[Side, Judgement] = {}
        """Of each side that is judged."""
        self._course = Course(since=now, clock=now)
        if saved is not None:
            self._course = restored(saved, now)
            if (mode := saved.get("mode")) not in ("act", "watch", "off"):
                raise ValueError(f"mode cannot be {str(mode)[:40]!r}")
            self.settings = replace(settings, mode=mode)
        self._world = World()
        self._demand = Demand()
        self._requests: dict[Side, int] = {}
        self._stepped = now
        self._killed = False
        self._awaits = False  # the judge has been told since when a breach may have passed
        self._forgotten = False  # … and what it had found went with a kill
        self._settling: float | None = None  # until then what was under way still ends
        self.judge.learning = self._course.state == "NORMAL"

    @property
    def state(self) -> State:
        return self._course.state

    @property
    def since(self) -> float:
        """When the state began."""
        return self._course.since

    @property
    def stage(self) -> str:
        """The highest that lies over the toggles, or the baseline of an override; empty: none."""
        return self._course.stage

    @property
    def layers(self) -> Layers:
        return self._course.layers

    @property
    def applied(self) -> bool:
        """Whether `layers` are to be put in force: in `watch` only what a person has ordered."""
        return not watched(self._course, self.settings)

    @property
    def judgement(self) -> Judgement:
        """Of the side that the state is about."""
        return self.judgements.get(self._about(self._course), Judgement())

    @property
    def flapping(self) -> bool:
        """It stays rolled back until somebody releases it."""
        return self._course.locked and self.applied

    @property
    def pinned(self) -> bool:
        """A person has ordered what lies there, and it stays until somebody releases it."""
        return self._course.pinned

    @property
    def next_low(self) -> int:
        """The bucket that the next step of a recovery lets out up to."""
        return next_low(self._course.low, self.settings, self._world.exposure)

    @property
    def next_at(self) -> float | None:
        """When the next move comes, if nothing new is seen until then; None: it waits for no time."""
        course, settings = self._course, self.settings
        if self.state == "ROLLBACK_PENDING":
            return course.clock + settings.confirm_s
        if self.state == "ROLLED_BACK" and not course.pinned and not self.flapping:
            return course.clock + hold_s(course, settings)
        if self.state == "RECOVERY_VERIFY":
            return next_look(course, self._stepped, settings)
        if self.state == "DEGRADED" and course.green_since is not None:
            return course.green_since + dwell_s(course, self._stepped, settings)
        return None

    def feed(self, delta: Delta, now: float) -> None:
        """What was counted since the delta before."""
        self.judge.feed(delta, now)
        self._demand.add(delta, now)
        for key, counts in delta.cells.items():
            self._requests[key.side] = self._requests.get(key.side, 0) + counts[REQUESTS]

    def step(self, now: float, world: World) -> tuple[Transition, ...]:
        """Judge, and move as far as it leads. While killed by hand nobody is asked, so nothing is judged,
        nothing moves and no clock runs.
        """
        passed, self._stepped, self._world = now - self._stepped, now, world
        requests, self._requests = self._requests, {}
        if self.settings.mode == "off":
            return ()
        if world.killed:
            self._killed, self.judge.learning = True, False
            self._course = self._course.later(passed)
            return ()
        if self._killed:
            self._killed = False
            self.judge.learning = self.state == "NORMAL"
            self._forgotten = self._awaits
            self._anew(now)
            self._settling = now + world.settle_s
        elif self._settling is not None and now >= self._settling:
            self._anew(now)
            self._settling = None
        judged = sides(self._course, self.settings)
        self.judgements = {it: self.judge.judge(now, it, world.criticals) for it in judged}
        moment = self._moment(now)
        self._course = noticed(self._course, moment, requests.get(judged[0], 0))
        moves: list[Transition] = []
        while len(moves) < len(STATES) and (event := possible(self.state, self._holds(moment))):
            moves.append(self._moved(event, moment))
            moment = self._moment(now)
        return tuple(moves)

    def start(
        self,
        now: float,
        by: str,
        reason: str,
        stage: Stage = "2",
        scope: Scope = ALL_SCOPE,
        *,
        dry_run: bool = False,
    ) -> tuple[Transition, ...]:
        """Roll back, until somebody releases it. `dry_run` changes nothing."""
        return self._by_hand("started", self._moment(now, stage=stage, scope=scope), by, reason, dry_run)

    def override(
        self, now: float, by: str, reason: str, baseline: str, *, dry_run: bool = False
    ) -> tuple[Transition, ...]:
        """Hold that baseline, as it stands, until somebody releases it."""
        if baseline not in BASELINES:
            raise IllegalMove(f"there is no baseline {baseline!r}; there are: {', '.join(BASELINES)}")
        return self._by_hand("overridden", self._moment(now, baseline=baseline), by, reason, dry_run)

    def release(self, now: float, by: str, reason: str, *, dry_run: bool = False) -> tuple[Transition, ...]:
        """Begin to recover from what lies over the toggles."""
        return self._by_hand("released", self._moment(now), by, reason, dry_run)

    def reconfigure(
        self, settings: RollbackSettings, now: float, judge: Judging | None = None
    ) -> tuple[Transition, ...]:
        """Go on under new settings in the same state, with a new judge where triggers have changed. Another
        `mode` takes off what the machine has laid by itself, or would have.
        """
        before, self.settings = self.settings, settings
        if judge is not None:
            self.judge = judge
            self.judge.learning = self.state == "NORMAL"
            self._awaits = False  # it has not found what is being confirmed, so it cannot say that it passed
        stays = settings.mode == before.mode or (self._course.ordered and settings.mode != "off")
        if stays or self.state == "NORMAL":
            return ()
        return (self._moved("switched", self._moment(now), reason=f'[rollback] mode is "{settings.mode}"'),)

    def saved(self, now: float) -> dict[str, Any]:
        """What a start can go on from, for JSON: every moment as how many seconds ago it was."""
        return saved(self._course, now) | {"mode": self.settings.mode}

    def _moment(self, now: float, **ordered: Any) -> Moment:
        return Moment(
            now=now,
            settings=self.settings,
            world=self._world,
            views=self.judgements,
            settled=self._settling is None,
            over=self._awaits and self.judge.passed(now),
            passing=self._awaits and self.judge.passing,
            demand=self._demand.per_s,
            **ordered,
        )

    def _holds(self, moment: Moment) -> Any:
        def holds(guard: Guard) -> bool:
            return GUARDS[guard](self._course, moment)

        return holds

    def _by_hand(
        self,
        event: Event,
        moment: Moment,
        by: str,
        reason: str,
        dry_run: bool,  # noqa: FBT001 - of three public methods
    ) -> tuple[Transition, ...]:
        if self.settings.mode == "off":
            raise IllegalMove('[rollback] mode is "off": nothing is judged, so nothing could recover')
        before = self._course
        found = self._moved(event, moment, by=by, reason=reason, trial=dry_run)
        if dry_run:
            self._course = before
        return (found,)

    def _moved(
        self, event: Event, moment: Moment, by: str = ITSELF, reason: str = "", *, trial: bool = False
    ) -> Transition:
        """Make the move; IllegalMove changes nothing."""
        before, now = self._course, moment.now
        found = move(before.state, event, self._holds(moment))
        why = tuple(causes(before, event, moment))
        criticals = moment.world.criticals if event in {"critical_failed", "relapsed"} else ()
        if not reason:
            reason = reason_of(event, before, why, criticals, moment)
            if event == "passed" and self._forgotten:
                reason = "killed in the meantime: what led here has to show again"
        course = before
        for action in found.actions:
            course = ACTIONS[action](course, moment)
        if event not in {"absorbed", "choked"}:
            course = replace(course, clock=now, requests=0, green_since=None, quiet_since=None)
        since = course.since if found.to == before.state else now
        self._course = replace(
            course, state=found.to, since=since, why=reason if event == "breached" else course.why
        )
        if not trial and event != "absorbed":
            self._begin(before, event, now)
        return Transition(
            before=before.state,
            to=found.to,
            event=event,
            at=now,
            by=by,
            reason=reason,
            causes=why,
            criticals=criticals,
            was=before.layers,
            layers=self._course.layers,
            stage=self._course.stage,
        )

    def _begin(self, before: Course, event: Event, now: float) -> None:
        """Evidence for what lies there now. Where the same traffic is only called otherwise, what is known of
        it goes along. What has led here goes on counting within this step, so that it can lead on; where it
        has ended, it has ended.
        """
        course = self._course
        was, to = self._about(before), self._about(course)
        self._awaits, self._forgotten = course.state == "ROLLBACK_PENDING", False
        self.judge.learning = course.state == "NORMAL"
        self._settling = None
        if course.state in _ANEW:
            self._anew(now)
            self._settling = now + self._world.settle_s
        elif course.state == "RECOVERY_VERIFY":
            self.judge.restart(to, now)
        elif was != to:
            lies = before if before.layers else course
            if lies.everybody:
                self.judge.carry(was, to, now)
            elif lies is course and (segment := segment_of(course.parts[0].scope)) is not None:
                self.judge.carry(was, to, now, segment)
        if course.state == "NORMAL":
            for side in ("staged", "recovered"):
                self.judge.restart(side, now)
        if self._awaits:
            self.judge.pending(now)
        if event not in {"warned", "breached", "relapsed", "confirmed"}:
            self.judgements = {side: Judgement() for side in self.judgements}

    def _about(self, course: Course) -> Side:
        return sides(course, self.settings)[0]

    def _anew(self, now: float) -> None:
        for side in _JUDGED:
            self.judge.restart(side, now)
