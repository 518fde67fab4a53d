"""One ranking of what the sources offer (facts 2.1)."""

from collections.abc import Mapping, Sequence
from math import isinf
from typing import Any

from proxy.core.candidates import Candidate

Ranked = tuple[float, str, str, Mapping[str, Any]]
"""Minus the score (0…1), id, label and fields: sorts best first, then by id."""


def blend(alpha: float, cf: Sequence[Candidate] | None, content: Sequence[Candidate] | None) -> list[Ranked]:
    """One ranking of both sources: alpha · cf + (1 - alpha) · content, each normalised (facts 2.1).

    None stands for a source that is missing or broken; it and an empty one leave the other with
    weight 1. An item of one source only gets nothing for the other, and that source's label. Of an
    item of both, the richer fields are kept.
    """
    cf_weight, content_weight = (alpha, 1.0 - alpha) if cf and content else (1.0, 1.0)
    ranked: dict[str, Ranked] = {}
    candidates, low, span = _levelled(content or ())
    for key, score, fields in candidates:
        ranked[key] = (low - score) / span * content_weight, key, "content", fields
    candidates, low, span = _levelled(cf or ())
    for key, score, fields in candidates:
        minus = (low - score) / span * cf_weight
        other = ranked.get(key)
        if other is None:
            ranked[key] = minus, key, "cf", fields
        else:
            richer = other[3] if len(other[3]) > len(fields) else fields
            ranked[key] = minus + other[0], key, "hybrid", richer
    return sorted(ranked.values())


def ranking(label: str, candidates: Sequence[Candidate] | None) -> list[Ranked]:
    """One source alone, normalised as in a blend, every item under `label`."""
    candidates, low, span = _levelled(candidates or ())
    return sorted(((low - score) / span, key, label, fields) for key, score, fields in candidates)


def _levelled(candidates: Sequence[Candidate]) -> tuple[Sequence[Candidate], float, float]:
    """The candidates, their lowest score and the span above it, which is never 0 or infinite (facts 2.1).

    Scores that do not differ become 1 above a lowest of 0; those too far apart for a double are halved.
    """
    low = high = candidates[0][1] if candidates else 0.0
    for _, score, _ in candidates:  # a third of what a list for min and max takes
        if score < low:
            low = score
        elif score > high:
            high = score
    span = high - low
    if not span:
        return [(key, 1.0, fields) for key, _, fields in candidates], 0.0, 1.0
    if isinf(span):
        return [(key, score / 2, fields) for key, score, fields in candidates], low / 2, high / 2 - low / 2
    return candidates, low, span
