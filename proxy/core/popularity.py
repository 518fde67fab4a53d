"""The popularity list: what a user gets when nothing better is there (ladder D of facts 1).

Films are numbered by their place in the list, and sets of films are integers with bit n for film n:
a filter is one `&`, the best k that are left are the k lowest bits. So a filtered answer costs the
same few microseconds whatever the catalogue's size and however rare the match.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from operator import or_
from typing import NamedTuple

from mmh3 import mmh3_32_uintdigest
from msgspec import Struct

from proxy.core.policy import Film


class Filters(NamedTuple):
    """What the user asked for. Within genres and within providers one match is enough; names are
    compared without regard to case and given casefolded; years are inclusive; empty or None: any.
    """

    genres: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    year_min: int | None = None
    year_max: int | None = None


NO_FILTERS = Filters()


class Popularity:
    """The list, best first, and the catalogue it makes. Of films with the same id the first counts."""

    def __init__(self, films: Iterable[Film]) -> None:
        self.catalogue: dict[str, Film] = {}
        for film in films:
            self.catalogue.setdefault(film.id, film)
        self._films = tuple(self.catalogue.values())
        self._all = (1 << len(self._films)) - 1
        self._number = {film.id: number for number, film in enumerate(self._films)}
        self._genres = _by_name((genre, n) for n, film in enumerate(self._films) for genre in film.genres)
        self._providers = _by_name((name, n) for n, film in enumerate(self._films) for name in film.providers)
        years: defaultdict[int, int] = defaultdict(int)
        for number, film in enumerate(self._films):
            years[film.year] |= 1 << number
        self._years = sorted(years)
        self._until = list(accumulate((years[year] for year in self._years), or_, initial=0))

    def __len__(self) -> int:
        return len(self._films)

    @cached_property
    def by_digest(self) -> Mapping[int, Sequence[str]]:
        """The ids by their digests."""
        found: defaultdict[int, list[str]] = defaultdict(list)
        for key in self.catalogue:
            found[digest(key)].append(key)
        return found

    def top(self, k: int, filters: Filters = NO_FILTERS, exclude: Collection[str] = ()) -> list[Film]:
        """The k best films without the excluded; fewer only when the catalogue has no more.

        Matches of all filters come first. Where they do not suffice, rungs of the ladder follow:
        without the years, then without genres (provider), then without providers (global).
        """
        left = self._all
        for film_id in exclude:
            number = self._number.get(film_id)
            if number is not None:
                left &= ~(1 << number)
        if filters == NO_FILTERS:
            return self._lowest(left, k)
        chosen: list[Film] = []
        genres = _any(self._genres, filters.genres, self._all)
        providers = _any(self._providers, filters.providers, self._all)
        for rung in (genres & providers & self._between(filters), genres & providers, providers, self._all):
            if len(chosen) == k:
                break
            chosen += self._lowest(left & rung, k - len(chosen))
            left &= ~rung
        return chosen

    def _between(self, filters: Filters) -> int:
        first, last = 0, len(self._years)
        if filters.year_min is not None:
            first = bisect_left(self._years, filters.year_min)
        if filters.year_max is not None:
            last = bisect_right(self._years, filters.year_max)
        return self._until[last] & ~self._until[first]

    def _lowest(self, numbers: int, k: int) -> list[Film]:
        films: list[Film] = []
        while numbers and len(films) < k:
            lowest = numbers & -numbers
            films.append(self._films[lowest.bit_length() - 1])
            numbers ^= lowest
        return films


def digest(key: str) -> int:
    """32 bits of an id, for who has to remember many."""
    return mmh3_32_uintdigest(key.encode(errors="surrogatepass"))


class Item(Struct, gc=False):
    """An item of the answer (contract, Recommend route)."""

    rank: int
    id: str
    score: float
    source: str
    title: str
    year: int
    genres: Sequence[str]


def popular_item(rank: int, film: Film) -> Item:
    """A film of the list as an item of the answer."""
    return Item(rank, film.id, film.score, "popularity", film.title, film.year, film.genres)


def _by_name(named: Iterable[tuple[str, int]]) -> dict[str, int]:
    sets: defaultdict[str, int] = defaultdict(int)
    for name, number in named:
        sets[name.casefold()] |= 1 << number
    return dict(sets)


def _any(sets: Mapping[str, int], names: Collection[str], unfiltered: int) -> int:
    """The union of the named sets; without names there is nothing to filter by."""
    if not names:
        return unfiltered
    found = 0
    for name in names:
        found |= sets.get(name, 0)
    return found
