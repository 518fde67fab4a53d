"""Draws: by their distributions, and repeatable."""

from collections import Counter
from math import exp, lgamma, log, log1p, sqrt
from random import Random

import pytest

from proxy.core.simulation.chance import binomial, poisson

DRAWS = 8_000
OFTEN = 10  # values expected less often than this are taken together


def far_off(drawn, chance):
    """How many standard deviations Pearson's statistic is above its mean, for chances by value."""
    counts = Counter(drawn)
    expected = {k: len(drawn) * chance(k) for k in range(max(counts) + 50)}
    common = [k for k, often in expected.items() if often >= OFTEN]
    rest = len(drawn) - sum(expected[k] for k in common)
    statistic = sum((counts[k] - expected[k]) ** 2 / expected[k] for k in common)
    freedom = len(common) - 1
    if rest > OFTEN:
        statistic += (len(drawn) - sum(counts[k] for k in common) - rest) ** 2 / rest
        freedom += 1
    return (statistic - freedom) / sqrt(2 * freedom)


def of_binomial(n, p):
    def chance(k):
        if k > n:
            return 0.0
        ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
        return exp(ways + k * log(p) + (n - k) * log1p(-p))

    return chance


@pytest.mark.parametrize(
    ("n", "p"),
    [(1, 0.5), (5, 0.3), (3_000, 0.001), (100, 0.099), (100, 0.1), (40, 0.7), (1_000, 0.15), (300, 0.96)],
)
def test_how_many_of_n_is_binomial(n, p):
    rng = Random(1).random
    assert far_off([binomial(n, p, rng) for _ in range(DRAWS)], of_binomial(n, p)) < 4


@pytest.mark.parametrize("mean", [0.1, 3, 9.9, 10, 60, 400])
def test_arrivals_are_poisson(mean):
    rng = Random(1).random
    drawn = [poisson(mean, rng) for _ in range(DRAWS)]
    assert far_off(drawn, lambda k: exp(k * log(mean) - mean - lgamma(k + 1))) < 4


def test_what_cannot_be_needs_no_chance():
    def rng():
        raise AssertionError

    assert [binomial(0, 0.5, rng), binomial(7, 0.0, rng), binomial(7, 1.0, rng), poisson(0.0, rng)] == [
        0,
        0,
        7,
        0,
    ]


def test_the_rarest_never_hang():
    rng = Random(1).random
    assert binomial(10**9, 1e-300, rng) == 0
    assert 0 <= binomial(10**9, 1e-12, rng) <= 10


def test_the_same_seed_draws_the_same():
    first, second = Random(7).random, Random(7).random
    assert [binomial(900, 0.2, first) for _ in range(50)] == [binomial(900, 0.2, second) for _ in range(50)]
