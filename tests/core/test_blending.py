"""One ranking of what the sources offer."""

import pytest

from proxy.core.blending import blend
from proxy.core.candidates import Candidate


def candidates(**scores: float) -> list[Candidate]:
    return [(key, score, {"id": key, "score": score}) for key, score in scores.items()]


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
