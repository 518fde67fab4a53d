"""`[cache]` and the warm list."""

import json

import pytest


def warm(folder, content, more=""):
    folder.add(f'[cache]\nwarm_file = "warm.json"\n{more}\n')
    text = content if isinstance(content, str) else json.dumps(content)
    (folder.path.parent / "warm.json").write_text(text)


def test_there_is_a_cache_by_default_and_no_warm_list(folder):
    policy = folder.load().policy()
    assert (policy.cache.max_bytes, policy.warm) == (64 * 1024 * 1024, None)


def test_the_list_is_named_by_its_path_and_each_reading_is_another(folder):
    warm(folder, ["user_id=1&k=5"])
    first, second = folder.load().policy().warm, folder.load().policy().warm
    assert first.file == second.file == str(folder.path.parent / "warm.json")
    assert first != second


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ("[", "", "no JSON"),
        ({}, "", "a list of queries"),
        (["user_id=1", "user_id=1&k=201"], "[1]", "k should be a whole number from 1 to 200"),
        (["year_min=x"], "[0]", "year_min"),
        (["a b"], "", "[0] should be a query"),
    ],
)
def test_faults_in_the_list_are_told_by_their_place(folder, content, place, words):
    warm(folder, content)
    found = folder.problems()
    assert list(found) == [place]
    assert words in found[place]


def test_a_list_that_is_not_there_is_told_beside_other_faults(folder):
    folder.add('[cache]\nwarm_file = "nowhere.json"\nmax_bytes = 1000\n[limits]\nhead_bites = 1\n')
    found = folder.problems()
    assert set(found) == {"", "cache.max_bytes", "limits.head_bites"}
    assert "No such file" in found[""]


def test_without_recommend_routes_no_query_has_anybody_to_ask(folder):
    folder.settings = folder.settings.replace(
        'kind = "recommend"\nsources = { cf = "cf" }', 'upstream = "cf"'
    )
    warm(folder, ["user_id=1"])
    assert "there is no recommend route" in folder.problems()["[0]"]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("max_bytes = 1_048_575", "cache.max_bytes"),
        ("max_bytes = -1", "cache.max_bytes"),
        ("candidates_ttl_s = 0", "cache.candidates_ttl_s"),
        ("neighbours_ttl_s = 0", "cache.neighbours_ttl_s"),
        ("stale_s = -1", "cache.stale_s"),
        ("warm_per_s = 0", "cache.warm_per_s"),
        ("ttl_s = 5", "cache.ttl_s"),
    ],
)
def test_what_cannot_be_is_refused(folder, line, place):
    folder.add(f"[cache]\n{line}\n")
    assert list(folder.problems()) == [place]


def test_a_list_without_a_cache_would_do_nothing(folder):
    warm(folder, ["user_id=1"], "max_bytes = 0")
    assert list(folder.problems()) == ["cache.warm_file"]
