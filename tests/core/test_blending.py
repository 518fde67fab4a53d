"""One ranking of what the sources offer."""

import pytest

from proxy.core.blending import Ranking, blend, ranking
from proxy.core.candidates import NO_CANDIDATES, Candidate, Candidates


def candidates(**scores: float) -> Candidates:
    """Each with its id for a title."""
    found = {key: Candidate(key, score, key) for key, score in scores.items()}
    return Candidates([*found.values()], found, {})


def ranked(found: Ranking) -> list[tuple[float, str]]:
    return [(0.0 - minus, key) for minus, key, _, _ in found.rows]


def scores(found: Ranking) -> list[float]:
    return [0.0 - minus for minus, *_ in found.rows]


class TestBlend:
    def test_alpha_is_the_weight_of_cf(self):
        found = blend(0.6, candidates(a=10, b=5, c=0), candidates(b=3, d=2, a=1))
        assert [(key, label) for _, key, _, label in found.rows] == [
            ("b", "hybrid"),
            ("a", "hybrid"),
            ("d", "content"),
            ("c", "cf"),
        ]
        assert scores(found) == pytest.approx([0.6 * 0.5 + 0.4, 0.6, 0.4 * 0.5, 0.0])

    def test_what_each_source_said_is_known(self):
        cf, content = candidates(b=2, a=1), candidates(b=3)
        found = blend(0.6, cf, content)
        assert (found.one, found.other) == (cf, content)
        assert {key: said for _, key, said, _ in found.rows} == cf.by_id  # of b, what the first one says
        assert blend(0.6, None, content).rows == [(-1.0, "b", content.by_id["b"], "content")]
        assert ranking("control", content).rows == [(-1.0, "b", content.by_id["b"], "control")]

    @pytest.mark.parametrize("missing", [None, NO_CANDIDATES])
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

    @pytest.mark.parametrize("alpha", [1.0, 1e-300, 0.6])
    def test_the_best_few_are_those_of_all(self, alpha):
        """Also where a weight makes scores alike that are not."""
        cf, content = candidates(x=1, y=0), candidates(e=5, d=4, c=3, b=2, a=1)
        for one, other in ((cf, content), (content, cf)):
            every = blend(alpha, one, other).ids()
            assert [blend(alpha, one, other, most).ids()[:most] for most in range(1, 8)] == [
                every[:most] for most in range(1, 8)
            ]

    def test_what_cannot_be_among_the_best_few_is_left_out(self):
        cf, content = candidates(x=9, b=4, c=0), candidates(e=5, d=4, c=3, b=2, a=1)
        assert set(blend(0.5, cf, content, 2).ids()) == {"x", "b", "c", "e", "d"}

    def test_scores_near_the_ends_of_doubles_are_no_trouble(self):
        far = candidates(a=1.7e308, b=-1.7e308, c=0.0)
        for found in (blend(0.5, far, None), ranking("x", far)):
            assert found.ids() == ["a", "c", "b"]
            assert scores(found) == pytest.approx([1.0, 0.5, 0.0])
            assert [said.title for _, _, said, _ in found.rows] == ["a", "c", "b"]
        for one, other in ((far, candidates(a=1, d=0)), (candidates(a=1, d=0), far)):
            found = blend(0.5, one, other)
            assert found.ids() == ["a", "c", "b", "d"]
            assert scores(found) == pytest.approx([1.0, 0.25, 0.0, 0.0])
