"""Changes of state as events: of breakers, and of the rollback with what it lays over the toggles."""

from typing import Any

import orjson

from proxy.core.breaker_values import Transition as BreakerTransition
from proxy.core.events import TransitionEvent
from proxy.core.rollback.engine import Transition
from proxy.core.rollback.layers import Layers
from proxy.core.rollback.verdicts import Critical, Verdict

ROLLBACK = "rollback"


def breaker_moved(change: BreakerTransition) -> TransitionEvent:
    """A breaker has opened, closed, or begun to try."""
    evidence = {"observed": change.observed, "n": change.n, "threshold": change.threshold}
    return (
        "transition",
        change.at,
        {
            "subject": f"breaker {change.upstream}",
            "state_before": change.before,
            "state_after": change.to,
            "event": change.rule,
            "stage": "",
            "actor": "",
            "reason": change.reason,
            "triggers": [change.rule],
            "evidence": _json(evidence | {"dry_run": change.dry_run}),
            "layers_before": "",
            "layers_after": "",
        },
    )


def rollback_moved(move: Transition) -> TransitionEvent:
    """The rollback has moved, with what triggers said and what lies over the toggles."""
    return (
        "transition",
        move.at,
        {
            "subject": ROLLBACK,
            "state_before": move.before,
            "state_after": move.to,
            "event": move.event,
            "stage": move.stage,
            "actor": move.by,
            "reason": move.reason,
            "triggers": [*(it.trigger for it in move.causes), *(it.kind for it in move.criticals)],
            "evidence": _json([*map(_verdict, move.causes), *map(_critical, move.criticals)]),
            "layers_before": _json(_layers(move.was)),
            "layers_after": _json(_layers(move.layers)),
        },
    )


def _verdict(it: Verdict) -> dict[str, Any]:
    segment = f"{it.segment.dimension}={it.segment.value}" if it.segment.dimension else ""
    names = ("trigger", "answer", "observed", "bound", "threshold", "n", "by", "baseline", "control")
    return {name: getattr(it, name) for name in names} | {"segment": segment}


def _critical(it: Critical) -> dict[str, Any]:
    return {"kind": it.kind, "name": it.name, "detail": it.detail}


def _layers(layers: Layers) -> list[dict[str, Any]]:
    return [
        {
            "stage": it.stage,
            "toggles": dict(it.toggles),
            "scope": {name: list(names) for name, names in it.scope._asdict().items() if names},
            "buckets": [it.low, it.high],
        }
        for it in layers
    ]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
