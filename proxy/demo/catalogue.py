"""The film catalogue of the demo: loading, mending, scoring (`movies.md` says what is real).

`python -m proxy.demo.catalogue` prints the popularity list, best film first, in the form of
`[popularity]`'s file (contract, Settings).
"""

import sys
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from proxy.core.policy import Film

PROVIDERS = ("netflix", "hulu", "amazon", "disney", "hbo")
"""Those of the recommender behind the sidecar (facts 1)."""

PRIOR_VOTES = 10_000
"""How many votes of mean opinion a film carries before its own count."""

_FILE = Path(__file__).with_name("movies.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Movie:
    """One film with everything the example recommenders look at."""

    film: Film
    creative_type: str | None
    director: str | None
    votes: int


@cache
def movies() -> tuple[Movie, ...]:
    """All films, in the catalogue's order."""
    rows: list[dict[str, Any]] = orjson.loads(_FILE.read_bytes())
    rated = [row["imdb_rating"] for row in rows if row["imdb_votes"]]
    mean = sum(rated) / len(rated)
    return tuple(_movie(row, mean) for row in rows)


def popularity() -> list[Film]:
    """All films, best first; equal scores in the order of their ids."""
    return sorted((movie.film for movie in movies()), key=lambda film: (-film.score, film.id))


def _movie(row: dict[str, Any], mean: float) -> Movie:
    votes: int = row["imdb_votes"] or 0
    rating: float = row["imdb_rating"] or mean
    film = Film(
        id=row["id"],
        title=mended(row["title"]),
        year=row["year"],
        genres=(row["genre"],) if row["genre"] else (),
        providers=providers(row["id"]),
        score=round((votes * rating + PRIOR_VOTES * mean) / (votes + PRIOR_VOTES) / 10, 4),
    )
    return Movie(film=film, creative_type=row["creative_type"], director=row["director"], votes=votes)


def mended(title: str) -> str:
    """The title as its makers wrote it, where Windows-1252 had been read as Mac Roman."""
    try:
        return title.encode("mac_roman").decode("cp1252")
    except UnicodeError:  # holds a character that Mac Roman lacks, so it was never misread
        return title


def providers(film_id: str) -> tuple[str, ...]:
    """One or two providers, from a hash of the id: made up, but always the same."""
    first, second = blake2b(film_id.encode(), digest_size=2).digest()
    chosen = {first % len(PROVIDERS), second % len(PROVIDERS)}
    return tuple(PROVIDERS[index] for index in sorted(chosen))


def main() -> None:
    lines = b",\n".join(orjson.dumps(film) for film in popularity())
    sys.stdout.buffer.write(b"[\n" + lines + b"\n]\n")


if __name__ == "__main__":
    main()
