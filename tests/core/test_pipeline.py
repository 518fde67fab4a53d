"""Every combination of modes, levels, faults of sources, filters and k, through the real pure pipeline."""

from itertools import product

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline import check, read, run

from proxy.core.asks import Ask, parse_ask
from proxy.core.decide import Decider
from proxy.core.decision import KILLED, Decision
from proxy.core.experiment import Experiment
from proxy.core.identity import Who
from proxy.core.policy import Film, Route, Sources
from proxy.core.popularity import Popularity
from proxy.core.routing import SALT, bucket
from proxy.core.scopes import Scopes
from proxy.core.toggles import COHORT_ALPHAS, Toggles

ROUTE = Route(
    name="films", path="/f", kind="recommend", sources=Sources(cf="a", content="b", control="c"), alpha=0.6
)
FILMS = tuple(
    Film(
        id=f"p{n}", title=f"P{n}", year=1990 + n, genres=("Drama",) if n % 2 else ("War",),
        providers=("netflix",) if n % 3 else ("hbo",), score=1 - n / 10,
    )
    for n in range(9)
)  # fmt: skip
LIST = Popularity(FILMS)


def film(key: str, score: float, **more: object) -> dict[str, object]:
    return {
        "id": key,
        "score": score,
        "title": key,
        "year": 1995,
        "genres": ["Drama"],
        "providers": ["hbo"],
    } | more


def many(prefix: str) -> list[dict[str, object]]:
    """All that a filter can tell apart, best first."""
    return [
        film(f"{prefix}0", 9), film(f"{prefix}1", 8, year=1950), film(f"{prefix}2", 7, genres=["War"]),
        film(f"{prefix}3", 6, providers=["hulu"]), film(f"{prefix}4", 5, year=1950, genres=["War"]),
        film("p1", 4), film(f"{prefix}5", 3, providers=None), film("shared", 2),
    ]  # fmt: skip


def documents(prefix: str) -> dict[str, list[dict[str, object]]]:
    """What a source may offer that is JSON."""
    bare = [{"id": "p2", "score": 1}, {"id": "nobody", "score": 2}, {"id": "p3", "score": 1}]
    return {
        "whole": many(prefix),
        "short": [film(f"{prefix}0", 1)],
        "breaks filters": [film(f"{prefix}8", 2, year=1900, genres=[]), film("p4", 1, year=1901)],
        "bare ids": bare,
        "twice": [film("t", 1), film("t", 5), film("u", 1), film("u", 0)],
        "odd fields": [film("o", 1, title=7), film("p5", 1, year="1999"), film("p6", 0, genres="x")],
        "empty": [],
        "again and again": [film("t", 1)] * 3,
        "wrong types": [film("w", 1), {"id": 7, "score": 1}],
        "NaN in words": [film("w", 1), film("v", "NaN")],
    }


RAW = {
    "late": None,
    "error and empty": b'{"items":[],"error":"no model"}',
    "no JSON": b"<html>",
    "NaN": b'{"items":[{"id":"a","score":NaN}]}',
    "huge number": b'{"items":[{"id":"a","score":1e999}]}',
    "nested": b'{"items":' + b"[" * 1500 + b"]" * 1500 + b"}",
    "no UTF-8": b'{"items":[{"id":"\xff","score":1}]}',
}
CF, CONTENT, NEAR, CONTROL = (
    {fault: read(orjson.dumps({"items": offered})) for fault, offered in documents(prefix).items()}
    | {fault: read(body) for fault, body in RAW.items()}
    for prefix in ("f", "c", "n", "k")
)
KINDS = {"whole", "short", "breaks filters", "bare ids", "twice", "odd fields", "empty", "late"}
"""Of what a source can say the kinds that come out different: every other fault is as `late`."""

QUERIES = (
    b"", b"genres=drama", b"year_min=1990", b"providers=hbo",
    b"genres=drama&year_min=1990&providers=hbo,hulu", b"genres=polka&year_max=1800",
)  # fmt: skip
KS = (1, 3, 7, 20)
ASKS = [parse_ask(b"k=%d&%b" % asked, b"u1", k_default=5, k_max=50) for asked in product(KS, QUERIES)]


def decisions() -> dict[Decision, dict[str, object]]:
    """Every decision that any toggles, arm and cohort can lead to, and toggles that do."""
    found: dict[Decision, dict[str, object]] = {}
    experiments = Experiment(), Experiment(name="hybrid_v1")
    grid = product(
        (None, "bucket_gate", "content_only", "collab_only", "hybrid_default"), (False, True), (False, True),
        "ABCD", (None, 0.0, 1.0), (0, 100), ("cold", "prewarm", "warm_only"), (False, True), experiments,
        ("", *COHORT_ALPHAS),
    )  # fmt: skip
    for mode, no_cf, no_content, level, alpha, percent, cache, kill, experiment, cohort in grid:
        named = {
            "policy_mode": mode, "disable_cf": no_cf, "disable_content": no_content, "alpha_override": alpha,
            "candidate_fallback_level": level, "exposure_percent": float(percent), "cache_mode": cache,
            "kill_switch": kill,
        }  # fmt: skip
        toggles = Toggles(**named)
        decider = Decider(ROUTE, toggles, experiment, Scopes(toggles.scope, toggles.rules))
        for user in (b"u1",) if decider.fixed else (b"u1", b"u2", b"u3", b"u4"):
            who = Who(user, b"", cohort.encode(), b"")
            decision = decider.fixed or decider.decide(who, user, bucket(user, SALT))
            found.setdefault(decision, named)
    return found


def _way(decision: Decision) -> tuple[object, ...]:
    """What of a decision the pipeline looks at, but for what it only repeats."""
    alpha = decision.alpha if len(decision.sources) > 1 else None
    return decision.sources, alpha, decision.level, decision.expands, decision.exposed


DECISIONS = decisions()
WAYS = list({_way(decision): decision for decision in DECISIONS}.values())


def test_no_toggles_lead_anywhere_but_here():
    """The ways to serve a request, of all toggles, arms and cohorts."""
    ways = {(" ".join(it.sources), it.level, it.expands, it.exposed) for it in DECISIONS}
    assert ways == {
        ("cf content", "A", True, True),
        *((source, level, True, True) for source in ("cf", "content") for level in "ABC"),
        *(("cf", level, False, True) for level in "ABC"),
        ("", "D", False, True),
        ("control", "A", False, False),
    }
    assert KILLED in DECISIONS
    for decision, toggles in DECISIONS.items():
        assert not (toggles["disable_content"] and decision.expands)


def test_every_fault_of_a_source_is_one_of_these_kinds():
    """What is no answer of a source is as if it had never come, whatever is wrong with it."""
    for sources in (CF, CONTENT, NEAR, CONTROL):
        for fault, items in sources.items():
            assert (items is None) is (fault not in KINDS or fault == "late"), fault


@pytest.mark.parametrize(
    "decision", WAYS, ids=lambda it: f"{'+'.join(it.sources) or it.policy} {it.level}{it.alpha:.1f}"
)
def test_every_combination_is_exactly_k_unique_whole_items(decision):
    """Modes and levels, what each source says, filters, k; see `check`."""
    cf = KINDS if "cf" in decision.sources else {"late"}
    content = KINDS if "content" in decision.sources else {"late"}
    near = {"whole", "breaks filters", "empty", "late"} if decision.expands else {"late"}
    control = KINDS if "control" in decision.sources else {"late"}
    for at_cf, at_content, at_near, at_control in product(cf, content, near, control):
        said = {
            "cf": CF[at_cf], "content": CONTENT[at_content], "neighbours": NEAR[at_near],
            "control": CONTROL[at_control],
        }  # fmt: skip
        for ask in ASKS:
            check(run(decision, ask, said, LIST), decision, ask, said, LIST)


# -- beyond the table

values = st.none() | st.booleans() | st.integers(-5, 3000) | st.floats(allow_nan=False) | st.text(max_size=3)
keys = st.sampled_from([*(f"p{n}" for n in range(9)), "x", "y", "z"])
genres = st.lists(st.sampled_from(["Drama", "War", "drama"]), max_size=2) | st.lists(values, max_size=1)
items = st.fixed_dictionaries(
    {"id": keys, "score": st.integers(-9, 9) | st.floats(-1e308, 1e308)},
    optional={
        "title": st.text(max_size=3) | values,
        "year": st.integers(1985, 2005) | values,
        "genres": genres | values,
        "providers": st.lists(st.sampled_from(["hbo", "HULU", "netflix"]), max_size=2) | values,
        "extra": values,
    },
)  # fmt: skip
bodies = (
    st.none()
    | st.lists(items, max_size=12).map(lambda found: orjson.dumps({"items": found}))
    | st.binary(max_size=9)
)
asks = st.builds(
    lambda k, genres, providers, years: parse_ask(
        b"k=%d&genres=%b&providers=%b&year_min=%b&year_max=%b"
        % (k, b",".join(genres), b",".join(providers), *years),
        b"u1", k_default=5, k_max=50,
    ),
    st.integers(1, 30),
    st.sets(st.sampled_from([b"drama", b"war", b"polka"]), max_size=2),
    st.sets(st.sampled_from([b"hbo", b"hulu"]), max_size=2),
    st.sampled_from([(b"", b""), (b"1995", b""), (b"", b"1994"), (b"1992", b"1996")]),
)  # fmt: skip


@given(
    st.sampled_from(list(DECISIONS)), asks, bodies, bodies, bodies, bodies,
    st.lists(st.sampled_from(FILMS), max_size=9).map(Popularity),
)  # fmt: skip
def test_whatever_sources_say_the_contract_holds(
    decision: Decision,
    ask: Ask,
    cf: bytes,
    content: bytes,
    near: bytes,
    control: bytes,
    popularity: Popularity,
):
    said = {"cf": read(cf), "content": read(content), "neighbours": read(near), "control": read(control)}
    check(run(decision, ask, said, popularity), decision, ask, said, popularity)
