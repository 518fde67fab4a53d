"""What a type cannot say about `[rollback]` and its triggers."""

from collections.abc import Collection
from itertools import pairwise

from proxy.core.experiment import hundredths
from proxy.core.rollback.settings import RollbackSettings, Trigger
from proxy.core.rollback.signals import MAX_TARGETS
from proxy.settings.checks import name
from proxy.settings.read import Place, Report, likeness


def rollback(rollback: RollbackSettings, upstreams: Collection[str], report: Report) -> None:
    """`upstreams` are the names there are."""
    place: Place = ("rollback",)
    _triggers(rollback.triggers, (*place, "triggers"), report)
    for index, upstream in enumerate(rollback.critical_upstreams):
        if upstream not in upstreams:
            message = f"there is no [upstreams.{upstream}]"
            report.add((*place, "critical_upstreams", index), message, likeness(upstream, list(upstreams)))
    if rollback.hold_max_s < rollback.hold_s:
        report.add((*place, "hold_max_s"), "is less than hold_s")
    _steps(rollback.recovery_steps, (*place, "recovery_steps"), report)


def _triggers(triggers: Collection[Trigger], place: Place, report: Report) -> None:
    if not any(trigger.priority == "P1" for trigger in triggers):
        report.add(place, "has none of priority P1, so nothing would be taken back", 'or set mode = "off"')
    names: dict[str, int] = {}
    targets: set[float] = set()
    for index, trigger in enumerate(triggers):
        where = (*place, index)
        name(trigger.name, (*where, "name"), report)
        first = names.setdefault(trigger.name, index)
        if first != index:
            message = f"{trigger.name!r} is the name of triggers[{first}] already"
            report.add((*where, "name"), message)
        if trigger.metric == "latency" and trigger.target_ms is None:
            report.add((*where, "target_ms"), "is missing: later than what?", "for example 200")
        elif trigger.metric != "latency" and trigger.target_ms is not None:
            report.add((*where, "target_ms"), "belongs to latency triggers only")
        elif trigger.target_ms is not None:
            targets.add(trigger.target_ms)
            if len(targets) > MAX_TARGETS:
                message = f"is one target too many: {MAX_TARGETS} are told apart"
                report.add((*where, "target_ms"), message, "triggers may share one")


def _steps(steps: Collection[float], place: Place, report: Report) -> None:
    if not steps or list(steps)[-1] != 100:
        report.add(place, "should end at 100, which is everybody", "[1, 5, 25, 50, 100]")
    if any(later <= step for step, later in pairwise(steps)):
        report.add(place, "should rise from step to step", "[1, 5, 25, 50, 100]")
    for index, step in enumerate(steps):
        if abs(step * 100 - hundredths(step)) > 1e-6:
            report.add((*place, index), "is finer than 0.01, which is one bucket")
