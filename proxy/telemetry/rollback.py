"""The rollback in the metrics."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from proxy.core.rollback.machine import STATES
from proxy.core.rollback.verdicts import ALL, Answer, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackNow:
    """What is told of it. `applied`: what the state asks for is in force, and not only watched."""

    state: str
    applied: bool
    verdicts: Iterable[Verdict]
    transitions: Mapping[tuple[str, str], int]  # (from, to)


def metrics(now: RollbackNow) -> Iterator[Metric]:
    """One series per state and answer, 1 where it is so: an alert needs no number to be explained."""
    state = GaugeMetricFamily(
        "fusebox_rollback_state", "1 for the state that the rollback is in.", labels=("state",)
    )
    for name in STATES:
        state.add_metric((name,), int(name == now.state))
    verdict = GaugeMetricFamily(
        "fusebox_trigger_verdict",
        "1 for what the trigger answers about all traffic.",
        labels=("trigger", "verdict"),
    )
    for it in now.verdicts:
        if it.segment == ALL:
            for answer in get_args(Answer):
                verdict.add_metric((it.trigger, answer), int(answer == it.answer))
    moves = CounterMetricFamily(
        "fusebox_rollback_transitions", "Transitions of the rollback.", labels=("from", "to")
    )
    for (before, to), count in sorted(now.transitions.items()):
        moves.add_metric((before, to), count)
    applied = GaugeMetricFamily(
        "fusebox_rollback_applied", "1 where what that state asks for is in force.", int(now.applied)
    )
    yield from (state, verdict, moves, applied)
