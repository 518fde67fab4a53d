"""Bounds of a share: against the exact tails, and what they promise."""

from math import comb, exp, log

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.rollback.estimate import CONFIDENT, chance, kl, lower, needed, odds, over, under, upper

SHARES = st.floats(0.0005, 0.9995)
EVIDENCE = st.floats(0.01, 40.0)
COUNTS = st.integers(1, 5_000).flatmap(lambda n: st.tuples(st.just(n), st.floats(0, n)))


def tail(n, s, q):
    """P(at least s of n), exactly."""
    return sum(comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(s, n + 1))


@given(st.integers(1, 60), SHARES, EVIDENCE)
def test_a_bound_is_passed_no_more_often_than_it_says(n, q, evidence):
    """Over everything that n requests may come to, the true share is outside with a chance below exp(-e)."""
    missed = sum(
        comb(n, s) * q**s * (1 - q) ** (n - s) for s in range(n + 1) if lower(n, s, evidence) > q + 1e-12
    )
    assert missed <= exp(-evidence) * (1 + 1e-9)
    missed = sum(
        comb(n, s) * q**s * (1 - q) ** (n - s) for s in range(n + 1) if upper(n, s, evidence) < q - 1e-12
    )
    assert missed <= exp(-evidence) * (1 + 1e-9)


@given(COUNTS, EVIDENCE)
@example((5_000, 4_999.999), 0.01)
@example((1, 1e-9), 40.0)
def test_the_bounds_are_where_the_evidence_is_what_was_asked_for(counts, evidence):
    """And not further out than a thousandth of it."""
    n, s = counts
    low, high = lower(n, s, evidence), upper(n, s, evidence)
    assert 0.0 <= low <= s / n + 1e-12
    assert s / n - 1e-12 <= high <= 1.0
    if 1e-9 < high < 1 - 1e-9:
        assert evidence * (1 - 1e-6) <= under(n, s, high) <= evidence * 1.001
    if 1e-9 < low < 1 - 1e-9:
        assert evidence * (1 - 1e-6) <= over(n, s, low) <= evidence * 1.001


def test_nothing_came_nothing_is_told():
    assert (lower(0, 0, 1.0), upper(0, 0, 1.0)) == (0.0, 1.0)
    assert needed(0, 0, 0.1, 1.0) is None
    assert over(0, 0, 0.1) == under(0, 0, 0.1) == 0.0


@given(COUNTS, SHARES)
def test_so_many_more_at_the_same_rate_and_it_is_told(counts, share):
    n, s = counts
    more = needed(n, s, share, CONFIDENT)
    if more is not None and abs(s / n - share) > 1e-6:
        grown = (n + more) / n
        assert over(n * grown, s * grown, share) + under(n * grown, s * grown, share) >= CONFIDENT * 0.999


@pytest.mark.parametrize(("share", "n"), [(0.3, 4), (0.05, 21), (0.02, 51), (0.001, 1_000), (0.0005, 1_998)])
def test_how_many_requests_ok_takes_where_nothing_goes_wrong(share, n):
    """What decisions.md says about it."""
    assert needed(1, 0, odds(share, 3.0), CONFIDENT) + 1 == n


@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_the_chance_is_fishers(n, m, data):
    s = data.draw(st.integers(0, n))
    t = data.draw(st.integers(0, m))
    exact = sum(
        comb(n, k) * comb(m, s + t - k) for k in range(s, min(n, s + t) + 1) if s + t - k <= m
    ) / comb(n + m, s + t)
    assert chance(n, s, m, t) == pytest.approx(exact, rel=1e-6)


def test_the_same_share_in_both_is_no_surprise_at_any_size():
    assert chance(40_000, 40_000, 10_000, 10_000) == 1.0
    assert 0.4 < chance(40_000, 4_000, 10_000, 1_000) < 0.7
    assert chance(40_000, 4_200, 10_000, 800) < 1e-9


def test_kl_by_hand():
    assert kl(0.5, 0.25) == pytest.approx(0.5 * log(2) + 0.5 * log(0.5 / 0.75))
    assert odds(0.5, 3.0) == 0.75
    assert tail(20, 20, 0.001) < exp(-over(20, 20, 0.001)) * 1.001
