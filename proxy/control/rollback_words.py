"""The rollback in words: for the log, the audit log and whoever is called at three in the morning."""

from collections.abc import Iterable

from orjson import dumps

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.changes import Change
from proxy.core.rollback.layers import Layers, Patch
from proxy.core.rollback.verdicts import ALL, Critical, Judgement, Segment, Verdict
from proxy.core.rollback.words import verdict_words
from proxy.core.toggles import Scope

_KINDS = {
    "breaker_open": "the breaker of {name} is open",
    "contract_broken": "{name} breaks its contract",
    "crash_loop": "{name} crash in a loop",
}


def segment_words(segment: Segment) -> str:
    return "all" if segment == ALL else f"{segment.dimension}={segment.value}"


def scope_words(scope: Scope) -> str:
    parts = scope._asdict().items()
    return " ".join(f"{part}={','.join(names)}" for part, names in parts if names) or "everybody"


def says(it: Verdict) -> str:
    """What it saw, against what is allowed, and what more it would need."""
    if it.answer == "no_data":
        return f"{it.trigger}: no data, which is never ok"
    told = verdict_words(it)
    if it.answer == "inconclusive" and it.needed is not None:
        return f"{told}; {it.needed} requests more would tell"
    if it.answer == "breach" and it.by:
        return f"{told}; found by the {it.by}"
    return told


def critical_words(it: Critical) -> str:
    return f"{_KINDS[it.kind].format(name=it.name)}: {it.detail}"


def patch_words(patch: Patch) -> str:
    """Which stage, for whom."""
    name = f"stage {patch.stage}" if patch.stage[:1].isdigit() else patch.stage
    whom = scope_words(patch.scope)
    if patch.low >= patch.high:
        whom += ", all let out"
    elif (patch.low, patch.high) != (0, BUCKETS):
        whom += f" in buckets {patch.low} to {patch.high - 1}"
    return f"{name} for {whom}"


def layers_words(layers: Layers) -> str:
    return "; ".join(map(patch_words, layers)) or "nothing"


def toggles_words(changed: Iterable[Change], *, after: bool) -> str:
    """Those that hold otherwise by a transition, as they were or as they are then, and for whom."""
    told: dict[str, list[str]] = {}
    for it in changed:
        whom = scope_words(it.scope)
        if (it.low, it.high) != (0, BUCKETS):
            whom += f" in buckets {it.low} to {it.high - 1}"
        value = it.after if after else it.before
        told.setdefault(whom, []).append(f"{it.toggle}={dumps(value).decode()}")
    return "; ".join(f"{' '.join(values)} for {whom}" for whom, values in told.items())


def wrong(judgements: Iterable[Judgement]) -> tuple[str, ...]:
    """All that speaks against what is served now, the worst first."""
    known = tuple(judgements)
    criticals = dict.fromkeys(critical_words(it) for view in known for it in view.criticals)
    breaches = [it for view in known for it in view.verdicts if it.answer == "breach"]
    breaches.sort(key=lambda it: (it.priority, it.shared, it.segment != ALL))
    return (*criticals, *dict.fromkeys(map(says, breaches)))
