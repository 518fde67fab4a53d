import pytest

from proxy.demo.catalogue import movies
from proxy.demo.ratings import ratings

FILMS = {movie.film.id: movie.film for movie in movies()}


async def ask(client, **query):
    response = await client.get("/candidates", params=query)
    assert response.status == 200
    return (await response.json())["items"]


@pytest.mark.parametrize("name", ["cf", "content"])
async def test_candidates_are_the_best_k_films_first(start, name):
    items = await ask(await start(name), user_id="u007", k=20)
    assert len({item["id"] for item in items}) == 20
    scores = [item["score"] for item in items]
    assert scores == sorted(scores, reverse=True)
    for item in items:
        film = FILMS[item["id"]]
        assert item == {
            "id": film.id,
            "title": film.title,
            "year": film.year,
            "genres": list(film.genres),
            "providers": list(film.providers),
            "score": item["score"],
        }


async def test_a_user_gets_neighbours_of_films_they_liked(start):
    """What cf offers is found among the neighbours it shows for the films this user rated best."""
    client = await start("cf")
    row = ratings().of("u007")
    liked = [movies()[index].film.id for index in range(len(row)) if row[index] >= row[row > 0].mean()]
    neighbours = set()
    for film in liked:
        answer = await (await client.get(f"/neighbours/{film}")).json()
        assert film not in {item["id"] for item in answer["items"]}
        neighbours |= {item["id"] for item in answer["items"]}
    offered = await ask(client, user_id="u007", k=10)
    assert offered
    assert {item["id"] for item in offered} <= neighbours


async def test_two_users_get_different_films(start):
    client = await start("cf")
    assert await ask(client, user_id="u007", k=10) != await ask(client, user_id="u008", k=10)


async def test_filters_let_through_only_what_was_asked_for(start):
    client = await start("content")
    items = await ask(
        client,
        user_id="u007",
        k=50,
        genres="drama,Comedy",
        providers="hulu,hbo",
        year_min=1990,
        year_max=1999,
    )
    assert 20 < len(items) < 50  # of those that were looked at, not of all there are
    for item in items:
        assert set(item["genres"]) & {"Drama", "Comedy"}
        assert set(item["providers"]) & {"hulu", "hbo"}
        assert 1990 <= item["year"] <= 1999


async def test_nothing_passes_an_impossible_filter(start):
    client = await start("content")
    assert await ask(client, user_id="u007", year_min=2050) == []
    assert await ask(client, user_id="u007", genres="Polka") == []


async def neighbours(client, **query):
    response = await client.get("/neighbours", params=query)
    assert response.status == 200
    return (await response.json())["items"]


async def test_neighbours_are_films_like_the_seeds(start):
    """Asked as the sidecar does, answered as candidates are: same genre first, no seed, nothing seen."""
    client = await start("content")
    dramas = await ask(client, user_id="u003", k=5, genres="Drama")
    seeds = [item["id"] for item in dramas]
    items = await neighbours(client, user_id="u003", k=20, seeds=",".join(seeds), providers="hulu,netflix")
    assert len(items) == 20
    assert [item["genres"] for item in items].count(["Drama"]) == 20
    assert all(set(item["providers"]) & {"hulu", "netflix"} for item in items)
    assert not set(seeds) & {item["id"] for item in items}
    seen = ratings().of("u003")
    assert not any(
        seen[index] for index, movie in enumerate(movies()) if movie.film.id in {it["id"] for it in items}
    )
    scores = [item["score"] for item in items]
    assert scores == sorted(scores, reverse=True)


async def test_what_candidates_leave_open_their_neighbours_can_fill(start):
    """Level B at work: a filter passes few of the nearest films, and many of these films' neighbours."""
    client = await start("content")
    narrow = {"user_id": "u003", "genres": "Drama", "k": 50}
    found = await ask(client, **narrow)
    assert 0 < len(found) < 30
    seeds = ",".join(item["id"] for item in found[:10])
    more = {item["id"] for item in await neighbours(client, user_id="u003", k=50, seeds=seeds)}
    dramas = {key for key in more if FILMS[key].genres == ("Drama",)}
    assert len(found) + len(dramas - {item["id"] for item in found}) > 50


async def test_without_seeds_the_users_own_favourites_count(start):
    client = await start("content")
    for user in ("u007", "guest-1"):
        assert await neighbours(client, user_id=user, k=9, seeds="") == await ask(client, user_id=user, k=9)
        assert await neighbours(client, user_id=user, k=9, seeds="nobody,") == await ask(
            client, user_id=user, k=9
        )


async def test_ill_asked_neighbours_are_400(start):
    assert (await (await start("content")).get("/neighbours", params={"k": "x"})).status == 400


async def test_cf_has_nothing_for_strangers_and_content_has(start):
    assert await ask(await start("cf"), user_id="guest-1") == []
    assert len(await ask(await start("content"), user_id="guest-1", k=7)) == 7


@pytest.mark.parametrize(
    "query", [{"k": "0"}, {"k": "1001"}, {"k": "x"}, {"k": "-1"}, {"k": "٣"}, {"year_min": "1e3"}]
)
async def test_ill_asked_is_400(start, query):
    response = await (await start("content")).get("/candidates", params=query)
    assert response.status == 400
    assert response.content_type == "application/problem+json"


async def test_a_film_is_shown_by_its_id(start):
    client = await start("content")
    shown = await (await client.get("/content/films/m0842")).json()
    assert shown["title"] == "The Shawshank Redemption"
    assert (await client.get("/content/films/m9999")).status == 404
