"""The ladder: what fills an answer, best first (facts 1).

**A** what the sources offer, **B** neighbours of that, asked for in a second round, **C** what breaks the
filters on year, then on genres. An item that is known to be with none of the wanted providers is on no
rung. What is still missing is popularity's (**D**).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from proxy.core.asks import Ask
from proxy.core.blending import Ranking
from proxy.core.candidates import Candidate, NoTexts, names, texts
from proxy.core.policy import Film
from proxy.core.popularity import NO_FILTERS, Filters, Item
from proxy.core.toggles import Level

KEPT, YEAR, GENRES, PROVIDERS = range(4)
"""How far filters have to be relaxed to let an item pass: not at all, by year, by genres too, or further."""


class Offered(Struct, gc=False):
    """What one round of asking offers that can be shown, best first, at most k of each."""

    kept: list[Item]
    year: Sequence[Item] = ()
    genres: Sequence[Item] = ()


class Rung(NamedTuple):
    level: Level
    round: int
    relaxed: int


LADDER = (
    Rung("A", 0, KEPT),
    Rung("B", 1, KEPT),
    Rung("C", 0, YEAR),
    Rung("C", 1, YEAR),
    Rung("C", 0, GENRES),
    Rung("C", 1, GENRES),
)
"""From the top down; an id that occurs again counts where it stands first."""


def sift(ranked: Ranking, ask: Ask, catalogue: Mapping[str, Film]) -> Offered:
    """What of `ranked` can be shown, by how far the filters have to be relaxed for it.

    Title, year and genres are what the first source that offers the item says, or else the second one, or
    else the catalogue: who knows all three. An item of which nobody does is left out. Filters hold by
    these; providers that none of them knows are no reason to leave an item out.
    """
    items: list[Item] = []
    k, filters = ask.k, ask.filters
    pruned: tuple[list[Item], ...] = () if filters is NO_FILTERS else ([], [])
    rank = 1
    for minus, key, candidate, source in ranked.rows:
        title, year = candidate.title, candidate.year
        genres: Sequence[str] | None
        try:
            genres = texts(candidate.genres)
        except NoTexts:
            genres = None
        if title is None or year is None or genres is None:
            known = _known(ranked.other.by_id.get(key), catalogue.get(key))
            if known is None:
                continue
            title, year, genres = known
        item = Item(rank, key, 0.0 - minus, source, title, year, genres)  # not -0.0
        if filters is not NO_FILTERS:
            relaxed = _relaxed(filters, item, ranked, catalogue.get(key))
            if relaxed:
                if relaxed < PROVIDERS and len(pruned[relaxed - 1]) < k:
                    item.source = "pruned"
                    pruned[relaxed - 1].append(item)
                continue
        items.append(item)
        if rank == k:
            break
        rank += 1
    return Offered(items, *pruned)


def climb(k: int, rounds: Sequence[Offered], ceiling: Level) -> tuple[list[Item], Level]:
    """At most k items of the rounds, and the level they make: that of the lowest rung that gave one.

    `ceiling` is the best that can be said. Scores never rise on the way down: each rung's are those
    within its source, times the last one above it. The lists of `rounds` are used up.
    """
    items = rounds[0].kept if rounds else []
    level = ceiling
    if len(items) == k:
        return items, level
    taken = {item.id for item in items}
    for rung in LADDER[1:]:
        if rung.round >= len(rounds):
            continue
        above = items[-1].score if items else 1.0
        offered = rounds[rung.round]
        for item in (offered.kept, offered.year, offered.genres)[rung.relaxed]:
            if len(items) == k:
                return items, level
            if item.id in taken:
                continue
            taken.add(item.id)
            items.append(item)
            item.rank = len(items)
            item.score *= above
            level = max(level, rung.level)
    return items, level


def _known(candidate: Candidate | None, film: Film | None) -> tuple[str, int, Sequence[str]] | None:
    """Title, year and genres from the first of these who knows them all."""
    if candidate is not None:
        title, year, genres = candidate.title, candidate.year, names(candidate.genres)
        if title is not None and year is not None and genres is not None:
            return title, year, genres
    return None if film is None else (film.title, film.year, film.genres)


def _relaxed(filters: Filters, item: Item, ranked: Ranking, film: Film | None) -> int:
    wanted_genres, wanted_providers, year_min, year_max = filters
    if wanted_providers:
        providers = ranked.one.providers(item.id)
        if providers is None:
            providers = ranked.other.providers(item.id)
        told = providers if providers is not None or film is None else film.providers
        if told is not None and wanted_providers.isdisjoint(map(str.casefold, told)):
            return PROVIDERS
    if wanted_genres and wanted_genres.isdisjoint(map(str.casefold, item.genres)):
        return GENRES
    if (year_min is not None and item.year < year_min) or (year_max is not None and item.year > year_max):
        return YEAR
    return KEPT
