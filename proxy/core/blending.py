"""One ranking of what the sources offer (facts 2.1)."""

from math import isinf
from typing import NamedTuple

from proxy.core.candidates import Candidate, Candidates

_NONE: Candidates = {}


class Ranking(NamedTuple):
    """What sources offer, ranked by score; of equal scores the lower id comes first."""

    scores: dict[str, float]  # 0…1, by id
    one: Candidates
    other: Candidates
    labels: tuple[str, str, str]
    """Of an item of `one` alone, of `other` alone, of both."""

    def ids(self) -> list[str]:
        """All, best first."""
        ids = sorted(self.scores)
        ids.sort(key=self.scores.__getitem__, reverse=True)  # stable: comparing tuples takes longer
        return ids


def blend(alpha: float, cf: Candidates | None, content: Candidates | None) -> Ranking:
    """One ranking of both sources: alpha · cf + (1 - alpha) · content, each normalised (facts 2.1).

    None stands for a source that is missing or broken; it and an empty one leave the other with
    weight 1. An item of one source only gets nothing for the other, and that source's label.
    """
    cf, content = cf or _NONE, content or _NONE
    cf_weight, content_weight = (alpha, 1.0 - alpha) if cf and content else (1.0, 1.0)
    scores: dict[str, float] = {}
    candidates, low, span = _levelled(content)
    for key, candidate in candidates.items():
        scores[key] = (candidate.score - low) / span * content_weight
    candidates, low, span = _levelled(cf)
    for key, candidate in candidates.items():
        score = (candidate.score - low) / span * cf_weight
        scores[key] = score + scores[key] if key in scores else score
    return Ranking(scores, cf, content, ("cf", "content", "hybrid"))


def ranking(label: str, candidates: Candidates | None) -> Ranking:
    """One source alone, normalised as in a blend, every item under `label`."""
    one, low, span = _levelled(candidates or _NONE)
    scores = {key: (candidate.score - low) / span for key, candidate in one.items()}
    return Ranking(scores, candidates or _NONE, _NONE, (label, "", ""))


def _levelled(candidates: Candidates) -> tuple[Candidates, float, float]:
    """The candidates, their lowest score and the span above it, which is never 0 or infinite (facts 2.1).

    Scores that do not differ come to 1; those too far apart for a double are halved.
    """
    low = high = next(iter(candidates.values())).score if candidates else 0.0
    for candidate in candidates.values():  # a third of what a list for min and max takes
        score = candidate.score
        if score < low:
            low = score
        elif score > high:
            high = score
    span = high - low
    if not span:
        return (candidates, 0.0, low) if low else (candidates, -1.0, 1.0)
    if isinf(span):
        halved = {key: Candidate(key, it.score / 2) for key, it in candidates.items()}
        return halved, low / 2, high / 2 - low / 2
    return candidates, low, span
