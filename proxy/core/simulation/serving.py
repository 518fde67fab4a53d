"""Who is served how under layers: shares of the traffic by side, and by whom they ask.

The decisions are those of the data plane's own `Decider`. Here the buckets are cut where a decision may
change, and one of each piece is asked for all of it.
"""

from itertools import pairwise
from typing import NamedTuple

from proxy.core.decide import Decider
from proxy.core.experiment import Experiment, hundredths
from proxy.core.identity import Who
from proxy.core.policy import Route, Sources
from proxy.core.rollback.layers import NO_LAYERS, Layers
from proxy.core.rollback.signals import Side
from proxy.core.routing import BUCKETS
from proxy.core.scopes import Scopes
from proxy.core.simulation.incident import Fault, Traffic
from proxy.core.toggles import Toggles

ROUTE = "recommendations"
_USER = b"somebody"


class Part(NamedTuple):
    """A share of one segment's requests, all served alike."""

    share: float
    side: Side
    arm: str
    calls: tuple[str, ...]  # the sources that are asked
    withheld: bool  # otherwise than operators say

    def hit_by(self, fault: Fault) -> bool:
        """A fault of a source hits who asks it, one of no source who asks anybody."""
        if fault.side and (fault.side == "control") != (self.side == "control"):
            return False
        return fault.source in self.calls if fault.source else bool(self.calls)


class Serving:
    """The operator's toggles stay as they are; what lies over them changes."""

    def __init__(self, traffic: Traffic) -> None:
        control = "control" if traffic.control_upstream else ""
        sources = Sources(cf="cf", content="content", control=control)
        self._route = Route(name=ROUTE, path=f"/{ROUTE}", kind="recommend", sources=sources)
        self._toggles = Toggles(
            exposure_percent=100.0 - traffic.control_percent, policy_mode=traffic.policy_mode
        )
        self._layers: Layers = NO_LAYERS
        self._usual = self._decider = self._made()
        self._known: dict[tuple[str, str, str], tuple[Part, ...]] = {}

    def _made(self) -> Decider:
        scopes = Scopes(self._toggles.scope, self._toggles.rules)
        return Decider(self._route, self._toggles, Experiment(), scopes, layers=self._layers)

    def parts(self, layers: Layers, region: str, cohort: str, client: str) -> tuple[Part, ...]:
        """Of one segment; "" is unknown. Together their shares are 1."""
        if layers != self._layers:
            self._layers, self._known = layers, {}
            self._decider = self._made()
        segment = region, cohort, client
        if (known := self._known.get(segment)) is None:
            known = self._known[segment] = self._cut(segment)
        return known

    def _cut(self, segment: tuple[str, str, str]) -> tuple[Part, ...]:
        who = Who(_USER, *(name.encode() for name in segment))
        cuts = {0, BUCKETS, hundredths(self._toggles.exposure_percent)}
        for patch in self._layers:
            cuts |= {patch.low, patch.high}
            cuts.add(hundredths(patch.toggles.get("exposure_percent", 100.0)))
        parts: dict[Part, float] = {}
        for low, high in pairwise(sorted(cut for cut in cuts if 0 <= cut <= BUCKETS)):
            decision = self._decider.decide(who, _USER, low)
            usual = self._usual.decide(who, _USER, low)
            withheld = (decision.policy, decision.level) != (usual.policy, usual.level)
            part = Part(0.0, decision.side, decision.arm, decision.calls, withheld)
            parts[part] = parts.get(part, 0.0) + (high - low) / BUCKETS
        return tuple(part._replace(share=share) for part, share in parts.items())
