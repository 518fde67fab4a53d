"""The two example recommenders: likeness of films, and likeness of what people rated.

Both give one score per film of the catalogue, higher is better; `NOT_OFFERED` marks films that
must not be offered (seen already, or nothing known). Scales differ on purpose, as they do
between real recommenders: the sidecar normalises (facts 2.1).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from proxy.demo.catalogue import movies
from proxy.demo.ratings import Ratings, codes

Scores = NDArray[np.float32]
NOT_OFFERED = np.float32(-np.inf)


class Model(Protocol):
    def scores(self, user_id: str) -> Scores: ...


class ContentModel:
    """Films like the ones a user liked most, the better rated ones first.

    Likeness of two films: same genre 0.4, same creative type 0.25, same director 0.2, and up to
    0.15 for years close together. A user nobody knows gets films by quality alone. Only the nearest films
    are looked at, as with any index: a narrow filter may leave few of them.
    """

    SEEDS = 5
    RETRIEVED = 300

    def __init__(self, ratings: Ratings) -> None:
        films = movies()
        self._ratings = ratings
        self._genre = codes([m.film.genres[0] if m.film.genres else None for m in films])
        self._kind = codes([m.creative_type for m in films])
        self._director = codes([m.director for m in films])
        self._year = np.array([m.film.year for m in films], dtype=np.float32)
        self._quality = np.array([m.film.score for m in films], dtype=np.float32)
        self.scores = lru_cache(maxsize=1024)(self._scores)

    def likeness(self, film: int) -> Scores:
        """Of every film to the one at index `film`, from 0 to 1."""
        near = np.exp(-np.abs(self._year - self._year[film]) / 10)
        total: Scores = np.float32(0.15) * near
        for weight, code in ((0.4, self._genre), (0.25, self._kind), (0.2, self._director)):
            if code[film] >= 0:
                total += np.float32(weight) * (code == code[film])
        return total

    def _scores(self, user_id: str) -> Scores:
        row = self._ratings.of(user_id)
        if row is None or not row.any():
            return _nearest(self._quality, self.RETRIEVED)
        seeds = np.argsort(-(row + self._quality), kind="stable")[: self.SEEDS]
        seeds = seeds[row[seeds] > 0]
        return _nearest(self._unseen(self._like(seeds, row[seeds]), row), self.RETRIEVED)

    def neighbours(self, seeds: Sequence[int], user_id: str) -> Scores:
        """Films like those at the indices `seeds`, without these and what the user has seen.

        Without seeds it is what the user liked that counts.
        """
        if not seeds:
            return self.scores(user_id)
        row = self._ratings.of(user_id)
        like = self._like(np.array(seeds), np.ones(len(seeds), dtype=np.float32))
        near = self._unseen(like, np.zeros_like(like) if row is None else row)
        near[list(seeds)] = NOT_OFFERED
        return near

    def _like(self, seeds: NDArray[np.intp], weights: Scores) -> Scores:
        """The mean likeness to the seeds, as they weigh."""
        shares = weights / weights.sum()
        like: Scores = np.sum([w * self.likeness(int(s)) for w, s in zip(shares, seeds, strict=True)], axis=0)
        return like

    def _unseen(self, like: Scores, row: Scores) -> Scores:
        unseen: Scores = np.where(
            row > 0, NOT_OFFERED, np.float32(0.7) * like + np.float32(0.3) * self._quality
        )
        return unseen


class CollaborativeModel:
    """Item-item neighbours: the cosine between the ratings two films got from the same people.

    Ratings are centred on each user's mean, so that a generous user says no more than a strict
    one; a cosine from few common raters is drawn towards 0 (n / (n + SHRINK)).
    """

    NEIGHBOURS = 40
    SHRINK = 8.0

    def __init__(self, ratings: Ratings) -> None:
        self._ratings = ratings
        self._centred = centred(ratings.matrix)
        likeness = self._likeness()
        self.neighbours: NDArray[np.intp] = np.argsort(-likeness, axis=1)[:, : self.NEIGHBOURS].copy()
        self.strength: Scores = np.take_along_axis(likeness, self.neighbours, axis=1).clip(min=0)
        self.scores = lru_cache(maxsize=1024)(self._scores)

    def _likeness(self) -> Scores:
        length = np.linalg.norm(self._centred, axis=0)
        unit = (self._centred / np.where(length > 0, length, 1)).astype(np.float32)
        rated = (self._ratings.matrix > 0).astype(np.float32)
        together = rated.T @ rated
        likeness: Scores = (unit.T @ unit) * (together / (together + np.float32(self.SHRINK)))
        np.fill_diagonal(likeness, -1)  # no film is its own neighbour
        return likeness

    def _scores(self, user_id: str) -> Scores:
        total = np.zeros(len(movies()), dtype=np.float32)
        row = self._ratings.of(user_id)
        if row is None:
            return np.full_like(total, NOT_OFFERED)
        liked = row - row[row > 0].mean() if row.any() else row
        for film in np.flatnonzero((row > 0) & (liked >= 0)):
            weight = np.float32(0.1) + liked[film]  # a user of one opinion has a mean, not a preference
            np.add.at(total, self.neighbours[film], weight * self.strength[film])
        offered: Scores = np.where((row > 0) | (total <= 0), NOT_OFFERED, total)
        return offered


def _nearest(scores: Scores, count: int) -> Scores:
    """The `count` best; the others are not offered."""
    least = np.partition(scores, -count)[-count]
    nearest: Scores = np.where(scores >= least, scores, NOT_OFFERED)
    return nearest


def centred(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ratings less their user's mean; what was not rated stays 0."""
    rated = matrix > 0
    means = matrix.sum(axis=1) / np.maximum(rated.sum(axis=1), 1)
    deviations: NDArray[np.float32] = np.where(rated, matrix - means[:, None], 0).astype(np.float32)
    return deviations
