"""Which requests have a shadow, and how far two answers agree."""

import gzip
import zlib
from itertools import permutations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.routing import bucket
from proxy.core.shadow import Shown, compare, drawn, items_of, overlap, rank_biased_overlap

LIMIT = 10_000
RANKINGS = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=10)


def listing(ids, **more):
    return orjson.dumps({"items": [{"id": key} for key in ids], **more})


def by_definition(one, other, p):
    """Equation 32 of the paper, term by term."""
    s, l = sorted((one, other), key=len)  # noqa: E741
    x = [len(set(one[:d]) & set(other[:d])) for d in range(len(l) + 1)]
    first = sum(x[d] / d * p**d for d in range(1, len(l) + 1))
    second = sum(x[len(s)] * (d - len(s)) / (len(s) * d) * p**d for d in range(len(s) + 1, len(l) + 1))
    return (1 - p) / p * (first + second) + ((x[-1] - x[len(s)]) / len(l) + x[len(s)] / len(s)) * p ** len(l)


class TestDraw:
    @given(st.binary(max_size=20), st.integers(0, 10_000), st.integers(0, 10_000))
    def test_raising_the_percentage_only_adds_requests(self, key, one, other):
        low, high = sorted((one, other))
        assert drawn(key, low / 100) <= drawn(key, high / 100)
        assert drawn(key, 100) is True
        assert drawn(key, 0) is False

    def test_shares_come_out_and_are_independent_of_exposure(self):
        """Within four standard deviations."""
        ids = [b"request-%d" % n for n in range(20_000)]
        found = [key for key in ids if drawn(key, 12.34)]
        assert len(found) == pytest.approx(2468, abs=4 * (20_000 * 0.1234 * 0.8766) ** 0.5)
        exposed = sum(bucket(key, b"exposure") < 5000 for key in found)
        assert exposed == pytest.approx(len(found) / 2, abs=2 * len(found) ** 0.5)


class TestRank:
    @pytest.mark.parametrize(
        ("one", "other", "p", "expected"),
        [
            ("12345", "23415", 0.9, 0.828),  # published with two implementations of the paper
            ("abcde", "abcde", 0.9, 1.0),
            ("abc", "xyz", 0.9, 0.0),
            ("", "", 0.9, 1.0),
            ("", "a", 0.9, 0.0),
        ],
    )
    def test_known_values(self, one, other, p, expected):
        assert rank_biased_overlap(one, other, p) == pytest.approx(expected, abs=1e-9)

    @given(RANKINGS.filter(bool), RANKINGS.filter(bool), st.floats(0.1, 0.99))
    def test_it_is_what_the_paper_defines(self, one, other, p):
        found = rank_biased_overlap(one, other, p)
        assert found == pytest.approx(by_definition(one, other, p), abs=1e-9)
        assert found == rank_biased_overlap(other, one, p)
        assert 0 <= found <= 1

    def test_the_top_counts_most(self):
        best = [rank_biased_overlap("abcdef", "".join(other)) for other in permutations("abcdef")]
        assert max(best) == best[0] == 1
        assert rank_biased_overlap("abcdef", "bacdef") < rank_biased_overlap("abcdef", "abcdfe") < 1

    @given(RANKINGS, RANKINGS)
    def test_overlap_is_a_share_of_the_longer_list(self, one, other):
        found = overlap(one, other)
        assert found == overlap(other, one)
        assert (found == 1) == (set(one) == set(other))
        assert found * max(len(one), len(other), 1) == pytest.approx(
            len(set(one) & set(other)) if one or other else 1
        )


class TestCompare:
    def test_items_in_the_same_order_are_the_same_whatever_stands_beside_them(self):
        real, shadow = Shown(200, listing("abc", request_id="1")), Shown(200, listing("abc", request_id="2"))
        assert compare(real, shadow, limit=LIMIT) == ("same", 1.0, 1.0)
        assert compare(real, real, limit=LIMIT) == ("same", 1.0, 1.0)

    def test_items_are_compared_by_their_ids_and_order(self):
        found = compare(Shown(200, listing("abcd")), Shown(200, listing("abdx")), limit=LIMIT)
        assert (found.verdict, found.overlap) == ("other_items", 0.75)
        assert found.rank == rank_biased_overlap("abcd", "abdx")
        found = compare(Shown(200, listing("ab")), Shown(200, listing("ba")), limit=LIMIT)
        assert (found.verdict, found.overlap) == ("other_items", 1.0)

    def test_of_answers_of_other_statuses_no_items_are_compared(self):
        assert compare(Shown(200, listing("a")), Shown(503, listing("a")), limit=LIMIT) == (
            "other_status", None, None,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("one", "other", "verdict"),
        [
            (b"x", b"x", "same"), (b"x", b"y", "other_body"), (b"", b"", "same"),
            (b"{}", b"{ }", "other_body"),
            (listing("a"), b"x", "other_body"), (b'{"items": [1]}', b'{"items": [1]} ', "other_body"),
            (b'{"items": {"id": 1}}', listing("a"), "other_body"),
        ],
    )  # fmt: skip
    def test_other_bodies_are_equal_or_not(self, one, other, verdict):
        assert compare(Shown(200, one), Shown(200, other), limit=LIMIT) == (verdict, None, None)

    @pytest.mark.parametrize(
        ("coding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress), (b"identity", bytes)]
    )
    def test_bodies_are_unpacked(self, coding, pack):
        real, shadow = Shown(200, listing("ab")), Shown(200, pack(listing("ab", more=1)), coding)
        assert compare(real, shadow, limit=LIMIT) == ("same", 1.0, 1.0)

    @pytest.mark.parametrize(
        ("coding", "body"),
        [
            (b"br", b"x"), (b"gzip", b"no gzip"), (b"gzip", gzip.compress(b"x", mtime=0)[:-4]),
            (b"gzip", gzip.compress(bytes(LIMIT + 1), mtime=0)), (b"gzip, gzip", b"x"),
            (b"", bytes(LIMIT + 1)),
        ],
    )  # fmt: skip
    def test_what_cannot_be_read_is_no_difference(self, coding, body):
        """Neither a foreign coding nor a bomb of zeros."""
        assert compare(Shown(200, b"x"), Shown(200, body, coding), limit=LIMIT).verdict == "unreadable"

    def test_the_limit_is_inclusive(self):
        body = bytes(LIMIT)
        assert (
            compare(Shown(200, body), Shown(200, gzip.compress(body), b"gzip"), limit=LIMIT).verdict == "same"
        )

    @pytest.mark.parametrize("key", [None, 1.5, [], {}, True])
    def test_ids_are_text_or_whole_numbers(self, key):
        assert items_of(listing(["a", 7, "a"])) == ["a", "7"]
        assert items_of(listing([key])) is None

    @given(st.binary(max_size=60))
    def test_any_bytes_can_be_looked_at(self, body):
        compare(Shown(200, body), Shown(200, body + b"x", b"gzip"), limit=LIMIT)
