import sys
from pathlib import Path
from subprocess import run

import orjson
import pytest

from proxy.demo.catalogue import PROVIDERS, mended, movies, popularity

SHIPPED = Path(__file__).parents[2] / "config" / "popularity.json"


def test_every_film_is_whole():
    films = [movie.film for movie in movies()]
    assert len({film.id for film in films}) == len(films) == 3200
    for film in films:
        assert 0 < film.score < 1
        assert 1900 <= film.year <= 2012
        assert film.title == film.title.strip() != ""
        assert 1 <= len(film.providers) <= 2
        assert set(film.providers) <= set(PROVIDERS)


def test_each_provider_has_a_fair_share_of_films():
    for provider in PROVIDERS:
        assert 0.25 < sum(provider in movie.film.providers for movie in movies()) / 3200 < 0.47


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("LÈon", "Léon"),
        ("Obsluhoval jsem anglickÈho kr·le", "Obsluhoval jsem anglického krále"),
        ("The Naked Gun 2Ω: The Smell of Fear", "The Naked Gun 2½: The Smell of Fear"),
        ("Alien³", "Alien³"),
        ("Ri¢hie Ri¢h", "Ri¢hie Ri¢h"),
        ("Plain", "Plain"),
    ],
)
def test_titles_read_in_the_wrong_encoding_are_mended(broken: str, whole: str):
    assert mended(broken) == whole


def test_few_votes_count_little():
    """A film everybody loved a hundred times stays below one that half a million rated a little lower."""
    by_title = {movie.film.title: movie for movie in movies()}
    famous = by_title["The Shawshank Redemption"].film.score
    assert popularity()[0].score == famous
    unrated = {movie.film.score for movie in movies() if movie.votes == 0}
    assert len(unrated) == 1
    assert 0.6 < unrated.pop() < 0.65


def test_popularity_is_best_first():
    scores = [film.score for film in popularity()]
    assert scores == sorted(scores, reverse=True)


def test_the_shipped_popularity_list_is_what_the_catalogue_says():
    printed = run([sys.executable, "-m", "proxy.demo.catalogue"], capture_output=True, check=True).stdout
    assert printed == SHIPPED.read_bytes()
    assert len(orjson.loads(printed)) == 3200
