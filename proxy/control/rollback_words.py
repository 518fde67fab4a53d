"""The rollback in words: for the log, the audit log and whoever is called at three in the morning."""

from collections.abc import Iterable

from proxy.core.audit import Scalar
from proxy.core.flaps import BUCKETS
from proxy.core.rollback.changes import Change, changes
from proxy.core.rollback.layers import Layers, Patch
from proxy.core.rollback.verdicts import ALL, Critical, Judgement, Segment, Verdict
from proxy.core.rollback.words import verdict_words
from proxy.core.toggles import Scope, Toggles

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


def toggles_words(toggles: Toggles, was: Layers, now: Layers) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
    """What holds otherwise than before under the operator's toggles: before, and after, each by the toggle
    and whom it is for.
    """
    found = changes(toggles, was, now)
    places = [_place(it) for it in found]
    return (
        {place: it.before for place, it in zip(places, found, strict=True)},
        {place: it.after for place, it in zip(places, found, strict=True)},
    )


def _place(it: Change) -> str:
    parts = [it.toggle]
    if it.scope != Scope():
        parts.append(scope_words(it.scope))
    if (it.low, it.high) != (0, BUCKETS):
        parts.append(f"buckets {it.low} to {it.high - 1}")
    return " ".join(parts)


def wrong(judgements: Iterable[Judgement]) -> tuple[str, ...]:
    """All that speaks against what is served now, the worst first."""
    known = tuple(judgements)
    criticals = dict.fromkeys(critical_words(it) for view in known for it in view.criticals)
    breaches = [it for view in known for it in view.verdicts if it.answer == "breach"]
    breaches.sort(key=lambda it: (it.priority, it.shared, it.segment != ALL))
    return (*criticals, *dict.fromkeys(map(says, breaches)))
