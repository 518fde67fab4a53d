"""What a transition changes of the twelve toggles, and for whom: for records and previews."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.layers import Layers, laid_over
from proxy.core.rollback.stages import within
from proxy.core.toggles import CATALOGUE, Scope, Toggles


class Change(NamedTuple):
    """One toggle, for who is in the scope and in buckets `low` ≤ bucket < `high`."""

    scope: Scope
    low: int
    high: int
    toggle: str
    before: Any
    after: Any


def changes(toggles: Toggles, before: Layers, after: Layers) -> tuple[Change, ...]:
    """Every toggle that holds otherwise than before, under the operator's `toggles`. A scope that lies
    within another one is told by itself.
    """
    scopes = dict.fromkeys(patch.scope for patch in (*before, *after))
    return tuple(change for scope in scopes for change in _joined(_of(toggles, before, after, scope)))


def _of(toggles: Toggles, before: Layers, after: Layers, scope: Scope) -> Iterator[Change]:
    patches = [patch for patch in (*before, *after) if within(scope, patch.scope)]
    cuts = sorted({0, BUCKETS, *(it.low for it in patches), *(it.high for it in patches)})
    own = next((rule.toggles for rule in toggles.rules if within(scope, rule.scope)), {})
    base = replace(toggles, **own)
    for name in (toggle.name for toggle in CATALOGUE if toggle.kind != "names"):
        for low, high in pairwise(cuts):
            was, now = (getattr(_under(base, it, scope, low), name) for it in (before, after))
            if was != now:
                yield Change(scope, low, high, name, was, now)


def _under(toggles: Toggles, layers: Layers, scope: Scope, bucket: int) -> Toggles:
    """The toggles of that bucket: a patch that kills goes before all others."""
    fits = [it for it in layers if within(scope, it.scope) and it.low <= bucket < it.high]
    fits.sort(key=lambda it: not it.kills)
    return laid_over(toggles, fits[0]) if fits else toggles


def _joined(found: Iterator[Change]) -> Iterator[Change]:
    """Neighbours that change alike as one."""
    last: Change | None = None
    for it in found:
        if (
            last is not None
            and last._replace(low=0, high=0) == it._replace(low=0, high=0)
            and last.high == it.low
        ):
            last = last._replace(high=it.high)
            continue
        if last is not None:
            yield last
        last = it
    if last is not None:
        yield last
