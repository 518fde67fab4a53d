"""The ladder: what fills an answer, best first (facts 1).

**A** what the sources offer, **B** neighbours of that, asked for in a second round, **C** what breaks the
filters on year, then on genres. An item that is known to be with none of the wanted providers is on no
rung. What is still missing is popularity's (**D**).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from proxy.core.asks import Ask
from proxy.core.blending import Ranked
from proxy.core.policy import Film
from proxy.core.popularity import NO_FILTERS, Filters
from proxy.core.toggles import Level

Item = dict[str, Any]
"""An item of the answer (contract, Recommend route)."""

KEPT, YEAR, GENRES, PROVIDERS = range(4)
"""How far filters have to be relaxed to let an item pass: not at all, by year, by genres too, or further."""

_TEXT = frozenset((str,))


class Offered(NamedTuple):
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


def sift(ranked: Sequence[Ranked], ask: Ask, catalogue: Mapping[str, Film]) -> Offered:
    """What of `ranked` can be shown, by how far the filters have to be relaxed for it.

    Filters hold by what the item says of itself, or else the catalogue; providers that neither knows
    are no reason to leave an item out. One whose title, year or genres neither of the two knows is.
    """
    items: list[Item] = []
    k, filters = ask.k, ask.filters
    pruned: tuple[list[Item], ...] = () if filters is NO_FILTERS else ([], [])
    rank = 1
    for minus, key, source, fields in ranked:
        try:
            title, year, genres = fields["title"], fields["year"], fields["genres"]
            "".join(genres)  # a TypeError unless all are text
            complete = type(title) is str and type(year) is int and type(genres) is list
        except (KeyError, TypeError):
            complete = False
        if not complete:
            film = catalogue.get(key)
            if film is None:
                continue
            title, year, genres = film.title, film.year, film.genres
        item = {
            "rank": rank,
            "id": key,
            "score": 0.0 - minus,  # not -0.0
            "source": source,
            "title": title,
            "year": year,
            "genres": genres,
        }
        if filters is not NO_FILTERS:
            relaxed = _relaxed(filters, year, genres, fields, catalogue.get(key))
            if relaxed:
                if relaxed < PROVIDERS and len(pruned[relaxed - 1]) < k:
                    item["source"] = "pruned"
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
    taken = {item["id"] for item in items}
    for rung in LADDER[1:]:
        if rung.round >= len(rounds):
            continue
        above = items[-1]["score"] if items else 1.0
        for item in rounds[rung.round][rung.relaxed]:
            if len(items) == k:
                return items, level
            if item["id"] in taken:
                continue
            taken.add(item["id"])
            items.append(item)
            item["rank"] = len(items)
            item["score"] *= above
            level = max(level, rung.level)
    return items, level


def _relaxed(
    filters: Filters, year: int, genres: Sequence[str], fields: Mapping[str, Any], film: Film | None
) -> int:
    wanted_genres, wanted_providers, year_min, year_max = filters
    if wanted_providers:
        names = fields.get("providers")
        providers = names if _is_names(names) else None if film is None else film.providers
        if providers is not None and wanted_providers.isdisjoint(map(str.casefold, providers)):
            return PROVIDERS
    if wanted_genres and wanted_genres.isdisjoint(map(str.casefold, genres)):
        return GENRES
    if (year_min is not None and year < year_min) or (year_max is not None and year > year_max):
        return YEAR
    return KEPT


def _is_names(value: Any) -> TypeGuard[list[str]]:
    return type(value) is list and _TEXT.issuperset(map(type, value))
