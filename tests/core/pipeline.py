"""The pure pipeline as the data plane runs it, and what holds for every answer that comes out of it."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import orjson

from proxy.core.asks import Ask
from proxy.core.candidates import Candidates, ContractBroken, parse_candidates
from proxy.core.decision import Decision
from proxy.core.popularity import Popularity
from proxy.core.recommend import Answer, compose, first_round, second_round

Items = Candidates | None

LABELS = {"hybrid", "cf", "content", "control", "pruned", "popularity"}


def read(body: bytes | None) -> Items:
    """What is made of a source's answer; None: it never came, or is none."""
    if body is None:
        return None
    try:
        return parse_candidates(body)
    except ContractBroken:
        return None


def run(decision: Decision, ask: Ask, said: Mapping[str, Items], popularity: Popularity) -> Answer:
    """`said`: by kind of source, `neighbours` for the second round. What is not asked is not looked at."""
    asked = {kind: said[kind] for kind in decision.sources}
    failed = None in asked.values()
    rounds = []
    if asked:
        _, offered = first_round(decision, asked, ask, popularity.catalogue)
        rounds.append(offered)
        if decision.expands and len(offered.kept) < ask.k and asked.get("content", ()) is not None:
            rounds.append(second_round(said["neighbours"], ask, popularity.catalogue))
            failed = failed or said["neighbours"] is None
    return compose(
        request_id="r1",
        ask=ask,
        rounds=rounds,
        popularity=popularity,
        bucket=17,
        decision=decision,
        toggles_version=3,
        failed=failed,
    )


def check(
    answer: Answer, decision: Decision, ask: Ask, said: Mapping[str, Items], popularity: Popularity
) -> None:
    """The contract's recommend route, facts 1, 2.8, 2.10, 2.18 and 2.19."""
    document = orjson.loads(answer.body)
    items, metadata = document["items"], document["metadata"]
    ids = [item["id"] for item in items]
    k = ask.k

    # exactly k, unique, whole
    assert len(set(ids)) == len(ids)
    if len(ids) != k:
        assert len(ids) < k
        assert set(popularity.catalogue) <= set(ids), "something was left that could be shown"
    assert [item["rank"] for item in items] == list(range(1, len(ids) + 1))
    for item in items:
        assert item.keys() == {"rank", "id", "score", "source", "title", "year", "genres"}
        assert type(item["id"]) is str
        assert type(item["title"]) is str
        assert type(item["year"]) is int
        assert type(item["score"]) is float
        assert all(type(genre) is str for genre in item["genres"])
        assert item["source"] in LABELS

    # rungs come in their order, and what is no popularity keeps the wanted providers
    sources = [item["source"] for item in items]
    covered = [source for source in sources if source != "popularity"]
    assert sources == covered + ["popularity"] * (len(items) - len(covered))
    assert covered == sorted(covered, key=lambda source: source == "pruned")
    scores = [item["score"] for item in items[: len(covered)]]
    assert all(0 <= later <= sooner <= 1 for sooner, later in pairwise([1.0, *scores]))
    for item in items:
        _keeps_filters(item, ask, said, popularity)

    # what is said of it
    assert answer.covered == len(covered)
    assert answer.returned == len(items) == metadata["k_returned"]
    assert metadata["coverage"] == len(covered) / k
    assert metadata["level"] == answer.level >= decision.level
    assert (answer.level == "D") is (len(covered) < k)
    if "pruned" in covered:
        assert answer.level >= "C"
    elif len(covered) == k:
        assert answer.level in (decision.level, max(decision.level, "B"))
    assert answer.source == (sources[0] if sources else "")
    asked = [said[kind] for kind in decision.sources]
    if len(covered) < k or None in asked:
        assert answer.degraded
    assert metadata["degraded"] is answer.degraded
    assert {name: metadata[name] for name in ("arm", "exposed", "policy", "alpha")} == {
        "arm": decision.arm, "exposed": decision.exposed, "policy": decision.policy, "alpha": decision.alpha,
    }  # fmt: skip
    assert (document["k"], metadata["k_requested"], document["user_id"]) == (k, k, ask.user_id)

    # who is not asked is not in it
    if not decision.sources:
        assert not covered
    if not decision.exposed:
        assert set(covered) <= {"control"}
    else:
        assert "control" not in covered
    if "cf" not in decision.sources:
        assert not {"cf", "hybrid"} & set(covered)
    if "content" not in decision.sources:
        assert "hybrid" not in covered
        assert decision.expands or "content" not in covered


def _keeps_filters(item: dict[str, Any], ask: Ask, said: Mapping[str, Items], popularity: Popularity) -> None:
    filters = ask.filters
    source = item["source"]
    if source == "popularity":
        assert item["id"] in popularity.catalogue
        return
    found = [items for items in said.values() if items is not None and item["id"] in items.by_id]
    known = popularity.catalogue.get(item["id"])
    if filters.providers:
        allowed = []
        for items in found:
            on = items.providers(item["id"])
            if on is None and known is not None:
                on = known.providers
            allowed.append(on is None or bool({name.casefold() for name in on} & filters.providers))
        assert any(allowed), "with none of the wanted providers"
    year_fits = (filters.year_min is None or item["year"] >= filters.year_min) and (
        filters.year_max is None or item["year"] <= filters.year_max
    )
    genres_fit = not filters.genres or bool({genre.casefold() for genre in item["genres"]} & filters.genres)
    assert (source != "pruned") is (year_fits and genres_fit)
