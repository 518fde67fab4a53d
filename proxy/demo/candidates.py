"""The HTTP face of the example recommenders.

`GET /candidates?user_id&k&genres&providers&year_min&year_max` as the contract's recommend route
asks it, and of content `GET /neighbours?user_id&k&seeds`; `GET /content/films/{id}` and of cf
`GET /neighbours/{id}` show what lies behind.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from proxy.core.policy import Film
from proxy.demo.catalogue import movies
from proxy.demo.faults import FAULTS, answer, problem
from proxy.demo.models import NOT_OFFERED, CollaborativeModel, ContentModel, Model, Scores

K_MAX = 1000
SEEDS_MAX = 20
Mask = NDArray[np.bool_]


class Candidates:
    """Answers with a model's best films among those that pass the request's filters."""

    def __init__(self, model: Model) -> None:
        films = [movie.film for movie in movies()]
        self._model = model
        self._items = [shown(film) for film in films]
        self._year = np.array([film.year for film in films])
        self._genres = _masks([film.genres for film in films])
        self._providers = _masks([film.providers for film in films])
        self._none = np.zeros(len(films), dtype=np.bool_)

    async def answer(self, request: web.Request) -> web.Response:
        """`{"items": [{"id", "score", "title", "year", "genres", "providers"}, …]}`, at most k.

        400 when ill asked. An empty list is an honest answer: this user is unknown, or nothing passes.
        """
        await request.app[FAULTS].strike()
        return self._best(self._model.scores(request.query.get("user_id", "")), request.query)

    def _best(self, scores: Scores, query: Mapping[str, str]) -> web.Response:
        k = _number(query, "k", 50)
        if not 1 <= k <= K_MAX:
            raise problem(web.HTTPBadRequest, f"k must be 1 to {K_MAX}")
        scores = np.where(self._passing(query), scores, NOT_OFFERED)
        best = np.argsort(-scores, kind="stable")[:k]
        items = [self._items[i] | {"score": float(scores[i])} for i in best if scores[i] > NOT_OFFERED]
        return answer({"items": items})

    def _passing(self, query: Mapping[str, str]) -> Mask:
        passing: Mask = (self._year >= _number(query, "year_min", 0)) & (
            self._year <= _number(query, "year_max", 9999)
        )
        for name, masks in (("genres", self._genres), ("providers", self._providers)):
            if wanted := [value.strip().lower() for value in query.get(name, "").split(",") if value.strip()]:
                passing &= np.logical_or.reduce([masks.get(value, self._none) for value in wanted])
        return passing


class ContentCandidates(Candidates):
    """Those of the content model, which can name a film's neighbours as well."""

    def __init__(self, model: ContentModel) -> None:
        super().__init__(model)
        self._content = model
        self._index = {movie.film.id: index for index, movie in enumerate(movies())}

    async def neighbours(self, request: web.Request) -> web.Response:
        """`GET /neighbours?user_id&k&seeds=id,id…` and filters: films like the seeds, answered as candidates.

        Seeds that are unknown are passed over; without any the user's own favourites count.
        """
        await request.app[FAULTS].strike()
        query = request.query
        seeds = [self._index[name] for name in query.get("seeds", "").split(",") if name in self._index]
        return self._best(self._content.neighbours(seeds[:SEEDS_MAX], query.get("user_id", "")), query)


async def film(request: web.Request) -> web.Response:
    """One film of the catalogue; 404 for an unknown id."""
    await request.app[FAULTS].strike()
    return answer(shown(movies()[_index(request.match_info["id"])].film))


class Neighbours:
    """Shows the item-item neighbours a collaborative model works with, the nearest first."""

    def __init__(self, model: CollaborativeModel) -> None:
        self._model = model

    async def answer(self, request: web.Request) -> web.Response:
        await request.app[FAULTS].strike()
        index = _index(request.match_info["id"])
        pairs = zip(self._model.neighbours[index], self._model.strength[index], strict=True)
        return answer(
            {"items": [shown(movies()[i].film) | {"score": float(score)} for i, score in pairs if score > 0]}
        )


def shown(film: Film) -> dict[str, Any]:
    """A film as clients see it; the score is the model's to add."""
    return {
        "id": film.id,
        "title": film.title,
        "year": film.year,
        "genres": film.genres,
        "providers": film.providers,
    }


def _index(film_id: str) -> int:
    for index, movie in enumerate(movies()):
        if movie.film.id == film_id:
            return index
    raise problem(web.HTTPNotFound, f"no film {film_id!r}")


def _masks(values: Iterable[tuple[str, ...]]) -> dict[str, Mask]:
    """For each lower-cased value, which films have it."""
    rows = [{value.lower() for value in row} for row in values]
    return {value: np.array([value in row for row in rows]) for value in set().union(*rows)}


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise problem(web.HTTPBadRequest, f"{name} must be a whole number")
    return int(text)
