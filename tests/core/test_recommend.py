"""Answers are full, and say what they are made of."""

from collections.abc import Sequence

import orjson
import pytest
from msgspec.structs import astuple
from saying import Row, said

from proxy.core.asks import Ask, parse_ask
from proxy.core.blending import blend
from proxy.core.decision import KILLED, Decision
from proxy.core.ladder import sift
from proxy.core.policy import Film
from proxy.core.popularity import Popularity
from proxy.core.recommend import MAX_RENDERED, Answer, PopularAnswers, compose

FILMS = tuple(
    Film(
        id=f"p{n}",
        title=f"Popular {n}",
        year=1990 + n,
        genres=("Drama",) if n % 2 else ("Comedy",),
        providers=("netflix",),
        score=1 - n / 100,
    )
    for n in range(30)
)
LIST = Popularity(FILMS)


def ask(query: bytes = b"", user: bytes = b"u1") -> Ask:
    return parse_ask(query, user, k_default=50, k_max=200)


DECISION = Decision(
    reason="default", policy="hybrid_default", sources=("cf", "content"), alpha=0.6, level="A"
)


def shown(key: str, score: float = 0.5, **fields: object) -> Row:
    return key, score, {"title": f"Film {key}", "year": 2000, "genres": ["Drama"]} | fields


def composed(asked: Ask, *cf: Row, content: Sequence[Row] = (), failed: bool = False) -> Answer:
    return compose(
        request_id="r1",
        ask=asked,
        rounds=[sift(blend(0.5, said(cf), said(content)), asked, LIST.catalogue)],
        popularity=LIST,
        failed=failed,
        bucket=1234,
        decision=DECISION,
        toggles_version=7,
    )


def told(answer: Answer) -> tuple[object, ...]:
    """All but the body."""
    return astuple(answer)[1:]


def ids(answer: Answer) -> list[str]:
    return [item["id"] for item in orjson.loads(answer.body)["items"]]


class TestCompose:
    def test_the_shape_is_the_contract_s(self):
        answer = composed(
            ask(b"k=2", b'u"1'), shown("x", 0.75, providers=["hulu"], poster="no"), shown("y", 0.25)
        )
        assert orjson.loads(answer.body) == {
            "request_id": "r1",
            "user_id": 'u"1',
            "k": 2,
            "items": [
                {
                    "rank": 1,
                    "id": "x",
                    "score": 1.0,
                    "source": "cf",
                    "title": "Film x",
                    "year": 2000,
                    "genres": ["Drama"],
                },
                {
                    "rank": 2,
                    "id": "y",
                    "score": 0.0,
                    "source": "cf",
                    "title": "Film y",
                    "year": 2000,
                    "genres": ["Drama"],
                },
            ],
            "metadata": {
                "k_requested": 2,
                "k_returned": 2,
                "coverage": 1.0,
                "arm": "none",
                "bucket": 1234,
                "exposed": True,
                "policy": "hybrid_default",
                "alpha": 0.6,
                "level": "A",
                "toggles_version": 7,
                "degraded": False,
                "cache": "bypass",
            },
        }
        assert told(answer) == ("A", "cf", 2, 2, False)

    def test_it_ends_at_k(self):
        answer = composed(ask(b"k=2"), shown("x"), shown("y"), shown("z"))
        assert ids(answer) == ["x", "y"]
        assert (answer.covered, answer.returned) == (2, 2)

    def test_popularity_fills_what_is_left_and_says_so(self):
        answer = composed(ask(b"k=4"), shown("p1"))
        assert ids(answer) == ["p1", "p0", "p2", "p3"]
        assert told(answer) == ("D", "cf", 1, 4, True)
        document = orjson.loads(answer.body)
        assert [item["source"] for item in document["items"]] == ["cf", *["popularity"] * 3]
        metadata = document["metadata"]
        assert (metadata["coverage"], metadata["level"], metadata["degraded"]) == (0.25, "D", True)

    def test_a_full_answer_with_a_failed_source_is_degraded_at_level_a(self):
        answer = composed(ask(b"k=1"), shown("x"), failed=True)
        assert (answer.level, answer.degraded, answer.covered) == ("A", True, 1)
        assert orjson.loads(answer.body)["metadata"]["degraded"] is True

    def test_an_ask_beyond_the_catalogue_gets_all_there_is(self):
        answer = composed(ask(b"k=100"), shown("x"))
        assert answer.returned == len(set(ids(answer))) == 31
        assert orjson.loads(answer.body)["metadata"]["k_returned"] == 31

    def test_without_anything_it_is_empty_and_well_formed(self):
        answer = compose(
            request_id="r",
            ask=ask(),
            rounds=(),
            popularity=Popularity(()),
            failed=False,
            bucket=0,
            decision=DECISION,
            toggles_version=1,
        )
        assert ids(answer) == []
        assert told(answer) == ("D", "", 0, 0, True)

    def test_the_catalogue_completes_items(self):
        answer = composed(ask(b"k=1"), content=[("p3", 0.5, {"title": None, "year": 5})])
        item = orjson.loads(answer.body)["items"][0]
        assert (item["title"], item["year"], item["genres"]) == ("Popular 3", 1993, ["Drama"])
        assert (item["source"], item["score"]) == ("content", 1.0)

    @pytest.mark.parametrize(
        ("cf", "content", "title"),
        [
            ({}, {}, "of cf"),
            ({"year": None}, {}, "of content"),
            ({"genres": [1]}, {"poster": "no"}, "of content"),
            ({"title": 5, "poster": "no"}, {}, "of content"),
            ({}, {"title": None}, "of cf"),
            ({"year": "1999"}, {"genres": "War"}, "Popular 3"),
        ],
    )
    def test_of_an_item_of_both_the_first_whole_description_is_shown(self, cf, content, title):
        """cf's, content's, or else the catalogue's."""
        cf = shown("p3", **{"title": "of cf"} | cf)
        content = shown("p3", **{"title": "of content"} | content)
        item = orjson.loads(composed(ask(b"k=1"), cf, content=[content]).body)["items"][0]
        assert (item["title"], item["source"]) == (title, "hybrid")

    @pytest.mark.parametrize(
        "fields",
        [
            {"title": None},
            {"title": 5},
            {"year": "1999"},
            {"year": True},
            {"year": 1999.5},
            {"genres": "Drama"},
            {"genres": [1]},
            {"genres": None},
        ],
    )
    def test_items_that_nobody_can_show_are_left_out(self, fields):
        assert ids(composed(ask(b"k=2"), shown("x", **fields), shown("y"))) == ["y", "p0"]

    @pytest.mark.parametrize(
        ("query", "fields", "source"),
        [
            (b"genres=comedy", {"genres": ["COMEDY", "War"]}, "cf"),
            (b"genres=comedy", {"genres": ["War"]}, "pruned"),
            (b"genres=comedy", {"genres": []}, "pruned"),
            (b"year_min=2000&year_max=2000", {"year": 2000}, "cf"),
            (b"year_min=2001", {"year": 2000}, "pruned"),
            (b"year_max=1999", {"year": 2000}, "pruned"),
            (b"providers=hbo", {"providers": ["HBO"]}, "cf"),
            (b"providers=hbo", {"providers": ["hulu"]}, "popularity"),
            (b"providers=hbo&year_min=2001", {"providers": ["hulu"]}, "popularity"),
            (b"providers=hbo", {}, "cf"),
            (b"providers=hbo", {"providers": "hulu"}, "cf"),
        ],
    )
    def test_filters_hold_for_what_is_known_of_an_item(self, query, fields, source):
        answer = composed(ask(b"k=1&" + query), shown("x", **fields))
        assert answer.source == source
        assert (ids(answer) == ["x"]) is (source != "popularity")
        assert answer.level == {"cf": "A", "pruned": "C", "popularity": "D"}[source]

    @pytest.mark.parametrize(
        ("cf", "content", "fits"),
        [
            (["hulu"], ["hbo"], False),
            (["hbo"], ["hulu"], True),
            (None, ["hbo"], True),
            ("hbo", ["hulu"], False),
        ],
    )
    def test_of_an_item_of_both_the_providers_are_those_of_the_first_who_names_some(self, cf, content, fits):
        rows = shown("x", providers=cf), shown("x", providers=content)
        assert composed(ask(b"k=1&providers=hbo"), rows[0], content=rows[1:]).covered == fits

    def test_filters_hold_by_the_catalogue_where_the_item_does_not_say(self):
        assert ids(composed(ask(b"k=1&providers=netflix"), shown("p9"))) == ["p9"]
        assert composed(ask(b"k=1&providers=hbo"), shown("p9")).covered == 0
        assert composed(ask(b"k=1&year_min=2010"), ("p3", 1.0, {})).source == "pruned"

    def test_filling_keeps_the_filters_first(self):
        answer = composed(ask(b"k=4&genres=drama&year_min=2015"), shown("x"))
        assert ids(answer) == ["x", "p25", "p27", "p29"]
        assert answer.level == "D"


class TestPopularAnswer:
    @pytest.mark.parametrize("query", [b"k=1", b"k=10", b"k=100", b"k=5&genres=drama", b"k=5&year_min=2015"])
    @pytest.mark.parametrize("decision", [KILLED, DECISION], ids=["killed", "fallback"])
    def test_it_is_what_compose_says_without_candidates(self, query, decision):
        user = 'ü"\\\n'.encode()
        labels = {"popularity": LIST, "decision": decision, "toggles_version": 3}
        quick = PopularAnswers(**labels).answer(ask(query, user), user, b"r1", 17)
        full = compose(**labels, request_id="r1", ask=ask(query, user), bucket=17, rounds=())
        assert orjson.loads(quick.body) == orjson.loads(full.body)
        assert told(quick) == told(full)

    def test_a_user_that_is_no_text_does_no_harm(self):
        answers = PopularAnswers(LIST, KILLED, toggles_version=1)
        answer = answers.answer(ask(b"k=1", b"\xff"), b"\xff", b"r1", 0)
        assert orjson.loads(answer.body)["user_id"] == "\N{REPLACEMENT CHARACTER}"


class TestPopularAnswers:
    ANSWERS = PopularAnswers(LIST, KILLED, toggles_version=3)

    def answer(self, query: bytes, user: bytes = b"u1") -> Answer:
        return self.ANSWERS.answer(ask(query, user), user, b"r1", 17)

    def test_what_was_rendered_is_kept_and_k_s_do_not_mix(self):
        kept = []
        for _ in range(2):
            assert [len(ids(self.answer(b"k=%d" % k))) for k in (1, 10, 7)] == [1, 10, 7]
            kept.append({k: id(self.ANSWERS._rendered[k]) for k in (1, 10, 7)})
        assert kept[0] == kept[1]

    def test_what_is_kept_is_bounded(self):
        answers = PopularAnswers(LIST, KILLED, toggles_version=3)
        for k in range(1, 3 * MAX_RENDERED):
            answer = answers.answer(parse_ask(b"k=%d" % k, b"", k_default=1, k_max=1000), b"", b"r", 0)
            assert answer.returned == min(k, 30)
            assert len(answers._rendered) <= MAX_RENDERED

    def test_titles_that_look_like_the_frame_do_no_harm(self):
        title = '","bucket":0,"user_id":"","metadata":{"bucket":0'
        odd = Popularity([Film(id="a", title=title, year=1, genres=(), providers=(), score=1.0)])
        answers = PopularAnswers(odd, DECISION, toggles_version=1)
        document = orjson.loads(answers.answer(ask(b"k=1", b"u"), b"u", b"r", 5).body)
        assert document["items"][0]["title"] == title
        assert (document["user_id"], document["metadata"]["bucket"]) == ("u", 5)
