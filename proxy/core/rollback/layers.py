"""Layers: toggles laid over the operator's, by a rollback or an override, and taken off again.

An operator's values are never overwritten. What lies on top is a tuple of patches in `Policy.layers`; the
first that fits a request is laid over the toggles that would hold for it. A patch that throws the kill
switch goes before all others: kill wins over everything (facts 2.9).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import or_
from typing import Any, NamedTuple, TypeAlias, get_args

from proxy.core.flaps import BUCKETS
from proxy.core.toggles import CacheMode, Scope, Toggles


class Patch(NamedTuple):
    """Toggles for who is in the scope and in buckets `low` ≤ bucket < `high`. A tuple, as rules are."""

    stage: str  # "1", "2", "3", "emergency", or the baseline of an override
    toggles: Mapping[str, Any]
    scope: Scope = Scope()
    low: int = 0
    high: int = BUCKETS
    exact: bool = False
    """Set them as they are (an override); else of each the stricter one holds, so that a stage never
    loosens what an operator has closed."""

    @property
    def kills(self) -> bool:
        """Whom it is for, they are answered as killed."""
        return bool(self.toggles.get("kill_switch"))

    @property
    def for_all(self) -> bool:
        """Nobody is left out."""
        return self.scope == Scope() and self.low <= 0 and self.high >= BUCKETS


Layers: TypeAlias = tuple[Patch, ...]
NO_LAYERS: Layers = ()

_ALONE = ("content_only", "collab_only")
_CACHE_ORDER = get_args(CacheMode)  # each asks less of the sources than the one before


def _mode(toggle: str | None, patch: str | None) -> str | None:
    """One source is stricter than two; an operator's choice of one stays."""
    return patch if patch in _ALONE and toggle not in _ALONE else toggle


def _cache(toggle: CacheMode, patch: CacheMode) -> CacheMode:
    return max(toggle, patch, key=_CACHE_ORDER.index)


_STRICTER: Mapping[str, Callable[[Any, Any], Any]] = {
    "kill_switch": or_,
    "exposure_percent": min,
    "disable_cf": or_,
    "disable_content": or_,
    "candidate_fallback_level": max,
    "cache_mode": _cache,
    "policy_mode": _mode,
    "experiment_freeze": or_,
    "alpha_override": lambda toggle, _: toggle,  # no weight is stricter than another
}
"""Of each toggle the stricter one: the operator's, the patch's. Scopes are not in it: a patch has its own."""


def stricter(toggles: Toggles, patch: Mapping[str, Any]) -> Toggles:
    """Of each toggle the stricter one."""
    return settled(replace(toggles, **{
        name: of(getattr(toggles, name), patch[name]) for name, of in _STRICTER.items() if name in patch
    }))  # fmt: skip


def laid_over(toggles: Toggles, patch: Patch) -> Toggles:
    """What holds where both do. Not even an exact patch releases a kill."""
    if not patch.exact:
        return stricter(toggles, patch.toggles)
    given = {name: patch.toggles[name] for name in _STRICTER if name in patch.toggles}
    return settled(replace(toggles, **given | {"kill_switch": toggles.kill_switch or patch.kills}))


def settled(toggles: Toggles) -> Toggles:
    """Without the contradictions that two hands make of values each of which was right by itself: what is
    disabled stays so, whoever is left answers, and where nobody is it is level D.
    """
    if toggles.disable_cf and toggles.disable_content:
        return replace(toggles, policy_mode=None, candidate_fallback_level="D")
    if toggles.disable_cf and toggles.policy_mode == "collab_only":
        return replace(toggles, policy_mode="content_only")
    if toggles.disable_content and toggles.policy_mode == "content_only":
        return replace(toggles, policy_mode="collab_only")
    return toggles


def killing(layers: Layers) -> Patch | None:
    """The patch that has everybody answered as killed, if there is one."""
    return next((patch for patch in layers if patch.kills and patch.for_all), None)


NO_PATCH = -1
RECOVERED = -2
"""In place of a patch's index: it is for these segments, and this bucket is let out of it again."""

_Names: TypeAlias = frozenset[bytes] | None


class Covers:
    """Which patch is for whom. There are few, so they are gone through."""

    def __init__(self, layers: Layers) -> None:
        self.patches = (*(it for it in layers if it.kills), *(it for it in layers if not it.kills))
        self._rows = tuple(
            (_names(it.scope.region), _names(it.scope.cohort), _names(it.scope.client), it.low, it.high)
            for it in self.patches
        )

    @property
    def one(self) -> bool:
        """The first is for everybody."""
        return self.patches[0].for_all

    def at(self, region: bytes, cohort: bytes, client: bytes, bucket: int) -> int:
        """The index of the first patch that fits, `RECOVERED` or `NO_PATCH`. b"" is in no list."""
        found = NO_PATCH
        for index, (regions, cohorts, clients, low, high) in enumerate(self._rows):
            if (
                (regions is None or region in regions)
                and (cohorts is None or cohort in cohorts)
                and (clients is None or client in clients)
            ):
                if low <= bucket < high:
                    return index
                if bucket < low:
                    found = RECOVERED
        return found


def _names(names: tuple[str, ...]) -> _Names:
    return frozenset(name.encode() for name in names) or None
