"""What is asked for is read once, checked, and told on to the sources."""

import pytest
from msgspec.structs import replace

from proxy.core.asks import Ask, neighbours_query, parse_ask
from proxy.core.popularity import NO_FILTERS, Filters
from proxy.errors import Refusal


def ask(query: bytes = b"", user: bytes = b"u1") -> Ask:
    return parse_ask(query, user, k_default=50, k_max=200)


class TestAsk:
    def test_the_usual_one(self):
        assert ask(b"user_id=u1&k=10") == Ask("u1", 10, NO_FILTERS, b"user_id=u1&k=10")

    def test_k_has_a_default(self):
        assert ask().k == ask(b"user_id=u1").k == ask(b"x=1").k == 50

    def test_the_user_is_the_one_that_identity_found(self):
        asked = ask(b"user_id=other&k=5&x=1", "ü&k=9".encode())
        assert asked.user_id == "ü&k=9"
        assert asked.query == b"user_id=%C3%BC%26k%3D9&k=5&x=1"

    def test_all_filters(self):
        asked = ask(
            b"k=5&genres=Drama,,+Romantic%20Comedy&providers=HBO&providers=hulu&year_min=1990&year_max=2000"
        )
        assert asked.filters == Filters(
            frozenset({"drama", "romantic comedy"}), frozenset({"hbo", "hulu"}), 1990, 2000
        )

    def test_empty_filters_are_none(self):
        assert ask(b"k=5&genres=&providers=&year_min=&year_max=").filters == NO_FILTERS

    def test_sources_get_everything_else_as_it_came(self):
        asked = ask(b"genres=a%2Cb&user_id=x&lang=de&k=3&&flag&lang=en")
        assert asked.query == b"user_id=u1&k=3&genres=a%2Cb&lang=de&flag&lang=en"

    def test_the_quick_way_says_what_the_long_way_says(self):
        for query in (b"user_id=u1&k=7", b"k=7", b"user_id=u1", b""):
            quick, long = ask(query), ask(query + b"&genres=")
            assert quick == replace(long, query=quick.query)
            assert long.query == quick.query + b"&genres="

    @pytest.mark.parametrize(
        ("query", "named"),
        [
            (b"k=0", "k should be a whole number from 1 to 200"),
            (b"k=201", "k should"),
            (b"user_id=u1&k=999999999", "k should"),
            (b"k=99999999999999999999", "k should"),
            (b"k=-1", "k should"),
            (b"k=+5", "k should"),
            (b"k=5.0", "k should"),
            (b"k=ten", "k should"),
            (b"k=", "k should"),
            (b"k=%D9%A3", "k should"),
            (b"k=5&k=6", "k may be given once"),
            (b"year_min=new", "year_min should be a year"),
            (b"year_max=20000", "year_max should be a year"),
            (b"year_max=-5", "year_max should be a year"),
            (b"year_min=1&year_min=2", "year_min may be given once"),
            (b"year_min=2001&year_max=2000", "year_min should not be after year_max"),
            (b"providers=netflix,kino", "netflix, hulu, amazon, disney, hbo"),
            (b"genres=%FF", "genres should be UTF-8"),
            (b"genres=" + b",".join(b"g%d" % n for n in range(21)), "genres may hold 20"),
            (b"genres=" + b"g" * 65, "genres may hold 20 names of 64"),
        ],
    )
    def test_what_cannot_be_asked_is_named(self, query, named):
        with pytest.raises(Refusal) as refused:
            ask(query)
        assert (refused.value.code, refused.value.status) == ("bad_request", 400)
        assert named in refused.value.detail


class TestNeighboursQuery:
    """What the second round asks: providers hold, years and genres do not (level C)."""

    def test_filters_that_can_be_relaxed_are_left_out(self):
        asked = ask(
            b"k=3&genres=war&providers=hbo&year_min=1990&lang=de&year%5Fmax=2000&seeds=theirs&g%65nres=x"
        )
        assert neighbours_query(asked, ["a", "b"]) == b"user_id=u1&k=3&providers=hbo&lang=de&seeds=a,b"

    def test_seeds_are_few_and_can_be_told_apart(self):
        seeds = ["a,b", "x" * 65, "ü &", *(f"s{n}" for n in range(20))]
        query = neighbours_query(ask(b"k=3"), seeds)
        assert query == b"user_id=u1&k=3&seeds=%C3%BC%20%26," + b",".join(b"s%d" % n for n in range(9))

    def test_without_any_the_user_is_all_there_is_to_go_by(self):
        assert neighbours_query(ask(b"k=3"), []) == b"user_id=u1&k=3&seeds="
