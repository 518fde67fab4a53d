import pytest

from proxy.demo.seen import WINDOW_S, Seen, flaw, percentile


def answer(k: int):
    items = [
        {"rank": n + 1, "id": f"m{n}", "score": 1.0, "source": "cf", "title": "T", "year": 1999, "genres": []}
        for n in range(k)
    ]
    return {"items": items, "metadata": {"level": "A"}}


def test_a_sound_answer_has_no_flaw():
    assert flaw(200, answer(5), 5) == ""


def twice(body):
    body["items"][1]["id"] = body["items"][0]["id"]


def misranked(body):
    body["items"].reverse()


def untitled(body):
    del body["items"][2]["title"]


def unlevelled(body):
    del body["metadata"]["level"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (unlevelled, "no level in the metadata"),
        (twice, "an id twice"),
        (misranked, "ranks are not 1 to k"),
        (untitled, "items without title"),
    ],
)
def test_a_flaw_is_named(change, complaint):
    body = answer(5)
    change(body)
    assert flaw(200, body, 5) == complaint


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (503, {"code": "overloaded"}, "status 503 overloaded"),
        (502, None, "status 502"),
        (200, {}, "no items in the body"),
        (200, [], "no items in the body"),
        (200, {"items": [1]}, "no items in the body"),
        (200, answer(4), "4 items instead of 5"),
        (200, answer(6), "6 items instead of 5"),
    ],
)
def test_no_full_answer_is_a_flaw(status, body, complaint):
    assert flaw(status, body, 5) == complaint


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.99, 0.0), ([3.0], 0.5, 3.0), ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0), (list(range(1, 201)), 0.99, 198)],
)
def test_percentile_is_the_smallest_value_that_covers_the_share(values, share, expected):
    assert percentile(values, share) == expected


def test_the_live_window_forgets():
    seen = Seen()
    seen.answered("recommend", 10.0, 0.1)
    seen.answered("recommend", 10.0 + WINDOW_S / 2, 0.2)
    seen.forget(10.1 + WINDOW_S)
    assert [took for _, _, took in seen.recent] == [0.2]
