"""One ranking of what the sources offer."""

import pytest

from proxy.core.blending import Ranking, blend, ranking
from proxy.core.candidates import Candidate, Candidates


def candidates(**scores: float) -> Candidates:
    return {key: Candidate(key, score) for key, score in scores.items()}


def ranked(found: Ranking) -> list[tuple[float, str]]:
    return [(found.scores[key], key) for key in found.ids()]


class TestBlend:
    def test_alpha_is_the_weight_of_cf(self):
        found = blend(0.6, candidates(a=10, b=5, c=0), candidates(b=3, d=2, a=1))
        assert found.ids() == ["b", "a", "d", "c"]
        assert [found.scores[key] for key in "badc"] == pytest.approx([0.6 * 0.5 + 0.4, 0.6, 0.4 * 0.5, 0.0])

    def test_what_each_source_said_is_known(self):
        cf, content = candidates(a=1, b=2), candidates(b=3)
        assert blend(0.6, cf, content)[1:] == (cf, content, ("cf", "content", "hybrid"))
        assert blend(0.6, None, content)[1:3] == ({}, content)
        assert ranking("control", cf)[1:] == (cf, {}, ("control", "", ""))

    @pytest.mark.parametrize("missing", [None, {}])
    def test_a_source_alone_has_the_whole_weight(self, missing):
        assert ranked(blend(0.6, candidates(a=1, b=3), missing)) == [(1.0, "b"), (0.0, "a")]
        assert ranked(blend(0.6, missing, candidates(a=1, b=3))) == [(1.0, "b"), (0.0, "a")]
        assert ranked(ranking("control", candidates(a=1, b=3))) == [(1.0, "b"), (0.0, "a")]
        assert ranked(blend(0.6, missing, missing)) == ranked(ranking("control", missing)) == []

    @pytest.mark.parametrize("score", [7.0, -3.0, 0.0, -0.0, 5e-324, 1.7e308])
    def test_scores_that_do_not_differ_are_all_one(self, score):
        alike = candidates(b=score, a=score)
        assert ranked(blend(0.5, alike, None)) == ranked(ranking("x", alike)) == [(1.0, "a"), (1.0, "b")]
        assert ranked(blend(0.5, candidates(a=score), candidates(b=9))) == [(0.5, "a"), (0.5, "b")]

    def test_of_equal_scores_the_lower_id_comes_first(self):
        assert blend(0.5, candidates(d=1, b=0, c=1), candidates(a=1, e=0)).ids() == ["a", "c", "d", "b", "e"]

    def test_scores_near_the_ends_of_doubles_are_no_trouble(self):
        far = candidates(a=1.7e308, b=-1.7e308, c=0.0)
        for found in (blend(0.5, far, None), ranking("x", far)):
            assert found.ids() == ["a", "c", "b"]
            assert [found.scores[key] for key in "acb"] == pytest.approx([1.0, 0.5, 0.0])
