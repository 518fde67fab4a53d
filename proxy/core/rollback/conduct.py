"""What the guards of the machine look at and what its actions do: functions of the course and the moment."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.course import Course
from proxy.core.rollback.headroom import CHOKES_S, DWELL_S, Load, grown, less, share
from proxy.core.rollback.machine import Action, Guard
from proxy.core.rollback.recovery import (
    LONG_PATIENCE,
    PATIENCE,
    dwell_s,
    hold_s,
    next_low,
    quiet_enough,
)
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import Side
from proxy.core.rollback.stages import (
    ALL_SCOPE,
    RECEIVES,
    Part,
    Parts,
    Stage,
    covered,
    put,
    raised,
    stage_of,
)
from proxy.core.rollback.verdicts import ALL, Critical, Judgement, Verdict
from proxy.core.toggles import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the machine is told beside the signals, as it is at the moment of a step."""

    criticals: tuple[Critical, ...] = ()
    loads: Mapping[str, Load] = field(default_factory=dict)
    """Of the upstreams that stage 2 sends traffic to, by name: the content sources of recommend routes."""
    killed: bool = False  # by hand
    exposure: float = 100.0  # percent of the users, as operators say: a recovery lets out parts of these
    settle_s: float = 1.0
    """The longest that a request can be under way. What began under the layers before ends by then, and is
    not held against those that lie there now.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is known when guards are asked, and what a person has ordered."""

    now: float
    settings: RollbackSettings
    world: World
    views: Mapping[Side, Judgement] = field(default_factory=dict)
    settled: bool = True  # what was under way when the layers changed has ended
    over: bool = False  # what led to ROLLBACK_PENDING has passed …
    passing: bool = False  # … or seems to
    demand: Callable[[Scope], float] = lambda _: 0.0
    stage: Stage = "2"
    scope: Scope = ALL_SCOPE
    baseline: str = ""


def watched(course: Course, settings: RollbackSettings) -> bool:
    """Only told what would be done: all traffic stays as operators say, and is judged so."""
    return settings.mode == "watch" and not course.ordered


def sides(course: Course, settings: RollbackSettings) -> tuple[Side, ...]:
    """Which are judged, the one that it is about first."""
    if course.state == "NORMAL" or watched(course, settings):
        return ("exposed",)
    about: Side = "recovered" if course.state == "RECOVERY_VERIFY" else "staged"
    return (about,) if course.everybody else (about, "exposed")


def about(course: Course, moment: Moment) -> Judgement:
    """Of the side that the state is about."""
    return moment.views.get(sides(course, moment.settings)[0], Judgement())


def breaching(judgement: Judgement) -> tuple[Verdict, ...]:
    """All that say breach, whoever else has it."""
    return tuple(it for it in judgement.verdicts if it.answer == "breach")


def blamed(judgement: Judgement) -> Scope:
    """Whom to take back: the segment that explains the P1 breaches, if toggles can name it."""
    if not judgement.breaches("P1"):
        return ALL_SCOPE
    return judgement.blamed.scope or ALL_SCOPE


def _grave(judgement: Judgement) -> Scope | None:
    """Where P1 breaches are; None: there are none."""
    return blamed(judgement) if judgement.breaches("P1") else None


def _any(judgement: Judgement) -> Scope | None:
    """The same of all breaches."""
    found = judgement.breaches("P1") or judgement.breaches("P2")
    return (judgement.warned.scope or ALL_SCOPE) if found else None


def _worst(course: Course, moment: Moment, of: Callable[[Judgement], Scope | None] = _grave) -> Scope:
    """The same over all sides that are judged; more than one: all of it. All that is under the only stage
    that lies there is whom that is for.
    """
    scopes = set()
    for side, view in moment.views.items():
        if (scope := of(view)) is not None:
            under = side != "exposed" and len(course.parts) == 1 and scope == ALL_SCOPE
            scopes.add(course.parts[0].scope if under else scope)
    return scopes.pop() if len(scopes) == 1 else ALL_SCOPE


def _roll_back(course: Course, moment: Moment) -> Course:
    """Stage 2 for whom it is by now seen to be about: a moment before it was hardly known that it is wrong.
    Stage 1 stays where something else is.
    """
    target, parts = course.target, course.parts
    if any(view.breaches("P1") for view in moment.views.values()):
        target = _worst(course, moment)
        parts = put((), _worst(course, moment, _any), "1")
    return _sent(course, moment, put(parts, target, "2"), target)


def _present(moment: Moment) -> frozenset[tuple[str, str]]:
    return frozenset((it.kind, it.name) for it in moment.world.criticals)


def _outside(course: Course, moment: Moment) -> bool:
    view = moment.views.get("exposed")
    return (
        view is not None
        and moment.settled
        and not watched(course, moment.settings)
        and bool(view.breaches("P1"))
        and not covered(course.parts, blamed(view))
    )


def _goes_on(course: Course, moment: Moment) -> bool:
    view = moment.views.get("staged")
    return (
        view is not None
        and moment.settled
        and bool(view.breaches("P1"))
        and moment.now - course.clock >= moment.settings.escalate_s
        and raised(course.parts, blamed(view)) != course.parts
    )


def _hold_over(course: Course, moment: Moment) -> bool:
    if moment.now - course.clock < hold_s(course, moment.settings):
        return False
    view = moment.views.get("staged")
    waits = view is not None and moment.settings.mode == "act" and bool(view.breaches("P1"))
    return not waits or raised(course.parts, blamed(view or Judgement())) == course.parts


def _green(course: Course, moment: Moment) -> bool:
    wanted = dwell_s(course, moment.now, moment.settings)
    if course.green_since is not None and moment.now - course.green_since >= wanted:
        return True
    quiet = course.quiet_since
    return quiet is not None and quiet_enough(course, moment.now - quiet, wanted, moment.settings)


def _step_over(course: Course, moment: Moment) -> bool:
    settings, waited = moment.settings, moment.now - course.clock
    view = about(course, moment)
    if view.breaches("P1") or waited < settings.recovery_step_s:
        return False
    overall = [it for it in view.verdicts if it.segment == ALL and it.priority == "P1"]
    sound = all((it.observed or 0.0) <= it.threshold for it in overall if not it.shared)
    if course.low < BUCKETS and waited >= settings.recovery_step_s * LONG_PATIENCE and sound:
        return True
    if moment.world.criticals:
        return False
    quiet = quiet_enough(course, waited, settings.recovery_step_s, settings)
    if course.low < BUCKETS:
        return view.green or quiet
    if view.green and all(it.answer == "ok" for it in overall if it.trigger in course.culprits):
        return True
    return quiet and sound


def _shared(_: Course, moment: Moment) -> bool:
    grave = [it for view in moment.views.values() for it in breaching(view) if it.priority == "P1"]
    return bool(grave) and all(it.shared for it in grave)


def _confirmation_over(course: Course, moment: Moment) -> bool:
    waited, wanted = moment.now - course.clock, moment.settings.confirm_s
    return waited >= wanted and (not moment.passing or waited >= wanted * PATIENCE)


def _relapse(course: Course, moment: Moment) -> bool:
    # A breaker closes by the requests it is asked for: without any it proves nothing that it has not.
    waited, wanted = moment.now - course.clock, moment.settings.recovery_step_s
    stays = bool(moment.world.criticals) and quiet_enough(course, waited, wanted, moment.settings)
    acting = moment.settings.mode == "act"
    return stays or bool(about(course, moment).breaches("P1")) or (acting and _outside(course, moment))


def _too_much(course: Course, moment: Moment) -> bool:
    view = moment.views.get("staged")
    return (
        view is not None
        and bool(view.breaches("P1"))
        and not course.full
        and course.clock < course.grown
        and moment.now - course.grown <= CHOKES_S
    )


def _room(course: Course, moment: Moment) -> bool:
    return (
        course.share < 1
        and not course.full
        and any(part.stage == RECEIVES for part in course.parts)
        and moment.now - course.grown >= DWELL_S
        and not watched(course, moment.settings)
        and not breaching(about(course, moment))
    )


def _closes(course: Course, moment: Moment) -> bool:
    if course.state != "ROLLED_BACK" or watched(course, moment.settings):
        return True
    held = stage_of(course.parts, moment.scope)
    return (
        held is None or stage_of(put(course.parts, moment.scope, moment.stage), moment.scope) == moment.stage
    )


GUARDS: Mapping[Guard, Callable[[Course, Moment], bool]] = {
    "acting": lambda _, moment: moment.settings.mode == "act",
    "critical": lambda course, moment: bool(_present(moment) - course.known),
    "breach": lambda _, moment: any(view.breaches("P1") for view in moment.views.values()),
    "outside": _outside,
    "goes_on": _goes_on,
    "over": lambda _, moment: moment.over,
    "shared": _shared,
    "confirmation_over": _confirmation_over,
    "warning": lambda _, moment: any(_warns(view) for view in moment.views.values()),
    "green": _green,
    "hold_over": _hold_over,
    "by_itself": lambda course, _: not course.pinned,
    "not_flapping": lambda course, moment: watched(course, moment.settings) or not course.locked,
    "step_over": _step_over,
    "steps_left": lambda course, _: course.low < BUCKETS,
    "last_step": lambda course, _: course.low >= BUCKETS,
    "relapse": _relapse,
    "too_much": _too_much,
    "room": _room,
    "alive": lambda _, moment: not moment.world.killed,
    "closes": _closes,
}


def _warns(judgement: Judgement) -> bool:
    """P1 even where control shares it."""
    return any(it.priority == "P1" for it in breaching(judgement)) or bool(judgement.breaches("P2"))


def noticed(course: Course, moment: Moment, requests: int) -> Course:
    """As time has passed: how long it has been green, how many requests said so, which criticals are over."""
    now, views = moment.now, moment.views.values()
    green = bool(views) and all(view.green for view in views)
    quiet = not moment.world.criticals and not any(map(breaching, views))
    # Recovery is from what P1 says: P2 is for DEGRADED, where it goes on from NORMAL.
    counts = quiet if course.state != "RECOVERY_VERIFY" else not about(course, moment).breaches("P1")
    known = course.known & _present(moment)
    if course.state == "ROLLED_BACK" and (ALL_SCOPE, "emergency") in course.parts:
        known = _present(moment)
    return replace(
        course,
        green_since=(now if course.green_since is None else course.green_since) if green else None,
        quiet_since=(now if course.quiet_since is None else course.quiet_since) if quiet else None,
        requests=course.requests + requests if counts else 0,
        known=known,
    )


def _sent(course: Course, moment: Moment, parts: Parts, scope: Scope) -> Course:
    """With these parts, of which that scope is new; what is sent on by them is sent within the headroom."""
    if stage_of(parts, scope) != RECEIVES:
        return replace(course, parts=parts)
    fits = share(moment.world.loads, moment.demand(scope))
    sent = any(part.stage == RECEIVES for part in course.parts)
    return replace(course, parts=parts, share=min(course.share, fits) if sent else fits, grown=moment.now)


def _raise(course: Course, moment: Moment) -> Course:
    """What comes from stage 1 to 2 is sent on as well."""
    parts = raised(course.parts, blamed(moment.views["staged"]))
    found = replace(course, parts=parts)
    for part in parts:
        if part.stage == RECEIVES and part not in course.parts:
            found = _sent(replace(found, parts=course.parts), moment, parts, part.scope)
    return found


def _culprits(moment: Moment) -> frozenset[str]:
    return frozenset(it.trigger for view in moment.views.values() for it in view.breaches("P1"))


def _lay_ordered(course: Course, moment: Moment) -> Course:
    lies = () if course.baseline or watched(course, moment.settings) else course.parts
    parts = put(lies, moment.scope, moment.stage)
    laid = _sent(course, moment, parts, moment.scope)
    return replace(laid, baseline="", low=0, ordered=True, pinned=True)


def _lay_back(course: Course, _: Moment) -> Course:
    if course.baseline:
        return replace(course, low=0, baseline="", parts=(Part(ALL_SCOPE, "2"),))
    return replace(course, low=0)


def _lift(course: Course, moment: Moment) -> Course:
    now = moment.now
    return Course(since=now, clock=now, rollbacks=course.rollbacks, warnings=course.warnings)


def _count_flap(course: Course, moment: Moment) -> Course:
    rollbacks = _lately(course.rollbacks, moment)
    return replace(course, rollbacks=rollbacks, locked=len(rollbacks) >= moment.settings.flaps)


def _lately(times: tuple[float, ...], moment: Moment) -> tuple[float, ...]:
    oldest = moment.now - moment.settings.flaps_s
    return (*(at for at in times if at > oldest), moment.now)


ACTIONS: Mapping[Action, Callable[[Course, Moment], Course]] = {
    "lay_stage_1": lambda course, moment: replace(
        course,
        parts=put(course.parts, _worst(course, moment, _any), "1"),
        warnings=_lately(course.warnings, moment),
    ),
    "watch_closely": lambda course, moment: replace(
        course, target=_worst(course, moment), culprits=_culprits(moment)
    ),
    "count_flap": _count_flap,
    "lay_stage_2": _roll_back,
    "lay_emergency": lambda course, moment: replace(
        course, parts=(Part(ALL_SCOPE, "emergency"),), baseline="", low=0, known=_present(moment)
    ),
    "raise_stage": _raise,
    "widen": lambda course, moment: _sent(
        course,
        moment,
        put(course.parts, blamed(moment.views["exposed"]), "2"),
        blamed(moment.views["exposed"]),
    ),
    "send_more": lambda course, moment: replace(course, share=grown(course.share), grown=moment.now),
    "send_less": lambda course, _: replace(course, share=less(course.share), full=True),
    "let_out": lambda course, moment: replace(
        course, low=next_low(course.low, moment.settings, moment.world.exposure), pinned=False
    ),
    "lay_back": _lay_back,
    "lengthen_hold": lambda course, _: replace(course, failed=course.failed + 1),
    "lay_ordered": _lay_ordered,
    "lay_baseline": lambda course, moment: replace(
        course, baseline=moment.baseline, parts=(), low=0, share=1.0, ordered=True, pinned=True
    ),
    "forget_flaps": lambda course, moment: replace(
        course, rollbacks=(), locked=False, failed=0, known=_present(moment)
    ),
    "lift": _lift,
}


def causes(course: Course, event: str, moment: Moment) -> Iterator[Verdict]:
    """The verdicts that an event is about, before it has led on."""
    views = moment.views
    if event == "warned":
        for view in views.values():
            yield from (it for it in breaching(view) if it.priority == "P1" or not it.shared)
    elif event in {"breached", "confirmed"}:
        for view in views.values():
            yield from view.breaches("P1")
    elif event == "relapsed":
        yield from about(course, moment).breaches("P1")
        if _outside(course, moment):
            yield from views["exposed"].breaches("P1")
    elif event == "widened":
        yield from views["exposed"].breaches("P1")
    elif event in {"worsened", "choked"}:
        yield from views["staged"].breaches("P1")
    elif event in {"cleared", "advanced", "verified"}:
        yield from about(course, moment).verdicts
