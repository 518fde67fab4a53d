"""The detector: what its derivation needs, and what it promises, by enumeration and by simulation."""

from itertools import product
from math import comb, isfinite
from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.rollback.detector import PAUSE_S, Alternatives, Detector

SHARES = st.sampled_from([0.0005, 0.001, 0.02, 0.05, 0.3, 0.9, 0.97])


@given(SHARES, st.lists(st.floats(0, 1), min_size=1, max_size=4), st.integers(1, 6))
def test_a_bet_is_fair_at_what_is_allowed_and_loses_below(share, parts, n):
    """Each request a variable with any values between 0 and 1 and a mean of `share`: on average no gain."""
    of = Alternatives(share)
    above = [share + (1 - share) * it for it in parts]  # a value above the mean, and 0 below it
    for value in above:
        probability = share / value
        gains = [
            sum(
                probability ** sum(bad)
                * (1 - probability) ** (n - sum(bad))
                * of.ratios(n, value * sum(bad))[k]
                for bad in product((0, 1), repeat=n)
            )
            for k in range(len(of.shares))
        ]
        assert max(gains) <= 1 + 1e-9


@given(SHARES, st.integers(1, 7))
def test_it_grows_by_a_second_a_second_at_what_is_allowed(share, n):
    """M - t keeps its expectation, exactly, over two ticks of n requests that go wrong or do not."""
    of = Alternatives(share)

    chances = [comb(n, bad) * share**bad * (1 - share) ** (n - bad) for bad in range(n + 1)]
    expected = 0.0
    for (first, p), (second, q) in product(enumerate(chances), repeat=2):
        detector = Detector(of, 0.0)
        detector.add(n, first, 0.25)
        expected += p * q * detector.add(n, second, 1.0)
    assert expected == pytest.approx(1.0, rel=1e-9)


@given(SHARES, st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=20), st.data())
def test_the_more_goes_wrong_the_higher_it_is(share, ticks, data):
    place = data.draw(st.integers(0, len(ticks) - 1))
    more = data.draw(st.floats(0, 1))
    values = []
    for extra in (0.0, more):
        detector = Detector(Alternatives(share), 0.0)
        for at, (n, part) in enumerate(ticks):
            s = n * part if at != place else n * (part + (1 - part) * extra)
            detector.add(n, s, at + 1.0)
        values.append(detector.value)
    assert values[1] >= values[0] * (1 - 1e-9)


@given(SHARES, st.lists(st.sampled_from([(10**6, 0), (10**6, 10**6), (1, 1), (0, 1), (3, 0.5)]), max_size=30))
def test_it_never_leaves_the_numbers_and_comes_back_from_anywhere(share, ticks):
    detector = Detector(Alternatives(share), 0.0)
    for at, (n, s) in enumerate(ticks):
        assert isfinite(detector.add(n, s, at + 1.0))
    for at in range(3):
        detector.add(10**6, 0, 100.0 + at)
    assert detector.value < 1e4
    for at in range(4):
        detector.add(1000, 1000, 200.0 + at)
    assert detector.value > 1e12 or share > 0.9


def test_a_silence_is_worth_no_more_than_a_pause():
    detector = Detector(Alternatives(0.001), 0.0)
    assert detector.add(1, 0, 10_000.0) <= PAUSE_S
    assert detector.add(1, 0, 5_000.0) <= PAUSE_S  # nor a clock that went back


def first_alarm(allowed, share, rate, tick, limit, chance, most, begins=0.0):
    """Seconds from `begins` until the detector reaches the limit; `most` if it does not."""
    detector, now = Detector(Alternatives(allowed), 0.0), 0.0
    while now < most:
        now += tick
        n = int(rate * tick)
        actual = share if now > begins else allowed * 0.3
        if detector.add(n, sum(chance.random() < actual for _ in range(n)), now) >= limit:
            return now - begins
    return most


def test_a_false_alarm_is_as_rare_as_was_asked_for():
    """At exactly what is allowed, 100 s asked for: runs of up to 1,000 s, which can only lower the mean."""
    chance = Random(7)
    runs = [first_alarm(0.05, 0.05, 20, 0.5, 100.0, chance, 1_000.0) for _ in range(120)]
    assert mean(runs) >= 100.0
    assert mean(runs) <= 800.0  # it is a detector, not a stone


@pytest.mark.parametrize(
    ("share", "least", "most"), [(1.0, 0.1, 1.0), (0.1, 0.1, 2.5), (0.02, 3.0, 14.0), (0.005, 20.0, 90.0)]
)
def test_how_soon_it_speaks(share, least, most):
    """The figures of facts 2.7: 0.1 % allowed, 50 requests a second, 10^7 s to a false alarm."""
    chance = Random(3)
    runs = sorted(first_alarm(0.001, share, 50, 0.24, 1e7, chance, 400.0, begins=59.9) for _ in range(9))
    assert least <= runs[4] <= most
