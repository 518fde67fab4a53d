"""Sources are believed as far as their contract goes."""

import orjson
import pytest
from msgspec import Raw

from proxy.core.candidates import (
    MAX_CANDIDATES,
    Candidate,
    Candidates,
    ContractBroken,
    Fields,
    Shape,
    parse_candidates,
)


def scores(found: Candidates) -> list[tuple[str, float]]:
    return [(key, it.score) for key, it in found.by_id.items()]


class TestCandidates:
    def test_items_keep_what_can_be_shown(self):
        body = (
            b'{"items":[{"id":"a","score":0.5,"title":"A","year":1999,"genres":["War"],"providers":["hbo"]},'
            b'{"id":"b","score":1,"poster":"no"}],"more":true}'
        )
        found = parse_candidates(body)
        assert found.by_id == {
            "a": Candidate("a", 0.5, "A", 1999, Raw(b'["War"]')),
            "b": Candidate("b", 1.0),
        }
        assert [found.providers(key) for key in "abc"] == [["hbo"], None, None]

    def test_of_repeated_ids_the_first_counts(self):
        body = b'{"items":[{"id":"a","score":1},{"id":"b","score":2},{"id":"a","score":3}]}'
        assert scores(parse_candidates(body)) == [("a", 1.0), ("b", 2.0)]

    @pytest.mark.parametrize(
        ("ids", "usable"), [("aab", True), ("abab", True), ("aaa", False), ("ababa", False)]
    )
    def test_who_mostly_repeats_itself_is_broken(self, ids, usable):
        body = orjson.dumps({"items": [{"id": key, "score": 1} for key in ids]})
        if usable:
            assert list(parse_candidates(body).by_id) == sorted(set(ids))
        else:
            with pytest.raises(ContractBroken, match="repeated"):
                parse_candidates(body)

    @pytest.mark.parametrize("error", [b'"model not loaded"', b"true", b"500", b'{"code":7}', b"[1]"])
    def test_no_items_are_an_answer_but_not_beside_an_error(self, error):
        assert parse_candidates(b'{"items":[]}').by_id == {}
        with pytest.raises(ContractBroken, match="error"):
            parse_candidates(b'{"items":[],"error":%b}' % error)

    @pytest.mark.parametrize("error", [b"null", b"false", b'""', b"0", b"[]", b"{}"])
    def test_an_error_that_is_none_is_none(self, error):
        assert parse_candidates(b'{"items":[],"error":%b}' % error).by_id == {}

    def test_an_error_beside_items_takes_nothing_away(self):
        assert parse_candidates(b'{"items":[{"id":"a","score":1}],"error":"slow"}').by_id.keys() == {"a"}

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

    def read(self, document: object, **named: object) -> Candidates:
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
        assert found.by_id == {"m1": Candidate("m1", 3.0, "One", 1999, Raw(b'["War"]'))}
        assert found.providers("m1") == ["hbo"]

    def test_what_an_item_does_not_have_is_left_to_the_catalogue(self):
        found = self.read({"items": [{"id": "a", "score": 1, "title": "A"}]}, title="name")
        assert found.by_id == {"a": Candidate("a", 1.0)}

    def test_the_answer_may_be_the_list_itself(self):
        assert self.read([{"id": "a", "score": 1}], items="").by_id.keys() == {"a"}
        assert self.read([], items="").by_id == {}
        with pytest.raises(ContractBroken, match="no list"):
            self.read({"items": []}, items="")

    def test_numbers_are_ids_only_where_that_is_said(self):
        items = {"items": [{"id": 318, "score": 1}, {"id": "318", "score": 2}, {"id": 0, "score": 3}]}
        assert scores(self.read(items, number_ids=True)) == [("318", 1.0), ("0", 3.0)]
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
        assert self.read({"items": [], "error": "not theirs"}, error="status.failure").by_id == {}

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
