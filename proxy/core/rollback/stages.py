"""Stages of a rollback as parts of the traffic, and the patches that they come to (facts 1, 2.17).

A part is a scope with the stage that it is in. Parts lie beside each other: one region may be in stage 3
while everybody else is in none.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.layers import NO_LAYERS, Layers, Patch
from proxy.core.toggles import BASELINES, STAGES, Scope

Stage: TypeAlias = Literal["1", "2", "3", "emergency"]
ORDER: tuple[Stage, ...] = get_args(Stage)
ALL_SCOPE = Scope()
RECEIVES: Stage = "2"
"""The stage that sends traffic to another upstream, and so may have to send less than all."""


class Part(NamedTuple):
    """Who is in this scope is in this stage."""

    scope: Scope
    stage: Stage


Parts: TypeAlias = tuple[Part, ...]
"""The highest stage first; of the same stage in the order they came."""


def _cumulative() -> dict[Stage, dict[str, Any]]:
    summed: dict[str, Any] = {}
    found: dict[Stage, dict[str, Any]] = {}
    for stage in ORDER:
        summed = {**summed, **STAGES[stage]}
        found[stage] = summed
    return found


TOGGLES: Mapping[Stage, Mapping[str, Any]] = _cumulative()
"""What each stage sets, with what the ones before it have set."""


def within(inner: Scope, outer: Scope) -> bool:
    """Whether everybody of `inner` is in `outer` as well."""
    return all(
        not names or (bool(mine) and set(mine) <= set(names))
        for mine, names in zip(inner, outer, strict=True)
    )


def covered(parts: Parts, scope: Scope) -> bool:
    """Whether some part has all of it."""
    return any(within(scope, part.scope) for part in parts)


def highest(parts: Parts) -> Stage | None:
    return parts[0].stage if parts else None


def stage_of(parts: Parts, scope: Scope) -> Stage | None:
    """In which stage all of the scope is; None: in none."""
    return next((part.stage for part in parts if within(scope, part.scope)), None)


def put(parts: Parts, scope: Scope, stage: Stage) -> Parts:
    """With the scope in that stage, or in the higher one that it is in already. What is in it and no
    higher has no part of its own any more.
    """
    held = stage_of(parts, scope)
    if held is not None and ORDER.index(held) >= ORDER.index(stage):
        return parts
    rank = ORDER.index(stage)
    kept = [it for it in parts if not (within(it.scope, scope) and ORDER.index(it.stage) <= rank)]
    return tuple(sorted([*kept, Part(scope, stage)], key=lambda it: -ORDER.index(it.stage)))


def raised(parts: Parts, scope: Scope) -> Parts:
    """The next stage for this scope; for all that is in one where the scope says nothing about whom."""
    held = stage_of(parts, scope)
    if scope == ALL_SCOPE or held is None:
        moved = parts
        for part in reversed(parts):
            moved = put(moved, part.scope, _next(part.stage))
        return moved
    return put(parts, scope, _next(held))


def _next(stage: Stage) -> Stage:
    return ORDER[min(ORDER.index(stage) + 1, len(ORDER) - 1)]


def laid(parts: Parts, low: int = 0, share: float = 1.0) -> Layers:
    """The patches of these parts, for buckets from `low` on.

    `share` of all buckets go where stage 2 sends them, and always the same ones; those above get level D.
    A patch that has let out everybody stays, for nobody: whom it was for is still known.
    """
    cut = max(low, round(share * BUCKETS))
    patches = []
    for part in parts:
        toggles = TOGGLES[part.stage]
        if part.stage != RECEIVES or cut >= BUCKETS:
            patches.append(Patch(part.stage, toggles, part.scope, low))
            continue
        if cut > low:
            patches.append(Patch(part.stage, toggles, part.scope, low, cut))
        patches.append(Patch(part.stage, {**toggles, "candidate_fallback_level": "D"}, part.scope, cut))
    return tuple(patches)


def laid_baseline(name: str, low: int = 0) -> Layers:
    """An operator's choice, as it stands. Naming `normal` takes no scope away: a patch has its own."""
    if name not in BASELINES:
        return NO_LAYERS
    toggles = {key: value for key, value in BASELINES[name].items() if not key.endswith("_scope")}
    return (Patch(name, toggles, low=low, exact=True),)
