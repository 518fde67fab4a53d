"""What a source answers: candidates, believed as far as their contract goes (contract, Recommend route)."""

from collections.abc import Mapping
from typing import Any

import orjson

MAX_CANDIDATES = 10_000

Candidate = tuple[str, float, Mapping[str, Any]]
"""Id, score as the source gave it, and all fields of the item as they came."""


class ContractBroken(ValueError):
    """A source answered something that is not what sources answer (contract, Recommend route)."""


def parse_candidates(body: bytes) -> list[Candidate]:
    """The candidates of a source's answer `{"items": [{"id", "score", …}, …]}`, without repeated ids.

    Raises `ContractBroken` for anything else, also for an empty list beside an `error` (facts 1,
    pitfall). An empty list alone is an answer: nothing to recommend.
    """
    try:
        document = orjson.loads(body)  # refuses NaN, Infinity and what is too large for a double
    except orjson.JSONDecodeError as error:
        raise ContractBroken("no JSON") from error
    items = document.get("items") if type(document) is dict else None
    if type(items) is not list:
        raise ContractBroken("no list of items")
    if len(items) > MAX_CANDIDATES:
        raise ContractBroken(f"more than {MAX_CANDIDATES} items")
    if not items and "error" in document:
        raise ContractBroken("an error with an empty list")
    candidates: dict[str, Candidate] = {}
    try:
        for item in items:
            key, score = item["id"], item["score"]
            if type(key) is not str or not key:
                raise ContractBroken("an id that is no text")
            if type(score) is not float:
                if type(score) is not int:
                    raise ContractBroken("a score that is no number")
                score = float(score)
            if key not in candidates:
                candidates[key] = key, score, item
    except (KeyError, TypeError) as error:
        raise ContractBroken("an item without id and score") from error
    return list(candidates.values())
