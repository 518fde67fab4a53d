"""One ranking of what the sources offer (facts 2.1)."""

from math import inf, isinf
from operator import attrgetter

from msgspec import Struct, structs

from proxy.core.candidates import MAX_CANDIDATES, NO_CANDIDATES, Candidate, Candidates

_ALL = 2 * MAX_CANDIDATES


Ranked = tuple[float, str, Candidate, str]
"""Minus the score (0…1), id, what the first source says of it, and label: sorts best first, then by id."""


class Ranking(Struct, gc=False):
    """What sources offer."""

    rows: list[Ranked]
    """Best first."""
    one: Candidates
    other: Candidates

    def ids(self) -> list[str]:
        return [key for _, key, _, _ in self.rows]


def blend(alpha: float, cf: Candidates | None, content: Candidates | None, most: int = _ALL) -> Ranking:
    """One ranking of both sources: alpha · cf + (1 - alpha) · content, each normalised (facts 2.1).

    None stands for a source that is missing or broken; it and an empty one leave the other with
    weight 1. An item of one source only gets nothing for the other, and that source's label. Who looks at
    no more than the best `most` spares the effort for what cannot be among them: it is left out.
    """
    cf, content = cf or NO_CANDIDATES, content or NO_CANDIDATES
    cf_weight, content_weight = (alpha, 1.0 - alpha) if cf.items and content.items else (1.0, 1.0)
    rows: list[Ranked] = []
    ours, low, span, least = _levelled(cf.items, cf_weight, most)
    theirs, their_low, their_span, their_least = _levelled(content.items, content_weight, most)
    known = content.by_id if theirs is content.items else {it.id: it for it in theirs}
    above = inf
    for candidate in ours:
        key, score = candidate.id, candidate.score
        if score > above:
            return blend(alpha, _in_order(cf), content, most)
        above = score
        other = known.get(key)
        if other is not None:
            minus = (low - score) / span * cf_weight
            minus += (their_low - other.score) / their_span * content_weight
            rows.append((minus, key, candidate, "hybrid"))
        elif score >= least:
            rows.append(((low - score) / span * cf_weight, key, candidate, "cf"))
    known = cf.by_id
    above = inf
    for candidate in theirs:
        key, score = candidate.id, candidate.score
        if score > above:
            return blend(alpha, cf, _in_order(content), most)
        above = score
        if score >= their_least and key not in known:
            rows.append(((their_low - score) / their_span * content_weight, key, candidate, "content"))
    rows.sort()
    return Ranking(rows, cf, content)


def ranking(label: str, candidates: Candidates | None) -> Ranking:
    """One source alone, normalised as in a blend, every item under `label`."""
    candidates = _in_order(candidates or NO_CANDIDATES)
    items, low, span, _ = _levelled(candidates.items, 1.0, _ALL)
    rows = [((low - it.score) / span, it.id, it, label) for it in items]
    rows.sort()
    return Ranking(rows, candidates, NO_CANDIDATES)


def _in_order(candidates: Candidates) -> Candidates:
    """The same, best first, as most sources give them anyway."""
    items = sorted(candidates.items, key=attrgetter("score"), reverse=True)
    return structs.replace(candidates, items=items)


def _levelled(
    candidates: list[Candidate], weight: float, most: int
) -> tuple[list[Candidate], float, float, float]:
    """The candidates, which stand best first; their lowest score and the span above it, which is never 0 or
    infinite (facts 2.1); and the score below which so many of them are better by more than doubles round.

    Scores that do not differ come to 1; those too far apart for a double are halved.
    """
    if not candidates:
        return candidates, 0.0, 1.0, inf
    low, high = candidates[-1].score, candidates[0].score
    span = high - low
    if not span:
        return (candidates, 0.0, low, -inf) if low else (candidates, -1.0, 1.0, -inf)
    if isinf(span):
        halved = [structs.replace(it, score=it.score / 2) for it in candidates]
        return halved, low / 2, high / 2 - low / 2, -inf
    if len(candidates) <= most or weight <= _ROUNDING:
        return candidates, low, span, -inf
    return candidates, low, span, candidates[most - 1].score - span * _ROUNDING


_ROUNDING = 1e-6
