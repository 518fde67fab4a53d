"""Changes of state as events: of breakers, and of what a rollback lays over the toggles."""

from proxy.core.breaker_values import Transition as BreakerTransition
from proxy.core.events import TransitionEvent


def breaker_moved(change: BreakerTransition) -> TransitionEvent:
    """A breaker has opened, closed, or begun to try."""
    return (
        "transition",
        change.at,
        {
            "subject": f"breaker {change.upstream}",
            "state_before": change.before,
            "state_after": change.to,
            "event": change.rule,
            "reason": change.reason,
            "triggers": [change.rule],
        },
    )
