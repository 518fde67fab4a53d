"""The rollback read: where it stands, why, and what comes next."""

from dataclasses import fields

from proxy.clock import Clock, monotonic, rfc3339, wall
from proxy.control.layering import Layering
from proxy.control.rollback import RollbackControl
from proxy.control.rollback_shown import (
    CriticalStatus,
    MoveStatus,
    PatchStatus,
    RollbackBrief,
    RollbackStatus,
    ShareStatus,
    TriggersStatus,
    VerdictStatus,
)
from proxy.control.rollback_words import segment_words, wrong
from proxy.core.flaps import BUCKETS
from proxy.core.rollback.engine import Engine

_RELEASE = "`fusebox rollback release --reason …`"


class RollbackBoard:
    """Reads on request; changes nothing. `layering` has the operator's policy."""

    def __init__(
        self,
        control: RollbackControl,
        layering: Layering,
        *,
        monotonic: Clock = monotonic,
        wall: Clock = wall,
    ) -> None:
        self._control = control
        self._layering = layering
        self._monotonic = monotonic
        self._wall = wall

    def brief(self) -> RollbackBrief | None:
        """None: it is off."""
        engine, now = self._control.engine, self._monotonic()
        if engine.settings.mode == "off":
            return None
        last = self._control.moves[0] if self._control.moves else None
        began = self._began()
        killed = self._layering.policy.toggles.kill_switch
        next_at = None if killed else engine.next_at
        return RollbackBrief(
            mode=engine.settings.mode,
            state=engine.state,
            since=self._label(engine.since),
            for_s=round(now - engine.since, 3),
            stage=engine.stage,
            applied=engine.applied,
            layers=tuple(map(PatchStatus.of, engine.layers)),
            by=last.by if last else "",
            reason=last.reason if last else "",
            began=began.at if began else "",
            cause=began.reason if began else "",
            wrong=wrong(engine.judgements.values()),
            next=_KILLED if killed else _next(engine),
            next_in_s=None if next_at is None else round(max(0.0, next_at - now), 3),
            persisted=self._control.persisted,
        )

    def status(self) -> RollbackStatus | None:
        """None: it is off."""
        brief = self.brief()
        if brief is None:
            return None
        known = {it.name: getattr(brief, it.name) for it in fields(brief)}
        learning = self._control.engine.judge.learning
        return RollbackStatus(**known, learning=learning, moves=tuple(self._control.moves))

    def triggers(self) -> TriggersStatus | None:
        """None: it is off."""
        engine = self._control.engine
        if engine.settings.mode == "off":
            return None
        criticals = {it: None for view in engine.judgements.values() for it in view.criticals}
        return TriggersStatus(
            mode=engine.settings.mode,
            state=engine.state,
            verdicts=tuple(
                VerdictStatus.of(side, it, None if it.since is None else self._label(it.since))
                for side, view in engine.judgements.items()
                for it in view.verdicts
            ),
            criticals=tuple(map(CriticalStatus.of, criticals)),
            shares=tuple(map(ShareStatus.of, engine.judge.shares(self._monotonic()))),
            blamed=segment_words(engine.judgement.blamed),
            learning=engine.judge.learning,
        )

    def _began(self) -> MoveStatus | None:
        """The transition that all of this began with."""
        for it in self._control.moves:
            if "NORMAL" in (it.to, it.before):
                return it if it.before == "NORMAL" else None
        return None

    def _label(self, at: float) -> str:
        """A moment of the monotonic clock on the wall."""
        return rfc3339(self._wall() - (self._monotonic() - at))


_KILLED = "it stands still while the kill switch is thrown"


def _next(engine: Engine) -> str:
    """What comes, in words."""
    bucket = min((it.low for it in engine.layers), default=0)  # those below are let out
    low, step = (it * 100 / BUCKETS for it in (bucket, engine.next_low))
    waits = ", and more requests are needed to call that green" if engine.next_at is None else ""
    told = {
        "NORMAL": "nothing is wrong; a breach leads to DEGRADED",
        "DEGRADED": "back to NORMAL after long enough without a breach; P1 leads to ROLLBACK_PENDING",
        "ROLLBACK_PENDING": "rolled back, unless what comes until then shows that the breach has passed",
        "ROLLED_BACK": f"then users are let out again, {step:g} % first; the next stage while P1 goes on",
        "RECOVERY_VERIFY": (
            (
                f"{low:g} % of the users are let out{waits}; then {step:g} %"
                if low < 100
                else f"all users are let out{waits}; then NORMAL"
            )
            + ", or back to ROLLED_BACK with a P1 breach"
        ),
        "MANUAL_OVERRIDE": f"a person holds it; {_RELEASE} ends it",
    }
    if engine.flapping:
        return f"rolled back so often that it stays so until somebody has looked: {_RELEASE}"
    if engine.pinned and engine.state == "ROLLED_BACK":
        return f"a person has ordered it; {_RELEASE} ends it"
    return told[engine.state]
