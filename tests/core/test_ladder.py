"""The ladder, rung by rung (facts 1): what comes before what, under which label, at which level."""

import pytest
from saying import said

from proxy.core.asks import Ask
from proxy.core.blending import ranking
from proxy.core.ladder import climb, sift
from proxy.core.popularity import NO_FILTERS, Filters, Popularity

WAR_90S_HBO = Filters(frozenset({"war"}), frozenset({"hbo"}), 1990, 1999)
FITS = {"year": 1995, "genres": ["War"], "providers": ["HBO"]}
OLD = {**FITS, "year": 1950}
COMEDY = {**FITS, "genres": ["Comedy"]}
OLD_COMEDY = {**OLD, "genres": ["Comedy"]}
ELSEWHERE = {**FITS, "providers": ["hulu"]}


def asked(k, filters=WAR_90S_HBO):
    return Ask("u1", k, filters, b"")


def offered(ask, label, **films):
    """One round: films best first."""
    rows = [(key, -n, {"title": key, **fields}) for n, (key, fields) in enumerate(films.items())]
    return sift(ranking(label, said(rows)), ask, Popularity(()).catalogue)


def answered(ask, first, second=None, ceiling="A"):
    rounds = [offered(ask, "cf", **first)] + ([] if second is None else [offered(ask, "content", **second)])
    items, level = climb(ask.k, rounds, ceiling)
    assert [item.rank for item in items] == list(range(1, len(items) + 1))
    return [(item.id, item.source) for item in items], level


EVERY_RUNG_FIRST = {"oc1": OLD_COMEDY, "x1": ELSEWHERE, "o1": OLD, "c1": COMEDY, "a": FITS}
EVERY_RUNG_SECOND = {"c2": COMEDY, "o2": OLD, "x2": ELSEWHERE, "b": FITS}
ORDER = [
    ("a", "cf", "A"), ("b", "content", "B"), ("o1", "pruned", "C"), ("o2", "pruned", "C"),
    ("oc1", "pruned", "C"), ("c1", "pruned", "C"), ("c2", "pruned", "C"),
]  # fmt: skip


@pytest.mark.parametrize("k", range(1, 12))
def test_rungs_come_in_their_order_and_the_lowest_is_the_level(k):
    """Sources, neighbours, by year, by genres; with another provider: never."""
    items, level = answered(asked(k), EVERY_RUNG_FIRST, EVERY_RUNG_SECOND)
    assert items == [(key, source) for key, source, _ in ORDER[:k]]
    assert level == ORDER[:k][-1][2]


def test_without_a_second_round_its_rungs_are_empty():
    items, level = answered(asked(9), EVERY_RUNG_FIRST)
    assert (items, level) == (
        [("a", "cf"), ("o1", "pruned"), ("oc1", "pruned"), ("c1", "pruned")],
        "C",
    )


@pytest.mark.parametrize("ceiling", "ABC")
@pytest.mark.parametrize("k", range(1, 8))
def test_a_ceiling_is_the_best_that_can_be_said(k, ceiling):
    _, level = answered(asked(k), EVERY_RUNG_FIRST, EVERY_RUNG_SECOND, ceiling)
    assert level == max(ceiling, ORDER[k - 1][2])


def test_nothing_at_all_is_nothing():
    assert climb(5, [], "A") == ([], "A")
    assert answered(asked(5), {}, {}) == ([], "A")


def test_an_id_counts_where_it_stands_first():
    items, level = answered(
        asked(9), {"a": FITS, "o": OLD}, {"o": FITS, "a": COMEDY, "b": FITS, "z": OLD_COMEDY}
    )
    assert items == [("a", "cf"), ("o", "content"), ("b", "content"), ("z", "pruned")]
    assert level == "C"


def test_what_was_offered_twice_leaves_room_for_what_was_not():
    """A round holds k of each at most, and that is enough whatever of it was taken before."""
    first = {f"a{n}": FITS for n in range(3)}
    items, _ = answered(asked(5), first, first | {f"b{n}": FITS for n in range(9)})
    assert [key for key, _ in items] == ["a0", "a1", "a2", "b0", "b1"]


@pytest.mark.parametrize(
    ("filters", "rescued"),
    [
        (Filters(year_min=1990), {"o1": "pruned"}),
        (Filters(genres=frozenset({"war"})), {"c1": "pruned"}),
        (Filters(providers=frozenset({"hbo"})), {}),
        (NO_FILTERS, {}),
        (Filters(), {}),
    ],
)
def test_only_filters_that_were_asked_for_are_relaxed(filters, rescued):
    first = {"o1": OLD, "c1": COMEDY, "x1": ELSEWHERE}
    items, level = answered(asked(9, filters), first)
    assert {key: source for key, source in items if source == "pruned"} == rescued
    assert level == ("C" if rescued else "A")
    assert ("x1" in dict(items)) is (not filters.providers)


def test_providers_that_nobody_knows_break_no_filter():
    unknown = {key: value for key, value in OLD.items() if key != "providers"}
    assert answered(asked(2), {"u": unknown}) == ([("u", "pruned")], "C")


def test_scores_never_rise_and_keep_their_order_within_a_rung():
    ask = asked(9)
    rounds = [offered(ask, "cf", o1=OLD, a=FITS, c1=COMEDY), offered(ask, "content", b=FITS, o2=OLD, b2=FITS)]
    items, _ = climb(9, rounds, "A")
    assert [(item.id, item.score) for item in items] == [
        ("a", 0.5), ("b", 0.5), ("b2", 0.0), ("o1", 0.0), ("o2", 0.0), ("c1", 0.0),
    ]  # fmt: skip
