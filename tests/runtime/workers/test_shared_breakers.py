"""One breaker of many workers, as an operator sees it."""

from proxy.core.breaker import Breaker, BreakerSettings, Outcome
from proxy.runtime.workers.breakers import merged


def worker(*, calls=0, failures=0, at=0.0):
    """A worker's breaker after so many calls, the failures last."""
    made = Breaker("cf", BreakerSettings(), rng=lambda: 0.5, on_transition=lambda _: None, now=0.0)
    for number in range(calls):
        failed = number >= calls - failures
        made.done(made.admit(at, 0), Outcome.FAILURE if failed else Outcome.SUCCESS, at)
    return made


def read(*breakers, now=1.0):
    return merged([breaker.snapshot(now) for breaker in breakers])


def test_one_worker_alone_is_shown_as_it_is():
    breaker = worker(calls=4, failures=1)
    assert read(breaker) == breaker.snapshot(1.0)


def test_counts_are_those_of_all_and_rates_are_of_them():
    told = read(worker(calls=3, failures=1), worker(calls=5, failures=3))
    assert (told.state, told.n, told.failures, told.failure_rate) == ("closed", 8, 4, 0.5)
    assert told.consecutive == 3


def test_the_worst_state_is_shown_with_its_pause_whoever_told_last():
    tripped, well = worker(calls=5, failures=5, at=0.5), worker(calls=5)
    for told in (read(tripped, well), read(well, tripped)):
        assert (told.state, told.ramp_share, told.generation) == ("open", 0.0, 1)
        assert told.retry_after_s == tripped.snapshot(1.0).retry_after_s
        assert told.last.rule == "consecutive_failures"


def test_of_closed_ones_the_one_in_its_ramp_is_shown():
    ramping = worker()
    ramping.open(0.1, "drill")
    ramping.auto(0.5, "mended")
    told = read(worker(), ramping)
    assert (told.state, told.ramp_share < 1, told.last.reason) == ("closed", True, "mended")


def test_the_latest_change_anywhere_is_the_last_one():
    early, late = worker(), worker()
    early.open(0.1, "first")
    late.open(0.2, "second")
    assert read(late, early).last.reason == "second"
