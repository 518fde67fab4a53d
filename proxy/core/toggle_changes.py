"""Changes of a toggles document: what becomes of it, or every reason why not.

Also what a change with a time limit leaves behind. Such changes of one toggle lie over each other like
sheets: each returns to what is below it, whichever ends first, and a change without a limit takes all
of that toggle away. So once every limit is over, all is as if those changes had never been.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from proxy.core.experiment import Experiment
from proxy.core.policy import Policy
from proxy.core.toggle_values import (
    EXPERIMENT,
    FREEZE,
    RULES,
    Document,
    Place,
    Values,
    experiment_of,
    laid,
    values,
)
from proxy.core.toggles import Toggles
from proxy.core.toggles_document import Fault, contradicting, read_document

MAX_RETURNS = 20
"""Changes with a time limit that may be under way: each later change is checked against all of them."""

SOURCE_OF_MODE: Mapping[str, str] = {"content_only": "content", "collab_only": "cf"}


class Return(NamedTuple):
    """What becomes of a change when its time is over."""

    version: int
    """Which one it made."""
    at: str
    """When, RFC 3339: a label. `ttl_s` is how long that was when it was made, and never more remains."""
    ttl_s: float
    before: Values
    """To what each place returns."""


class World(NamedTuple):
    """What a change has to fit to beside the document."""

    policy: Policy
    """By the settings: routes, experiment."""

    @property
    def flags(self) -> set[str]:
        """The names that routes ask for."""
        return {route.flag for route in self.policy.routes if route.flag}


def changed(
    current: Document, wanted: Values, world: World, *, back: bool = False
) -> tuple[Document, list[Fault]]:
    """The document with these values, and all that is wrong with it; for use only without faults.

    A flag that no route asks for is a fault where it is set, not where it stands: a reload that removes a
    route must not turn on what somebody has turned off. Nor is it one where the change goes `back` to what
    was once.
    """
    document, faults = _over(current, wanted, world, back=back)
    if not faults and (missing := list(unmet(document.toggles, world))):
        known = set(unmet(current.toggles, world))
        faults += [it for it in missing if it not in known]
    return document, faults


def returned(current: Document, back: Values, world: World) -> tuple[Document, list[Fault]]:
    """The same when the time of a change is over. What `unmet` finds keeps nothing from returning: it held
    before, and a reload is what took it away.
    """
    return _over(current, back, world, back=True)


def _over(current: Document, wanted: Values, world: World, *, back: bool) -> tuple[Document, list[Fault]]:
    after = {**values(current, rules=False), **wanted}
    raw = laid(after)
    raw.pop("experiment", None)
    standing = {place[1] for place in after if place[0] == "flags" and (back or place not in wanted)}
    toggles, faults = read_document({"metadata": {}, **raw}, world.flags | standing)
    if RULES not in wanted:
        toggles = replace(toggles, rules=current.toggles.rules)  # the same object: its index is kept
        faults += (
            Fault(("rules", at, "toggles"), message) for at, message in contradicting(toggles.rules, toggles)
        )
    document = Document(
        toggles=replace(toggles, version=current.toggles.version),
        environment=current.environment,
        experiment=_frozen(toggles, current, wanted, world.policy.experiment),
    )
    return document, faults


def _frozen(toggles: Toggles, current: Document, wanted: Values, running: Experiment) -> Experiment | None:
    """While it freezes, the experiment as it was when that began (facts 2.13)."""
    if not toggles.experiment_freeze:
        return None
    if (kept := wanted.get(EXPERIMENT)) is not None:
        return experiment_of(kept)
    return current.experiment or running


def unmet(toggles: Toggles, world: World) -> Iterator[Fault]:
    """What the toggles ask for and nothing here can give."""
    asked = [route.sources for route in world.policy.routes if route.kind == "recommend"]
    if not asked:
        return
    offered = {kind for kind in ("cf", "content") if any(getattr(sources, kind) for sources in asked)}
    overlays: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = [(("toggles",), {})]
    overlays += [
        (("rules", at, "toggles"), rule.toggles)
        for at, rule in enumerate(toggles.rules)
        if "policy_mode" in rule.toggles or "cache_mode" in rule.toggles
    ]
    for place, overlay in overlays:
        mode = overlay.get("policy_mode", None if overlay else toggles.policy_mode)
        level = overlay.get("candidate_fallback_level", toggles.candidate_fallback_level)
        source = SOURCE_OF_MODE.get(mode or "")
        if overlay.get("cache_mode", None if overlay else toggles.cache_mode) == "warm_only" and level != "D":
            yield from _without_cache(place, world)
        if source and source not in offered and level != "D":
            yield Fault(
                (*place, "policy_mode"),
                f"{mode} asks {source}, and no route has that source",
                "choose another mode, or candidate_fallback_level D with it",
            )


def _without_cache(place: tuple[str | int, ...], world: World) -> Iterator[Fault]:
    if not world.policy.cache.max_bytes:
        yield Fault(
            (*place, "cache_mode"),
            "warm_only asks the cache alone, and there is none",
            "set [cache] max_bytes, or candidate_fallback_level D with it",
        )


def after_all(document: Document, returns: Sequence[Return], world: World) -> list[Fault]:
    """What would be wrong once the returns come, one after the other: faults that say when."""
    faults: list[Fault] = []
    while returns:
        due = min(returns, key=lambda it: it.at)
        back, returns = over(returns, due.version)
        document, found = returned(document, back, world)
        faults += [
            it._replace(message=f"{it.message}, once the change of version {due.version} is over at {due.at}")
            for it in found
        ]
        if found:
            break
    return faults


def over(returns: Sequence[Return], version: int) -> tuple[dict[Place, Any], tuple[Return, ...]]:
    """The time of this version's change is over: the values to set now, and the returns that are left.

    Where a later change lies over it, that one returns to what this one would have.
    """
    [ended] = [it for it in returns if it.version == version]
    back = dict(ended.before)
    left: list[Return] = []
    for each in sorted(returns, key=lambda it: it.version):
        below = {place: back.pop(place) for place in each.before if each.version > version and place in back}
        if each is not ended:
            left.append(each._replace(before={**each.before, **below}))
    return back, tuple(left)


def without(returns: Iterable[Return], places: Collection[Place]) -> tuple[Return, ...]:
    """What is left of them when these places were changed for good."""
    if FREEZE in places:
        places = {*places, EXPERIMENT}
    kept = (
        it._replace(before={place: value for place, value in it.before.items() if place not in places})
        for it in returns
    )
    return tuple(it for it in kept if it.before)


def laid_over(returns: Iterable[Return], new: Return) -> tuple[Return, ...]:
    """With a further one. What lies wholly below it and ends before it would only hand on what it returns
    to: that is done at once, so whoever asks for the same again and again leaves one behind.
    """
    left = (*returns, new)
    for each in left[:-1]:
        if each.at <= new.at and each.before.keys() <= new.before.keys():
            _, left = over(left, each.version)
    return left


def limited(current: Document, after: Document, wanted: Values) -> dict[Place, Any]:
    """To what a change with a time limit returns: `before` of its Return."""
    before, now = (values(it, rules=RULES in wanted) for it in (current, after))
    places = set(wanted) | ({EXPERIMENT} if before[EXPERIMENT] != now[EXPERIMENT] else set())
    return {place: before.get(place, True) for place in sorted(places)}  # a flag not named is on
