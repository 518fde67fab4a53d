"""What the rollback is told beside the signals: failures, loads, the kill switch."""

from proxy.control.rollback_criticals import Criticals
from proxy.control.rollback_loads import Loads
from proxy.core.policy import Policy
from proxy.core.rollback.engine import World
from proxy.ports import PolicyTarget


class Surroundings:
    """`look` is to be called a few times a second. `target` has the operator's policy."""

    def __init__(self, target: PolicyTarget, criticals: Criticals, loads: Loads) -> None:
        self._target = target
        self._criticals = criticals
        self._loads = loads
        self._settle: tuple[Policy | None, float] = (None, 0.0)

    def look(self, now: float) -> World:
        policy = self._target.policy
        if policy.rollback.mode == "off":
            return World()
        if self._settle[0] is not policy:
            self._settle = policy, longest_s(policy)
        return World(
            criticals=self._criticals.look(policy.rollback.critical_upstreams, now),
            loads=self._loads.look(policy.routes, now),
            killed=policy.toggles.kill_switch,
            exposure=policy.toggles.exposure_percent,
            settle_s=self._settle[1],
        )


def longest_s(policy: Policy) -> float:
    """As long as a recommend request can be under way."""
    known = policy.upstreams
    longest = 0.0
    for route in policy.routes:
        if route.kind == "recommend":
            sources = (route.sources.cf, route.sources.content, route.sources.control)
            timeouts = (known[it].timeout_ms for it in sources if it in known)
            longest = max(longest, route.deadline_ms or max(timeouts, default=0))
    return longest / 1000
