"""Draws from distributions of counts, out of uniform numbers that are passed in: the same seed, the same run.

Exact for every mean, in a number of steps that does not grow with it: small means by inversion, large ones
by transformed rejection (W. Hörmann, "The generation of binomial random variates", Journal of Statistical
Computation and Simulation 46, 1993, and "The transformed rejection method for generating Poisson random
variables", Insurance: Mathematics and Economics 12, 1993).
"""

from collections.abc import Callable
from math import exp, floor, lgamma, log, log1p, sqrt
from typing import TypeAlias

Rng: TypeAlias = Callable[[], float]
"""Uniform on [0, 1), as `random.Random(seed).random`."""

_SMALL = 10.0
"""The mean from which rejection is valid, and cheaper than inversion."""


def binomial(n: int, p: float, rng: Rng) -> int:
    """How many of `n` requests, each of them with chance `p`."""
    if n <= 0 or p <= 0:
        return 0
    if p >= 1:
        return n
    if p > 0.5:
        return n - binomial(n, 1 - p, rng)
    return _few(n, p, rng) if n * p < _SMALL else _many(n, p, rng)


def _few(n: int, p: float, rng: Rng) -> int:
    """The gaps between those that are hit are geometric."""
    scale = log1p(-p)
    if scale == 0.0:  # too rare for a double
        return 0
    hits, at = 0, 0
    while True:
        at += floor(log(1.0 - rng()) / scale) + 1
        if at > n:
            return hits
        hits += 1


def _many(n: int, p: float, rng: Rng) -> int:
    q = 1.0 - p
    deviation = sqrt(n * p * q)
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    c = n * p + 0.5
    sure = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * deviation
    odds = log(p / q)
    mode = floor((n + 1) * p)
    top = lgamma(mode + 1) + lgamma(n - mode + 1)
    while True:
        u, v = rng() - 0.5, 1.0 - rng()
        edge = 0.5 - abs(u)
        if edge <= 0.0:
            continue
        k = floor((2.0 * a / edge + b) * u + c)
        if edge >= 0.07 and v <= sure:
            return k
        if not 0 <= k <= n:
            continue
        height = log(v * alpha / (a / (edge * edge) + b))
        if height <= top - lgamma(k + 1) - lgamma(n - k + 1) + (k - mode) * odds:
            return k


def poisson(mean: float, rng: Rng) -> int:
    """How many arrive, where `mean` are expected and none knows of another."""
    if mean <= 0:
        return 0
    if mean >= _SMALL:
        return _arrivals(mean, rng)
    end, product, arrived = exp(-mean), 1.0 - rng(), 0
    while product > end:
        product *= 1.0 - rng()
        arrived += 1
    return arrived


def _arrivals(mean: float, rng: Rng) -> int:
    deviation, ln_mean = sqrt(mean), log(mean)
    b = 0.931 + 2.53 * deviation
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    sure = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u, v = rng() - 0.5, 1.0 - rng()
        edge = 0.5 - abs(u)
        if edge <= 0.0:
            continue
        k = floor((2.0 * a / edge + b) * u + mean + 0.43)
        if edge >= 0.07 and v <= sure:
            return k
        if k < 0 or (edge < 0.013 and v > edge):
            continue
        if log(v * inverse_alpha / (a / (edge * edge) + b)) <= k * ln_mean - mean - lgamma(k + 1):
            return k
