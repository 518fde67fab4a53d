"""Who rated what: invented users with latent tastes over the real films, made from a seed.

Every process that asks gets the same matrix, so that the example upstreams agree on what a
user has seen without talking to each other.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from proxy.demo.catalogue import movies

USERS = 600
SEED = 20_260_214
HIDDEN = 6
"""Dimensions of taste that no field of the catalogue shows: what only neighbours can know."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """`matrix[user, film]` in stars from 1 to 5; 0 says not rated. Films in the catalogue's order."""

    users: tuple[str, ...]
    matrix: NDArray[np.float32]

    def of(self, user_id: str) -> NDArray[np.float32] | None:
        """One user's row; None for someone never seen."""
        digits = user_id.removeprefix("u")
        if not digits.isdecimal() or not digits.isascii() or len(digits) > 6:
            return None
        index = int(digits) - 1
        if not 0 <= index < len(self.users) or self.users[index] != user_id:
            return None
        row: NDArray[np.float32] = self.matrix[index]
        return row


def codes(values: list[str | None]) -> NDArray[np.int32]:
    """Each distinct value as a number from 0; None as -1, which equals nothing else."""
    known = {value: code for code, value in enumerate(sorted({v for v in values if v is not None}))}
    return np.array([-1 if value is None else known[value] for value in values], dtype=np.int32)


@cache
def ratings() -> Ratings:
    """The matrix: popular films and films to one's taste are rated more often, and taste decides the stars.

    How many films a user rated runs over all cohorts of facts 1, from none or two to a few hundred.
    """
    random = np.random.default_rng(SEED)
    affinity = _affinity(random)
    votes = np.array([movie.votes for movie in movies()], dtype=np.float64)
    # Gumbel noise on log weights draws without replacement, in proportion to the weights
    draw = 0.7 * np.log1p(votes) + 0.8 * affinity + random.gumbel(size=affinity.shape)
    counts = np.clip(random.lognormal(mean=3.3, sigma=1.2, size=USERS), 0, 400).astype(int)
    order = np.argsort(-draw, axis=1)
    rank = np.argsort(order, axis=1)
    quality = np.array([movie.film.score for movie in movies()])
    stars = 3.2 + 0.9 * affinity + 4.0 * (quality - quality.mean()) + random.normal(0, 0.4, affinity.shape)
    matrix = np.where(rank < counts[:, None], np.clip(np.rint(stars), 1, 5), 0).astype(np.float32)
    return Ratings(tuple(f"u{index + 1:03d}" for index in range(USERS)), matrix)


def _affinity(random: np.random.Generator) -> NDArray[np.float64]:
    """How much each user is drawn to each film, in standard deviations (users x films)."""
    films = movies()
    columns = [random.normal(size=(len(films), HIDDEN))]
    for values in (
        [m.film.genres[0] if m.film.genres else None for m in films],
        [m.creative_type for m in films],
    ):
        code = codes(values)
        columns.append((code[:, None] == np.arange(code.max() + 1)).astype(np.float64) * 2.0)
    features = np.concatenate(columns, axis=1)
    tastes = random.normal(size=(USERS, features.shape[1]))
    affinity = tastes @ features.T
    scaled: NDArray[np.float64] = (affinity - affinity.mean(axis=1, keepdims=True)) / affinity.std(
        axis=1, keepdims=True
    )
    return scaled
