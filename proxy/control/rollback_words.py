"""The rollback in words: for the log, the audit log and whoever is called at three in the morning."""

from collections.abc import Iterable, Mapping

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.layers import Layers, Patch
from proxy.core.rollback.verdicts import ALL, Critical, Judgement, Metric, Segment, Verdict
from proxy.core.toggles import Scope

_WENT_WRONG: Mapping[Metric, str] = {
    "coverage": "of what {n} requests asked for was left to popularity",
    "latency": "of {n} requests were too late",
    "error": "of {n} requests failed",
    "cache": "of {n} reads of the cache missed",
}
_KINDS = {
    "breaker_open": "the breaker of {name} is open",
    "contract_broken": "{name} breaks its contract",
    "crash_loop": "{name} crash in a loop",
}


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def segment_words(segment: Segment) -> str:
    return "all" if segment == ALL else f"{segment.dimension}={segment.value}"


def scope_words(scope: Scope) -> str:
    parts = scope._asdict().items()
    return " ".join(f"{part}={','.join(names)}" for part, names in parts if names) or "everybody"


def verdict_words(it: Verdict) -> str:
    """What it saw, against what is allowed."""
    where = "" if it.segment == ALL else f" {segment_words(it.segment)}"
    if it.observed is None:
        return f"{it.trigger}{where}: no data"
    seen = f"{percent(it.observed)} {_WENT_WRONG[it.metric].format(n=it.n)}"
    told = f"{it.trigger}{where}: {seen}, {percent(it.threshold)} is allowed"
    if it.shared and it.control is not None:
        return f"{told}; the control arm has {percent(it.control)}, so it is not the change"
    if it.answer == "inconclusive" and it.needed:
        return f"{told}; {it.needed} requests more would tell"
    return told


def critical_words(it: Critical) -> str:
    return f"{_KINDS[it.kind].format(name=it.name)}: {it.detail}"


def patch_words(patch: Patch) -> str:
    """Which stage, for whom."""
    name = f"stage {patch.stage}" if patch.stage[:1].isdigit() else patch.stage
    whom = scope_words(patch.scope)
    if (patch.low, patch.high) != (0, BUCKETS):
        whom += f" in buckets {patch.low} to {patch.high - 1}"
    return f"{name} for {whom}"


def layers_words(layers: Layers) -> str:
    return "; ".join(map(patch_words, layers)) or "nothing"


def wrong(judgement: Judgement) -> tuple[str, ...]:
    """All that speaks against what is served now, the worst first."""
    return (
        *map(critical_words, judgement.criticals),
        *map(verdict_words, judgement.breaches("P1")),
        *map(verdict_words, judgement.breaches("P2")),
    )


def causes_words(causes: Iterable[Verdict | Critical]) -> tuple[str, ...]:
    return tuple(critical_words(it) if isinstance(it, Critical) else verdict_words(it) for it in causes)
