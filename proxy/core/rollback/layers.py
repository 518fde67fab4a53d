"""Layers: toggles laid over the operator's, by a rollback or an override, and taken off again.

An operator's values are never overwritten. What lies on top is a tuple of patches in `Policy.layers`; the
first that fits a request is laid over the toggles that would hold for it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from proxy.core.flaps import BUCKETS
from proxy.core.toggles import Scope


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


Layers: TypeAlias = tuple[Patch, ...]
NO_LAYERS: Layers = ()
