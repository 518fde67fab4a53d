"""Asks are checked, sources are believed as far as their contract goes, answers are full."""

import orjson
import pytest

from proxy.core.asks import Ask, neighbours_query, parse_ask
from proxy.core.blending import Ranked, blend
from proxy.core.candidates import (
    MAX_CANDIDATES,
    Candidate,
    ContractBroken,
    Fields,
    Shape,
    parse_candidates,
)
from proxy.core.decide import KILLED, Decision
from proxy.core.ladder import sift
from proxy.core.policy import Film
from proxy.core.popularity import NO_FILTERS, Filters, Popularity
from proxy.core.recommend import MAX_RENDERED, Answer, PopularAnswers, compose
from proxy.errors import Refusal

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


def candidates(**scores: float) -> list[Candidate]:
    return [(key, score, {"id": key, "score": score}) for key, score in scores.items()]


def shown(key: str, score: float = 0.5, **fields: object) -> Ranked:
    known = {"id": key, "title": f"Film {key}", "year": 2000, "genres": ["Drama"]}
    return (-score, key, "cf", known | fields)


def composed(asked: Ask, *ranked: Ranked, failed: bool = False) -> Answer:
    return compose(
        request_id="r1",
        ask=asked,
        rounds=[sift(ranked, asked, LIST.catalogue)],
        popularity=LIST,
        failed=failed,
        bucket=1234,
        decision=DECISION,
        toggles_version=7,
    )


def ids(answer: Answer) -> list[str]:
    return [item["id"] for item in orjson.loads(answer.body)["items"]]


class TestAsk:
    def test_the_usual_one(self):
        assert ask(b"user_id=u1&k=10") == Ask("u1", 10, NO_FILTERS, b"user_id=u1&k=10")

    def test_k_has_a_default(self):
        assert ask().k == ask(b"user_id=u1").k == ask(b"x=1").k == 50

    def test_the_user_is_the_one_that_identity_found(self):
        asked = ask(b"user_id=other&k=5&x=1", "ü&k=9".encode())
        assert asked.user_id == "ü&k=9"
        assert asked.query == b"user_id=%C3%BC%26k%3D9&k=5&x=1"

    def test_all_filters(self):
        asked = ask(
            b"k=5&genres=Drama,,+Romantic%20Comedy&providers=HBO&providers=hulu&year_min=1990&year_max=2000"
        )
        assert asked.filters == Filters(
            frozenset({"drama", "romantic comedy"}), frozenset({"hbo", "hulu"}), 1990, 2000
        )

    def test_empty_filters_are_none(self):
        assert ask(b"k=5&genres=&providers=&year_min=&year_max=").filters == NO_FILTERS

    def test_sources_get_everything_else_as_it_came(self):
        asked = ask(b"genres=a%2Cb&user_id=x&lang=de&k=3&&flag&lang=en")
        assert asked.query == b"user_id=u1&k=3&genres=a%2Cb&lang=de&flag&lang=en"

    def test_the_quick_way_says_what_the_long_way_says(self):
        for query in (b"user_id=u1&k=7", b"k=7", b"user_id=u1", b""):
            quick, long = ask(query), ask(query + b"&genres=")
            assert quick == long._replace(query=quick.query)
            assert long.query == quick.query + b"&genres="

    @pytest.mark.parametrize(
        ("query", "named"),
        [
            (b"k=0", "k should be a whole number from 1 to 200"),
            (b"k=201", "k should"),
            (b"user_id=u1&k=999999999", "k should"),
            (b"k=99999999999999999999", "k should"),
            (b"k=-1", "k should"),
            (b"k=+5", "k should"),
            (b"k=5.0", "k should"),
            (b"k=ten", "k should"),
            (b"k=", "k should"),
            (b"k=%D9%A3", "k should"),
            (b"k=5&k=6", "k may be given once"),
            (b"year_min=new", "year_min should be a year"),
            (b"year_max=20000", "year_max should be a year"),
            (b"year_max=-5", "year_max should be a year"),
            (b"year_min=1&year_min=2", "year_min may be given once"),
            (b"year_min=2001&year_max=2000", "year_min should not be after year_max"),
            (b"providers=netflix,kino", "netflix, hulu, amazon, disney, hbo"),
            (b"genres=%FF", "genres should be UTF-8"),
            (b"genres=" + b",".join(b"g%d" % n for n in range(21)), "genres may hold 20"),
            (b"genres=" + b"g" * 65, "genres may hold 20 names of 64"),
        ],
    )
    def test_what_cannot_be_asked_is_named(self, query, named):
        with pytest.raises(Refusal) as refused:
            ask(query)
        assert (refused.value.code, refused.value.status) == ("bad_request", 400)
        assert named in refused.value.detail


class TestNeighboursQuery:
    """What the second round asks: providers hold, years and genres do not (level C)."""

    def test_filters_that_can_be_relaxed_are_left_out(self):
        asked = ask(
            b"k=3&genres=war&providers=hbo&year_min=1990&lang=de&year%5Fmax=2000&seeds=theirs&g%65nres=x"
        )
        assert neighbours_query(asked, ["a", "b"]) == b"user_id=u1&k=3&providers=hbo&lang=de&seeds=a,b"

    def test_seeds_are_few_and_can_be_told_apart(self):
        seeds = ["a,b", "x" * 65, "ü &", *(f"s{n}" for n in range(20))]
        query = neighbours_query(ask(b"k=3"), seeds)
        assert query == b"user_id=u1&k=3&seeds=%C3%BC%20%26," + b",".join(b"s%d" % n for n in range(9))

    def test_without_any_the_user_is_all_there_is_to_go_by(self):
        assert neighbours_query(ask(b"k=3"), []) == b"user_id=u1&k=3&seeds="


class TestCandidates:
    def test_items_keep_all_their_fields(self):
        body = b'{"items":[{"id":"a","score":0.5,"title":"A"},{"id":"b","score":1}],"more":true}'
        assert parse_candidates(body) == [
            ("a", 0.5, {"id": "a", "score": 0.5, "title": "A"}),
            ("b", 1.0, {"id": "b", "score": 1}),
        ]

    def test_of_repeated_ids_the_first_counts(self):
        body = b'{"items":[{"id":"a","score":1},{"id":"b","score":2},{"id":"a","score":3}]}'
        assert [(key, score) for key, score, _ in parse_candidates(body)] == [("a", 1.0), ("b", 2.0)]

    @pytest.mark.parametrize(
        ("ids", "usable"), [("aab", True), ("abab", True), ("aaa", False), ("ababa", False)]
    )
    def test_who_mostly_repeats_itself_is_broken(self, ids, usable):
        body = orjson.dumps({"items": [{"id": key, "score": 1} for key in ids]})
        if usable:
            assert [key for key, _, _ in parse_candidates(body)] == sorted(set(ids))
        else:
            with pytest.raises(ContractBroken, match="repeated"):
                parse_candidates(body)

    @pytest.mark.parametrize("error", [b'"model not loaded"', b"true", b"500", b'{"code":7}', b"[1]"])
    def test_no_items_are_an_answer_but_not_beside_an_error(self, error):
        assert parse_candidates(b'{"items":[]}') == []
        with pytest.raises(ContractBroken, match="error"):
            parse_candidates(b'{"items":[],"error":%b}' % error)

    @pytest.mark.parametrize("error", [b"null", b"false", b'""', b"0", b"[]", b"{}"])
    def test_an_error_that_is_none_is_none(self, error):
        assert parse_candidates(b'{"items":[],"error":%b}' % error) == []

    def test_an_error_beside_items_takes_nothing_away(self):
        assert parse_candidates(b'{"items":[{"id":"a","score":1}],"error":"slow"}')[0][0] == "a"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"no json",
            b'{"items":[',
            b"[]",
            b"null",
            b"{}",
            b'{"items":null}',
            b'{"items":{"id":"a","score":1}}',
            b'{"items":["a"]}',
            b'{"items":[[]]}',
            b'{"items":[null]}',
            b'{"items":[{"id":"a"}]}',
            b'{"items":[{"score":1}]}',
            b'{"items":[{"id":1,"score":1}]}',
            b'{"items":[{"id":"","score":1}]}',
            b'{"items":[{"id":"a","score":"1"}]}',
            b'{"items":[{"id":"a","score":true}]}',
            b'{"items":[{"id":"a","score":null}]}',
            b'{"items":[{"id":"a","score":NaN}]}',
            b'{"items":[{"id":"a","score":Infinity}]}',
            b'{"items":[{"id":"a","score":1e999}]}',
            b'{"items":[{"id":"a","score":"NaN"}]}',
            b'{"items":[{"id":"a","score":-Infinity}]}',
            b'{"items":[{"id":"a","score":1' + b"0" * 400 + b"}]}",
            b'{"items":[{"id":"a","score":[1]}]}',
            b'{"items":[{"id":"\\ud800","score":1}]}',
            b'{"items":' + b"[" * 2000 + b"]" * 2000 + b"}",
            b'\xef\xbb\xbf{"items":[]}',
            b'{"items":[{"id":"\xff","score":1}]}',
            orjson.dumps({"items": [{"id": str(n), "score": 1} for n in range(MAX_CANDIDATES + 1)]}),
        ],
    )
    def test_anything_else_breaks_the_contract(self, body):
        with pytest.raises(ContractBroken):
            parse_candidates(body)


class TestShapes:
    """Answers that call things by other names (`[upstreams.NAME.fields]`)."""

    def read(self, document: object, **named: object) -> list[Candidate]:
        return parse_candidates(orjson.dumps(document), Shape.of(Fields(**named)))

    def test_the_contracts_own_names_need_no_shape(self):
        assert Shape.of(Fields()) is None

    def test_every_name_may_be_another_and_lie_deeper(self):
        named = {
            "items": "data.results", "id": "movie.id", "score": "rank_score", "title": "movie.names.en",
            "year": "released", "genres": "tags", "providers": "movie.on",
        }  # fmt: skip
        movie = {"id": "m1", "names": {"en": "One"}, "on": ["hbo"]}
        found = self.read(
            {"data": {"results": [{"movie": movie, "rank_score": 3, "released": 1999, "tags": ["War"]}]}},
            **named,
        )
        shown = {
            "id": "m1",
            "score": 3,
            "title": "One",
            "year": 1999,
            "genres": ["War"],
            "providers": ["hbo"],
        }
        assert found == [("m1", 3.0, shown)]

    def test_what_an_item_does_not_have_is_left_to_the_catalogue(self):
        assert self.read({"items": [{"id": "a", "score": 1, "title": "A"}]}, title="name") == [
            ("a", 1.0, {"id": "a", "score": 1})
        ]

    def test_the_answer_may_be_the_list_itself(self):
        assert self.read([{"id": "a", "score": 1}], items="")[0][0] == "a"
        assert self.read([], items="") == []
        with pytest.raises(ContractBroken, match="no list"):
            self.read({"items": []}, items="")

    def test_numbers_are_ids_only_where_that_is_said(self):
        items = {"items": [{"id": 318, "score": 1}, {"id": "318", "score": 2}, {"id": 0, "score": 3}]}
        assert [row[:2] for row in self.read(items, number_ids=True)] == [("318", 1.0), ("0", 3.0)]
        with pytest.raises(ContractBroken, match="no text but a number, which number_ids = true would take"):
            self.read(items, title="name")

    def test_a_name_that_is_wrong_is_told(self):
        answer = {"data": {"results": [{"movie": {"id": "a"}, "score": 1}]}}
        with pytest.raises(ContractBroken, match=r"no list of items at data\.result$"):
            self.read(answer, items="data.result", id="movie.id")
        with pytest.raises(ContractBroken, match=r"an item without movie\.key or score$"):
            self.read(answer, items="data.results", id="movie.key")

    @pytest.mark.parametrize("key", [True, 1.0, None, "", [1]])
    def test_whole_numbers_and_text_alone_are_ids(self, key):
        with pytest.raises(ContractBroken):
            self.read({"items": [{"id": key, "score": 1}]}, number_ids=True)

    def test_an_error_is_looked_for_where_it_stands(self):
        with pytest.raises(ContractBroken, match="error"):
            self.read({"items": [], "status": {"failure": "no model"}}, error="status.failure")
        assert self.read({"items": [], "error": "not theirs"}, error="status.failure") == []

    @pytest.mark.parametrize(
        "document",
        [{"data": None}, {"data": []}, {"data": {"results": {}}}, {"data": {"results": [1]}}, [], 1,
         {"data": {"results": [{"movie": "m1", "score": 1}]}},
         {"data": {"results": [{"movie": {"id": "a"}}]}},
         {"data": {"results": [{"movie": {"id": "a"}, "score": "1"}]}},
         {"data": {"results": [{"movie": {"id": "a"}, "score": 1}] * (MAX_CANDIDATES + 1)}}],
    )  # fmt: skip
    def test_anything_else_breaks_the_contract(self, document):
        with pytest.raises(ContractBroken):
            self.read(document, items="data.results", id="movie.id")


class TestBlend:
    def test_alpha_is_the_weight_of_cf(self):
        ranked = blend(0.6, candidates(a=10, b=5, c=0), candidates(b=3, d=2, a=1))
        assert [(key, label) for _, key, label, _ in ranked] == [
            ("b", "hybrid"),
            ("a", "hybrid"),
            ("d", "content"),
            ("c", "cf"),
        ]
        assert [-minus for minus, *_ in ranked] == pytest.approx([0.6 * 0.5 + 0.4, 0.6, 0.4 * 0.5, 0.0])

    @pytest.mark.parametrize("missing", [None, []])
    def test_a_source_alone_has_the_whole_weight(self, missing):
        assert [row[:3] for row in blend(0.6, candidates(a=1, b=3), missing)] == [
            (-1.0, "b", "cf"),
            (0.0, "a", "cf"),
        ]
        assert [row[:3] for row in blend(0.6, missing, candidates(a=1, b=3))] == [
            (-1.0, "b", "content"),
            (0.0, "a", "content"),
        ]
        assert blend(0.6, missing, missing) == []

    def test_scores_that_do_not_differ_are_all_one(self):
        assert [row[:2] for row in blend(0.5, candidates(b=7, a=7), None)] == [(-1.0, "a"), (-1.0, "b")]
        assert [row[:2] for row in blend(0.5, candidates(a=-3), candidates(b=9))] == [
            (-0.5, "a"),
            (-0.5, "b"),
        ]

    def test_scores_near_the_ends_of_doubles_are_no_trouble(self):
        ranked = blend(0.5, candidates(a=1.7e308, b=-1.7e308, c=0.0), None)
        assert [-minus for minus, *_ in ranked] == pytest.approx([1.0, 0.5, 0.0])

    def test_of_an_item_of_both_the_richer_fields_are_kept(self):
        rich = {"id": "a", "score": 1, "title": "A"}
        for cf, content in (({"id": "a"}, rich), (rich, {"id": "a"})):
            assert blend(0.5, [("a", 1, cf)], [("a", 1, content)])[0][3] is rich


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
                    "score": 0.75,
                    "source": "cf",
                    "title": "Film x",
                    "year": 2000,
                    "genres": ["Drama"],
                },
                {
                    "rank": 2,
                    "id": "y",
                    "score": 0.25,
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
        assert answer[1:] == ("A", "cf", 2, 2, False)

    def test_it_ends_at_k(self):
        answer = composed(ask(b"k=2"), shown("x"), shown("y"), shown("z"))
        assert ids(answer) == ["x", "y"]
        assert (answer.covered, answer.returned) == (2, 2)

    def test_popularity_fills_what_is_left_and_says_so(self):
        answer = composed(ask(b"k=4"), shown("p1"))
        assert ids(answer) == ["p1", "p0", "p2", "p3"]
        assert answer[1:] == ("D", "cf", 1, 4, True)
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
        assert answer[1:] == ("D", "", 0, 0, True)

    def test_the_catalogue_completes_items(self):
        answer = composed(ask(b"k=1"), (-0.5, "p3", "content", {"id": "p3", "title": None}))
        item = orjson.loads(answer.body)["items"][0]
        assert (item["title"], item["year"], item["genres"]) == ("Popular 3", 1993, ["Drama"])
        assert (item["source"], item["score"]) == ("content", 0.5)

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

    def test_filters_hold_by_the_catalogue_where_the_item_does_not_say(self):
        assert ids(composed(ask(b"k=1&providers=netflix"), shown("p9"))) == ["p9"]
        assert composed(ask(b"k=1&providers=hbo"), shown("p9")).covered == 0
        assert composed(ask(b"k=1&year_min=2010"), (-1.0, "p3", "cf", {"id": "p3"})).source == "pruned"

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
        assert quick[1:] == full[1:]

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
