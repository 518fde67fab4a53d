"""What somebody wants of the toggles, and what would come of it: nothing has happened yet."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from proxy.clock import rfc3339
from proxy.control.toggle_versions import Held, Kind
from proxy.core.experiment import Experiment
from proxy.core.toggle_changes import (
    MAX_RETURNS,
    Return,
    World,
    after_all,
    changed,
    laid_over,
    limited,
    without,
)
from proxy.core.toggle_values import (
    EXPERIMENT,
    KILL,
    RULES,
    Document,
    Place,
    Values,
    baseline_values,
    difference,
    shown,
    told,
)
from proxy.core.toggles import BASELINES, Toggles
from proxy.core.toggles_document import Fault
from proxy.errors import FuseboxError

MIN_TTL_S = 1
MAX_TTL_S = 7 * 24 * 3600


class TogglesRefused(FuseboxError):
    """A change that cannot be. `faults` are all the reasons, their places those of the document."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, it.place))}: {it.message}" for it in faults))
        self.faults = tuple(faults)


class TogglesStale(FuseboxError):
    """The toggles have changed since they were looked at."""


class UnknownBaseline(FuseboxError):
    """No baseline has this name; the text lists those there are."""


class UnknownVersion(FuseboxError):
    """The history has no version of this number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A change as it is asked for. Values are JSON, unchecked."""

    kind: Kind
    values: Values
    ttl_s: float | None = None
    whole: bool = False  # all that there is, not only what is named

    @property
    def kill(self) -> bool | None:
        """What it makes of the kill switch; None: nothing, or nothing that can be understood."""
        asked = self.values.get(KILL)
        return asked if type(asked) is bool else None


def patch(
    toggles: Mapping[str, Any], rules: Sequence[Any] | None = None, ttl_s: float | None = None
) -> Wanted:
    """Toggles by name, and all the rules if they are given."""
    asked: dict[Place, Any] = {("toggles", name): value for name, value in toggles.items()}
    if rules is not None:
        asked[RULES] = rules
    return Wanted(kind="patch", values=asked, ttl_s=ttl_s)


def flags(flags: Mapping[str, Any], ttl_s: float | None = None) -> Wanted:
    return Wanted(kind="flags", values={("flags", name): on for name, on in flags.items()}, ttl_s=ttl_s)


def baseline(name: str, ttl_s: float | None = None) -> Wanted:
    """UnknownBaseline."""
    if name not in BASELINES:
        raise UnknownBaseline(f"no baseline is named {name!r}; there are: {', '.join(BASELINES)}")
    return Wanted(kind="baseline", values=baseline_values(name), ttl_s=ttl_s)


def revert(now: Document, then: Document) -> Wanted:
    """Everything as it was then."""
    differing = {place: had for place, (_, had) in difference(now, then).items()}
    return Wanted(kind="revert", values=differing, whole=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would come of a change, found without a fault."""

    wanted: Wanted
    looked_at: int  # the version that it changes
    before: Document
    document: Document
    """As the rest of the change makes it; its kill switch is that of `before`."""
    returns: tuple[Return, ...]
    """Those under way then. Its own, if it has a time limit, is the last; carried out it gets its number."""
    kill: bool | None
    """What the kill switch is to be set to; None: it stays."""
    thrown: bool
    """It has been thrown for this change already."""

    @property
    def toggles(self) -> Toggles:
        """As they would hold, the kill switch too."""
        on = self.before.toggles.kill_switch if self.kill is None else self.kill
        return replace(self.document.toggles, kill_switch=on)

    @property
    def experiment(self) -> Experiment | None:
        """The one that would be frozen."""
        return self.document.experiment

    @property
    def more(self) -> bool:
        """Whether anything but the kill switch is changed, or has to return."""
        names = self.wanted.values.keys() - {KILL}
        return bool(names) or self.wanted.whole or self.wanted.ttl_s is not None

    @property
    def diff(self) -> dict[str, dict[str, Any]]:
        """By name what it changes, the kill switch too."""
        now = replace(self.document, toggles=self.toggles)
        return told(difference(self.before, now))


def plan(held: Held, wanted: Wanted, world: World, *, now: float, thrown: bool = False) -> Plan:
    """Pure. TogglesRefused with every reason. `thrown`: this change has just thrown the kill switch.

    `now` is wall time, seconds.
    """
    if not wanted.values and not wanted.whole:
        raise TogglesRefused([Fault((), "changes nothing: name at least one value")])
    current = held.document
    after, faults = changed(current, wanted.values, world, back=wanted.whole)
    ttl_s = wanted.ttl_s or 0.0
    if wanted.ttl_s is not None and not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        faults.append(Fault(("ttl_s",), f"should be {MIN_TTL_S} to {MAX_TTL_S} seconds (7 days)"))
    on = current.toggles.kill_switch
    kill = wanted.kill if wanted.kill != on else None
    returns = held.returns
    if wanted.whole:
        returns = ()
    elif wanted.ttl_s is None:
        returns = without(returns, wanted.values.keys())
    elif not faults:
        back = limited(current, after, wanted.values)
        if thrown and KILL in back:
            back[KILL] = False
        returns = laid_over(returns, Return(held.version + 1, rfc3339(now + ttl_s), ttl_s, back))
        if len(returns) > MAX_RETURNS:
            faults.append(
                Fault(
                    ("ttl_s",),
                    f"{MAX_RETURNS} changes with a time limit are under way, which is as many as may be",
                    "wait for one to end, or leave out ttl_s",
                )
            )
    if not faults:
        faults += after_all(after, returns, world)
    if faults:
        raise TogglesRefused(faults)
    document = replace(after, toggles=replace(after.toggles, kill_switch=on))
    return Plan(
        wanted=wanted,
        looked_at=held.version,
        before=current,
        document=document,
        returns=returns,
        kill=kill,
        thrown=thrown,
    )


def named(places: Iterable[Place]) -> list[str]:
    """What is changed, by the names that people use; the frozen experiment belongs to its toggle."""
    return sorted(shown(place) for place in places if place != EXPERIMENT)
