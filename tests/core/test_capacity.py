"""What upstreams have shown: best slots of the last hour, latency of the last minutes."""

import pytest

from proxy.core.capacity import SLOT_S, Capacity, Missing, Reads, Shown, Total


class Counted:
    """An upstream whose counters grow, and the capacity that is told of it every slot."""

    def __init__(self):
        self.capacity = Capacity()
        self.now = 500.0
        self.place = ("http://a",)
        self.successes = self.calls = 0
        self.seconds = 0.0
        self.tell()

    def tell(self):
        self.capacity.observe(self.now, {"cf": Total(self.place, self.successes, self.calls, self.seconds)})

    def slot(self, successes, latency_s=0.02, failures=0, length_s=SLOT_S):
        self.now += length_s
        self.successes += successes
        self.calls += successes + failures
        self.seconds += (successes + failures) * latency_s
        self.tell()

    @property
    def shown(self):
        return self.capacity.shown("cf")


@pytest.fixture
def cf():
    return Counted()


def test_nothing_is_known_of_who_was_never_asked(cf):
    assert cf.shown == cf.capacity.shown("nobody") == Shown()
    cf.slot(0)
    assert cf.shown == Shown()


def test_what_was_counted_before_the_first_look_shows_nothing():
    counted = Counted()
    counted.successes = 10**6
    counted.capacity = Capacity()
    counted.tell()
    assert counted.shown == Shown()


def test_the_best_slot_counts_and_failures_are_nothing_shown(cf):
    for successes in (100, 300, 200):
        cf.slot(successes, failures=500)
    assert cf.shown.per_s == 30.0


def test_a_slot_that_took_longer_is_a_rate_all_the_same(cf):
    cf.slot(600, length_s=60.0)
    assert cf.shown.per_s == 10.0


def test_the_best_slot_is_forgotten_after_an_hour(cf):
    cf.slot(500)
    for _ in range(359):
        cf.slot(10)
    assert cf.shown.per_s == 50.0
    cf.slot(10)
    assert cf.shown.per_s == 1.0


def test_latency_is_the_mean_of_the_calls_of_the_last_minutes(cf):
    cf.slot(100, latency_s=9.0)
    for _ in range(59):
        cf.slot(10, latency_s=0.01)
    cf.slot(590, latency_s=0.03)
    assert cf.shown.latency_s == pytest.approx(0.02)


def test_at_another_place_it_is_another_service(cf):
    cf.slot(500)
    cf.place = ("http://b",)
    cf.slot(100)
    assert cf.shown == Shown()
    cf.slot(100)
    assert cf.shown.per_s == 10.0


def test_reads_of_the_cache_count_for_the_last_minutes():
    missing = Missing()
    missing.observe(Reads(1000, 1000))  # of before anybody looked
    assert missing.share is None
    missing.observe(Reads(1000, 1000))
    assert missing.share is None
    missing.observe(Reads(1100, 1010))
    missing.observe(Reads(1200, 1040))
    assert missing.share == 0.2
    for _ in range(60):
        missing.observe(Reads(1200, 1040))
    assert missing.share is None


def test_who_is_gone_is_forgotten(cf):
    cf.slot(500)
    cf.capacity.observe(cf.now, {})
    assert cf.shown == Shown()
    cf.tell()
    assert cf.shown == Shown()
