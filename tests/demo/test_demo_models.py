import numpy as np
import pytest

from proxy.demo.catalogue import movies
from proxy.demo.models import NOT_OFFERED, CollaborativeModel, ContentModel
from proxy.demo.ratings import Ratings, ratings


def small(rows: dict[int, dict[int, int]], users: int = 3) -> Ratings:
    """A matrix that is empty but for `{user index: {film index: stars}}`."""
    matrix = np.zeros((users, len(movies())), dtype=np.float32)
    for user, films in rows.items():
        for film, stars in films.items():
            matrix[user, film] = stars
    return Ratings(tuple(f"u{index + 1:03d}" for index in range(users)), matrix)


@pytest.fixture(scope="module")
def collaborative() -> CollaborativeModel:
    return CollaborativeModel(ratings())


def test_ratings_come_out_the_same_each_time():
    again = ratings.__wrapped__()
    assert np.array_equal(again.matrix, ratings().matrix)


def test_users_of_every_cohort_exist():
    counts = (ratings().matrix > 0).sum(axis=1)
    cohorts = [counts <= 2, (counts > 2) & (counts <= 10), (counts > 10) & (counts <= 100), counts > 100]
    assert all(cohort.sum() >= 5 for cohort in cohorts)


@pytest.mark.parametrize(
    "unknown", ["", "u000", "u601", "u1", "guest-4", "u0001", "7", "u٣٣٣", "u" + "9" * 50]
)
def test_who_is_not_in_the_matrix_has_no_ratings(unknown: str):
    assert ratings().of(unknown) is None


def test_neighbours_are_the_cosines_of_what_the_same_people_rated(collaborative: CollaborativeModel):
    """The strongest neighbour of popular films, computed again one pair at a time from the definition."""
    matrix = ratings().matrix.astype(np.float64)
    rated = matrix > 0
    centred = np.where(rated, matrix - (matrix.sum(axis=1) / np.maximum(rated.sum(axis=1), 1))[:, None], 0)

    def cosine(one: int, other: int) -> float:
        together = (rated[:, one] & rated[:, other]).sum()
        a, b = centred[:, one], centred[:, other]
        length = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / length * together / (together + 8)) if length else 0.0

    for film in np.argsort(-rated.sum(axis=0))[:3]:
        others = [other for other in range(matrix.shape[1]) if other != film]
        best = max(others, key=lambda other: cosine(int(film), other))
        assert collaborative.neighbours[film][0] == best
        assert collaborative.strength[film][0] == pytest.approx(cosine(int(film), best), rel=1e-4)


def test_a_user_who_liked_a_film_gets_its_neighbours():
    """Two people agree on films 1 and 2 and dislike 3; who liked 1 alone is offered 2, never 3."""
    model = CollaborativeModel(small({0: {1: 5, 2: 5, 3: 1}, 1: {1: 5, 2: 5, 3: 1}, 2: {1: 5}}))
    scores = model.scores("u003")
    assert scores[2] > 0
    assert scores[1] == scores[3] == NOT_OFFERED


def test_collaborative_offers_nothing_to_strangers_and_nothing_seen(collaborative: CollaborativeModel):
    assert (collaborative.scores("guest-1") == NOT_OFFERED).all()
    seen = ratings().of("u007")
    assert seen is not None
    assert seen.any()
    assert (collaborative.scores("u007")[seen > 0] == NOT_OFFERED).all()


def test_content_prefers_what_resembles_the_films_a_user_liked():
    """Who liked one film is offered films of its genre and type, and of equal ones its director's first."""
    liked = next(i for i, movie in enumerate(movies()) if movie.film.title == "Minority Report")
    scores = ContentModel(small({0: {liked: 5}})).scores("u001")
    best = np.argsort(-scores)[:10]
    for index in best:
        assert movies()[index].film.genres == movies()[liked].film.genres
        assert movies()[index].creative_type == movies()[liked].creative_type
    assert movies()[best[0]].director == "Steven Spielberg"
    assert scores[liked] == NOT_OFFERED


def test_content_knows_a_film_as_most_like_itself():
    model = ContentModel(ratings())
    complete = next(i for i, m in enumerate(movies()) if m.film.genres and m.creative_type and m.director)
    likeness = model.likeness(complete)
    assert likeness.argmax() == complete or likeness[complete] == likeness.max()
    assert likeness[complete] == pytest.approx(1.0)


def test_what_is_not_known_of_two_films_does_not_make_them_alike():
    nameless = [
        i for i, m in enumerate(movies()) if not m.film.genres and not m.creative_type and not m.director
    ]
    assert ContentModel(ratings()).likeness(nameless[0]).max() <= 0.15 + 1e-6


def test_content_offers_strangers_the_best_films():
    scores = ContentModel(ratings()).scores("guest-1")
    assert movies()[int(scores.argmax())].film.title == "The Shawshank Redemption"
