"""The popularity list answers any ask with exactly k films while it has them."""

from proxy.core.policy import Film
from proxy.core.popularity import NO_FILTERS, Filters, Popularity


def film(key: str, year: int, genres: str, providers: str = "", score: float = 0.5) -> Film:
    return Film(
        id=key,
        title=f"Film {key}",
        year=year,
        genres=tuple(genres.split()),
        providers=tuple(providers.split()),
        score=score,
    )


LIST = Popularity(
    [
        film("a", 1990, "Drama", "netflix"),
        film("b", 2000, "Comedy", "netflix hulu"),
        film("c", 2010, "Drama Comedy", "hulu"),
        film("d", 2005, "Drama", "netflix"),
        film("e", 1995, "Horror", "netflix"),
        film("f", 2020, "Drama"),
    ]
)


def ids(k: int, filters: Filters = NO_FILTERS, exclude: tuple[str, ...] = ()) -> str:
    return "".join(found.id for found in LIST.top(k, filters, exclude))


def names(*values: str) -> frozenset[str]:
    return frozenset(values)


def test_without_filters_it_is_the_list_in_its_order():
    assert ids(3) == "abc"
    assert ids(6) == "abcdef"


def test_it_gives_fewer_only_when_the_catalogue_has_no_more():
    assert ids(100) == "abcdef"
    assert ids(6, exclude=("a", "c", "unknown")) == "bdef"
    assert Popularity(()).top(5) == []


def test_all_filters_are_kept_while_they_suffice():
    assert ids(2, Filters(genres=names("drama"))) == "ac"
    assert ids(2, Filters(providers=names("hulu"))) == "bc"
    assert ids(2, Filters(genres=names("drama"), providers=names("netflix"), year_min=1990)) == "ad"


def test_one_match_within_genres_or_providers_is_enough_and_case_does_not_matter():
    assert ids(3, Filters(genres=names("comedy", "horror"))) == "bce"


def test_years_are_inclusive_and_may_be_open():
    assert ids(3, Filters(year_min=2000, year_max=2010)) == "bcd"
    assert ids(2, Filters(year_min=2010)) == "cf"
    assert ids(2, Filters(year_max=1995)) == "ae"
    assert ids(1, Filters(year_min=1991, year_max=1994)) == "a"  # nothing in it: the year is given up


def test_the_ladder_gives_up_years_then_genres_then_providers():
    asked = Filters(genres=names("drama"), providers=names("netflix"), year_min=2000)
    assert ids(6, asked) == "dabecf"
    assert ids(3, asked) == "dab"
    assert ids(3, asked, exclude=("d", "b")) == "aec"


def test_unknown_names_match_nothing_and_the_ladder_goes_on():
    assert ids(2, Filters(genres=names("western"), providers=names("hbo"))) == "ab"


def test_of_films_with_one_id_the_first_counts():
    twice = Popularity([film("a", 1990, "Drama"), film("a", 2000, "Horror"), film("b", 2000, "Drama")])
    assert [found.year for found in twice.top(5)] == [1990, 2000]
    assert len(twice) == 2
    assert twice.catalogue["a"].year == 1990
