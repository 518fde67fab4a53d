"""One trigger about one series: what it tells its detector, and what it answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollback_traffic import TARGETS, cell

from proxy.core.rollback.detector import Alternatives, Detector
from proxy.core.rollback.settings import DEFAULT_TRIGGERS
from proxy.core.rollback.signals import LATE
from proxy.core.rollback.triggers import DAY_S, Care, Past, Stream, measure
from proxy.core.rollback.verdicts import ALL
from proxy.core.rollback.window import Series

WIDTH = LATE + len(TARGETS)
COVERAGE, _, ERROR = DEFAULT_TRIGGERS[:3]
TICKS = st.lists(
    st.tuples(st.sampled_from([0.25, 1.0, 7.0, 40.0]), st.integers(0, 60), st.floats(0, 0.15)),
    min_size=1,
    max_size=80,
)


class Fed:
    """A stream, fed tick by tick."""

    def __init__(self, trigger=ERROR, days=3_650.0):
        care = Care.shared(days * DAY_S, 14, 10.0, 20)
        of = Alternatives(trigger.share)
        self.stream = Stream(trigger, ALL, measure(trigger, TARGETS), of, care, Past(600.0), 0.0)
        self.series = Series(WIDTH, 10.0)
        self.now = 0.0

    def tick(self, seconds=0.25, **counts):
        self.now += seconds
        counts = cell(**counts)
        self.series.add(counts, self.now)
        return self.stream.tick(counts, (0,) * WIDTH, self.series, self.now)

    def verdict(self, baseline=None):
        return self.stream.verdict(*self.stream.look(self.series, self.now), baseline)


@given(TICKS)
def test_ticks_told_together_give_no_higher_value_than_each_by_itself(ticks):
    """So quiet ticks may be put off without one more false alarm."""
    fed = Fed(COVERAGE, days=1e9)
    exact = Detector(Alternatives(COVERAGE.share), 0.0)
    for seconds, n, part in ticks:
        short = round(n * part, 3)
        fed.tick(seconds, n=n, short=short)
        if n:
            exact.add(n, short, fed.now)
        if short > n * COVERAGE.share and n:
            assert fed.stream.detector.value <= exact.value * (1 + 1e-9)


def test_quiet_ticks_are_told_once_in_ten_seconds(monkeypatch):
    """This is what thirty days cost."""
    told = []
    add = Detector.add
    monkeypatch.setattr(Detector, "add", lambda self, *tick: told.append(tick) or add(self, *tick))
    fed = Fed()
    for _ in range(400):
        fed.tick(n=10)
    assert len(told) == 10
    fed.tick(n=10, failed=1)
    assert len(told) <= 12


def test_what_fails_after_it_was_counted_as_late_counts():
    """Its request came in a tick before."""
    fed = Fed()
    for _ in range(40):
        fed.tick(n=1)
    for _ in range(20):
        fed.tick(n=1, late=1, late_cold=1)
    assert sum(fed.tick(n=0, failed=1) for _ in range(20)) == 1
    assert fed.verdict().observed <= 1.0


def test_a_breach_that_silence_has_ended_does_not_come_back_with_one_failure():
    fed = Fed()
    for _ in range(40):
        fed.tick(n=10, failed=10)
    fed.now += 700.0
    assert fed.verdict().answer == "no_data"
    fed.tick(n=40)
    fed.tick(n=1, failed=1)
    assert fed.verdict().answer == "inconclusive"


@pytest.mark.parametrize(
    ("share", "baseline", "answer"),
    [
        (0.0, None, "ok"),
        (0.0009, None, "ok"),
        (0.0012, None, "inconclusive"),
        (0.0012, 0.0013, "ok"),
        (0.0012, 0.0001, "inconclusive"),
        (0.0020, 0.0100, "inconclusive"),
        (0.0030, 0.0100, "breach"),
    ],
)
def test_what_was_normal_before_is_ok_within_reason_and_a_breach_all_the_same(share, baseline, answer):
    fed = Fed()
    for part in range(10):
        before, after = round(2_000 * share * part), round(2_000 * share * (part + 1))
        fed.tick(50.0, n=2_000, failed=after - before)
    found = fed.verdict(baseline)
    assert (found.answer, found.baseline) == (answer, baseline)


def test_what_is_still_needed_is_what_it_takes():
    fed = Fed()
    fed.tick(n=400)
    found = fed.verdict()
    assert (found.answer, found.needed) == ("inconclusive", 600)
    fed.tick(n=600)
    assert fed.verdict().answer == "ok"
    fed = Fed()
    fed.tick(n=10_000, failed=13)
    found = fed.verdict()
    assert (found.answer, found.observed > found.threshold > found.bound) == ("inconclusive", True)
    fed.tick(n=found.needed, failed=round(found.needed * 0.0013) + 1)
    assert fed.verdict().answer == "breach"
