"""The machine that takes bad changes back: six states, one table of moves (facts 2.2).

`MOVES` owns every transition: in a state an event leads on if all its guards hold, and what is done then
has names. What the guards look at and what the actions do stands in `conduct`; here is when.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias, get_args

from proxy.errors import FuseboxError

State: TypeAlias = Literal[
    "NORMAL",
    "DEGRADED",
    "ROLLBACK_PENDING",
    "ROLLED_BACK",
    "RECOVERY_VERIFY",
    "MANUAL_OVERRIDE",
]
STATES: tuple[State, ...] = get_args(State)

Automatic: TypeAlias = Literal[
    "critical_failed",
    "passed",
    "excused",
    "breached",
    "relapsed",
    "widened",
    "choked",
    "worsened",
    "confirmed",
    "warned",
    "cleared",
    "held",
    "verified",
    "advanced",
    "absorbed",
]
"""What the machine notices by itself, most urgent first: of two that are possible the first happens."""
ByHand: TypeAlias = Literal["started", "overridden", "released", "switched"]
Event: TypeAlias = Automatic | ByHand
AUTOMATIC: tuple[Automatic, ...] = get_args(Automatic)
BY_HAND: tuple[ByHand, ...] = get_args(ByHand)
EVENTS: tuple[Event, ...] = (*AUTOMATIC, *BY_HAND)
_ORDERS: Mapping[ByHand, str] = {"started": "start", "overridden": "override", "released": "release"}
"""What a person says for it."""

Guard: TypeAlias = Literal[
    "acting",
    "critical",
    "breach",
    "outside",
    "goes_on",
    "over",
    "shared",
    "confirmation_over",
    "warning",
    "green",
    "hold_over",
    "by_itself",
    "not_flapping",
    "step_over",
    "steps_left",
    "last_step",
    "relapse",
    "too_much",
    "room",
    "alive",
    "closes",
]
GUARDS: Mapping[Guard, str] = {
    "acting": "`mode` is `act`",
    "critical": "something critical failed that nothing was done about yet",
    "breach": "a P1 trigger says breach, and the control arm does not have it as badly",
    "outside": "the same about traffic that no stage lies over, begun since the last stage was laid",
    "goes_on": "the same about traffic under a stage, `escalate_s` after it took effect, and a stage is left",
    "over": "what came since says that the breach has passed",
    "shared": "P1 triggers say breach, and of each the control arm has it as badly",
    "confirmation_over": "`confirm_s` have passed; or twice that, while what comes looks better",
    "warning": "a trigger says breach: P1, or P2 that the control arm does not have as badly",
    "green": "`degraded_green_s` of green, longer with each time within `flaps_s`; or twice that without a "
    "breach and with `minimum_requests`",
    "hold_over": "`hold_s` have passed since the last stage, longer with each recovery that failed, and no "
    "next stage is about to follow",
    "by_itself": "no person has ordered it",
    "not_flapping": "since it was last released there were never `flaps` rollbacks within `flaps_s`",
    "step_over": "`recovery_step_s` without a P1 breach and green at the end, or twice that and "
    "`minimum_requests`, and nothing critical; or four times that, unless a P1 share of the few that came is "
    "over its threshold; the last step only if the triggers that led to the rollback say ok as well, or if "
    "after twice that no P1 share is over its threshold",
    "steps_left": "not all buckets are let out",
    "last_step": "all buckets are let out",
    "relapse": "a P1 breach, or something critical that within two steps and `minimum_requests` has not "
    "mended",
    "too_much": "a P1 trigger says breach of traffic under a stage, within 30 s of sending more of it to the "
    "upstream that receives it",
    "room": "the upstream that receives the traffic takes what it was given, and there is more",
    "alive": "the kill switch is not thrown by hand",
    "closes": "it opens nothing that is closed: no lower stage than the one that lies there",
}
"""What each guard asks for."""

Action: TypeAlias = Literal[
    "lay_stage_1",
    "watch_closely",
    "count_flap",
    "lay_stage_2",
    "lay_emergency",
    "raise_stage",
    "widen",
    "send_more",
    "send_less",
    "let_out",
    "lay_back",
    "lengthen_hold",
    "lay_ordered",
    "lay_baseline",
    "forget_flaps",
    "lift",
]
ACTIONS: Mapping[Action, str] = {
    "lay_stage_1": "stage 1 for the segment that explains it, else for all",
    "watch_closely": "note what is wrong and where, and collect evidence that it is over",
    "count_flap": "one more rollback within `flaps_s`",
    "lay_stage_2": "stage 2 for the segment that by now explains it, within what the receiving upstream can "
    "take; stage 1 stays where something else is wrong",
    "lay_emergency": "the emergency stage for all",
    "raise_stage": "the next stage for the segment that explains it, else for all that lies under one",
    "widen": "stage 2 also for what is wrong outside",
    "send_more": "more of stage 2 goes to the receiving upstream, less of it gets level D",
    "send_less": "as much of stage 2 goes there as was taken before, and no more",
    "let_out": "the buckets below the next step are let out",
    "lay_back": "all buckets under what lay there before the recovery",
    "lengthen_hold": "the next hold is longer",
    "lay_ordered": "the stage and scope that a person has ordered, beside what lies there",
    "lay_baseline": "the baseline as it stands, for all, in place of stages",
    "forget_flaps": "a person has looked: rollbacks and holds are counted anew",
    "lift": "nothing lies over the operator's toggles any more",
}
"""What each action does."""


class Move(NamedTuple):
    """Where an event leads, under which conditions, and what is done."""

    to: State
    guards: tuple[Guard, ...] = ()
    actions: tuple[Action, ...] = ()


_STARTED = Move("ROLLED_BACK", ("closes",), ("lay_ordered",))
_OVERRIDDEN = Move("MANUAL_OVERRIDE", (), ("lay_baseline",))
_SWITCHED = Move("NORMAL", (), ("lift",))
_CRITICAL = Move("ROLLED_BACK", ("critical",), ("count_flap", "lay_emergency"))

MOVES: Mapping[tuple[State, Event], Move] = {
    ("NORMAL", "critical_failed"): _CRITICAL,
    ("NORMAL", "warned"): Move("DEGRADED", ("warning",), ("lay_stage_1",)),
    ("NORMAL", "started"): _STARTED,
    ("NORMAL", "overridden"): _OVERRIDDEN,
    ("DEGRADED", "critical_failed"): _CRITICAL,
    ("DEGRADED", "breached"): Move("ROLLBACK_PENDING", ("breach",), ("watch_closely",)),
    ("DEGRADED", "cleared"): Move("NORMAL", ("green",), ("lift",)),
    ("DEGRADED", "started"): _STARTED,
    ("DEGRADED", "overridden"): _OVERRIDDEN,
    ("DEGRADED", "switched"): _SWITCHED,
    ("ROLLBACK_PENDING", "critical_failed"): _CRITICAL,
    ("ROLLBACK_PENDING", "passed"): Move("DEGRADED", ("over",)),
    ("ROLLBACK_PENDING", "excused"): Move("DEGRADED", ("shared",)),
    ("ROLLBACK_PENDING", "confirmed"): Move(
        "ROLLED_BACK", ("confirmation_over",), ("count_flap", "lay_stage_2")
    ),
    ("ROLLBACK_PENDING", "started"): _STARTED,
    ("ROLLBACK_PENDING", "overridden"): _OVERRIDDEN,
    ("ROLLBACK_PENDING", "switched"): _SWITCHED,
    ("ROLLED_BACK", "critical_failed"): Move("ROLLED_BACK", ("acting", "critical"), ("lay_emergency",)),
    ("ROLLED_BACK", "widened"): Move("ROLLED_BACK", ("acting", "outside"), ("widen",)),
    ("ROLLED_BACK", "choked"): Move("ROLLED_BACK", ("acting", "too_much"), ("send_less",)),
    ("ROLLED_BACK", "worsened"): Move("ROLLED_BACK", ("acting", "goes_on"), ("raise_stage",)),
    ("ROLLED_BACK", "held"): Move(
        "RECOVERY_VERIFY", ("hold_over", "by_itself", "not_flapping"), ("let_out",)
    ),
    ("ROLLED_BACK", "absorbed"): Move("ROLLED_BACK", ("room",), ("send_more",)),
    ("ROLLED_BACK", "started"): _STARTED,
    ("ROLLED_BACK", "overridden"): _OVERRIDDEN,
    ("ROLLED_BACK", "released"): Move("RECOVERY_VERIFY", ("alive",), ("forget_flaps", "let_out")),
    ("ROLLED_BACK", "switched"): _SWITCHED,
    ("RECOVERY_VERIFY", "critical_failed"): Move(
        "ROLLED_BACK", ("acting", "critical"), ("lengthen_hold", "lay_back", "lay_emergency")
    ),
    ("RECOVERY_VERIFY", "relapsed"): Move("ROLLED_BACK", ("relapse",), ("lengthen_hold", "lay_back")),
    ("RECOVERY_VERIFY", "verified"): Move("NORMAL", ("step_over", "last_step"), ("lift",)),
    ("RECOVERY_VERIFY", "advanced"): Move("RECOVERY_VERIFY", ("step_over", "steps_left"), ("let_out",)),
    ("RECOVERY_VERIFY", "started"): _STARTED,
    ("RECOVERY_VERIFY", "overridden"): _OVERRIDDEN,
    ("RECOVERY_VERIFY", "switched"): _SWITCHED,
    ("MANUAL_OVERRIDE", "started"): _STARTED,
    ("MANUAL_OVERRIDE", "overridden"): _OVERRIDDEN,
    ("MANUAL_OVERRIDE", "released"): Move("RECOVERY_VERIFY", ("alive",), ("forget_flaps", "let_out")),
    ("MANUAL_OVERRIDE", "switched"): _SWITCHED,
}
"""Every move there is. What is not in it is illegal."""


class IllegalMove(FuseboxError):
    """A move that is not in `MOVES`, or whose guard does not hold. Nothing has changed."""


def move(state: State, event: Event, holds: Callable[[Guard], bool]) -> Move:
    """The move by that event; IllegalMove says why there is none."""
    found = MOVES.get((state, event))
    if found is None:
        orders = [order for it, order in _ORDERS.items() if (state, it) in MOVES]
        raise IllegalMove(f"{event} leads nowhere from {state}; by hand there are: {', '.join(orders)}")
    for guard in found.guards:
        if not holds(guard):
            raise IllegalMove(f"{event} is not possible in {state}: it needs that {GUARDS[guard]}")
    return found


def possible(state: State, holds: Callable[[Guard], bool]) -> Automatic | None:
    """The most urgent event that would lead on by itself."""
    for event in AUTOMATIC:
        found = MOVES.get((state, event))
        if found is not None and all(holds(guard) for guard in found.guards):
            return event
    return None
