"""Layers in force: what a rollback lays over the operator's toggles, put on and taken off as a whole.

It stands before the flap guard. Whoever changes the operator's policy does so through this, sees nothing of
the layers, and can neither lose nor keep one.
"""

from dataclasses import replace

from proxy.core.policy import Policy
from proxy.core.rollback.drills import Drill
from proxy.core.rollback.layers import NO_LAYERS, Layers, Patch
from proxy.core.rollback.stages import ORDER, within
from proxy.ports import PolicyTarget


class Layering:
    """A `PolicyTarget` before another one."""

    def __init__(self, target: PolicyTarget) -> None:
        self._target = target
        self._operators = target.policy
        self._layers: Layers = NO_LAYERS
        self._drill: Drill | None = None

    @property
    def policy(self) -> Policy:
        """As the operator has it: no layer is in it."""
        return self._operators

    @property
    def layers(self) -> Layers:
        """Those in force."""
        return self._layers

    def apply(self, policy: Policy) -> None:
        """As the target's, under the layers in force."""
        self._target.apply(self.over(policy))
        self._operators = policy

    def lay(self, layers: Layers) -> None:
        """These and no others, effective with the next request. What the target refuses changes nothing."""
        if layers != self._layers:
            self._target.apply(self.over(self._operators, layers))
            self._layers = layers

    def drill(self, drill: Drill | None) -> None:
        """In force in place of any other, with the next request of its own; None: there is none."""
        if drill != self._drill:
            self._target.apply(replace(self.over(self._operators), drill=drill))
            self._drill = drill

    def over(self, policy: Policy, layers: Layers | None = None) -> Policy:
        """What `apply` would hand on of that policy, under these layers; None: those in force."""
        return replace(policy, layers=self._layers if layers is None else layers, drill=self._drill)

    async def settled(self) -> None:
        await self._target.settled()


def opens(before: Layers, after: Layers) -> bool:
    """Whether somebody may be under less than before; what cannot be compared does."""
    return any(_left(patch, after) < patch.high for patch in before)


def _left(patch: Patch, after: Layers) -> int:
    """The first bucket of it that nothing as strict lies over any more."""
    at = patch.low
    for it in sorted(after, key=lambda it: it.low):
        if it.low <= at < it.high and _as_strict(it, patch):
            at = it.high
    return at


def _as_strict(one: Patch, other: Patch) -> bool:
    if one.exact or other.exact:
        return (one.stage, one.exact, one.scope) == (other.stage, other.exact, other.scope)
    return within(other.scope, one.scope) and ORDER.index(one.stage) >= ORDER.index(other.stage)
