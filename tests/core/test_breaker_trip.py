"""What trips a breaker: failures in a row, rates over the window, slow calls; and what counts for none."""

import pytest
from breaker_bench import BAD, NEUTRAL, OK, Bench, rates_only


def test_failures_in_a_row_trip_whatever_the_minimum():
    bench = Bench(consecutive_failures=5, minimum_calls=1000)
    bench.call(BAD, times=4)
    bench.call(OK)
    bench.call(BAD, times=4)
    assert bench.state == "closed"
    bench.call(BAD)
    assert bench.state == "open"
    assert (bench.last.rule, bench.last.observed, bench.last.threshold) == ("consecutive_failures", 5, 5)


def test_the_failure_rate_trips_once_there_are_enough_calls():
    bench = rates_only(failure_rate=0.5, minimum_calls=20)
    for _ in range(9):
        bench.call(BAD)
        bench.call(OK)
    bench.call(BAD)
    assert bench.state == "closed"
    bench.call(OK)
    assert bench.state == "open"
    last = bench.last
    assert (last.rule, last.observed, last.n, last.threshold) == ("failure_rate", 0.5, 20, 0.5)
    assert (last.upstream, last.before, last.to, last.dry_run, last.at) == (
        "cf",
        "closed",
        "open",
        False,
        bench.now,
    )
    assert last.reason == "10 of 20 calls in 10 s failed"


def test_a_rate_below_its_threshold_does_not_trip():
    bench = rates_only(failure_rate=0.5)
    for _ in range(100):
        bench.call(OK, times=6)
        bench.call(BAD, times=5)
    assert bench.state == "closed"
    assert bench.status.failure_rate == pytest.approx(5 / 11)


def test_failures_older_than_the_window_are_forgotten():
    bench = rates_only(minimum_calls=10, window_s=10)
    bench.call(BAD, times=9)
    bench.wait(10)
    bench.call(BAD, times=9)
    assert bench.state == "closed"
    assert (bench.status.n, bench.status.failures) == (9, 9)


def test_slow_calls_trip_though_all_succeed():
    bench = rates_only(slow_call_ms=100, slow_rate=0.8, minimum_calls=10)
    bench.call(OK, times=2)
    bench.call(OK, times=7, takes=0.11)
    assert bench.state == "closed"
    bench.call(OK, takes=0.11)
    assert bench.state == "open"
    assert (bench.last.rule, bench.last.observed, bench.last.n) == ("slow_rate", 0.8, 10)


def test_every_call_counted_as_slow_is_counted_for_good_once():
    """At its end, when its head comes, or while it hangs; the window forgets, this does not."""
    bench = rates_only(slow_call_ms=100, minimum_calls=10, window_s=10)
    bench.call(OK, takes=0.11)
    token = bench.admit()
    bench.now += 0.11
    bench.breaker.responded(token, bench.now)
    bench.done(token, BAD)
    token = bench.admit()
    bench.wait(0.2)
    bench.wait(11)
    bench.done(token, BAD)
    assert (bench.breaker.slow_calls, bench.status.slow) == (3, 0)


def test_a_call_of_exactly_the_slow_threshold_is_not_slow():
    bench = rates_only(slow_call_ms=125)
    bench.call(OK, takes=0.125)
    assert bench.status.slow == 0


def test_twenty_hanging_calls_trip_before_any_of_them_ends():
    bench = rates_only(slow_call_ms=125, minimum_calls=20)
    for _ in range(20):
        bench.admit()
    bench.wait(0.125)
    assert bench.state == "closed"
    bench.wait(0.05)
    assert bench.state == "open"
    assert (bench.last.rule, bench.last.observed, bench.last.n) == ("slow_rate", 1.0, 20)


def test_only_calls_past_the_threshold_count_while_they_run():
    bench = rates_only(slow_call_ms=100)
    bench.admit()
    bench.now += 0.08
    bench.admit()
    bench.wait(0.05)
    assert (bench.status.n, bench.status.slow) == (1, 1)


def test_a_call_counted_as_slow_adds_only_its_failure_when_it_ends():
    bench = Bench(slow_call_ms=100)
    token = bench.admit()
    bench.wait(0.2)
    bench.done(token, BAD)
    status = bench.status
    assert (status.n, status.slow, status.failures, status.consecutive) == (1, 1, 1, 1)


def test_a_call_counted_as_slow_that_fails_after_the_window_is_counted_anew():
    bench = Bench(slow_call_ms=100, window_s=10)
    token = bench.admit()
    bench.wait(0.2)
    bench.wait(11)
    bench.done(token, BAD)
    assert (bench.status.n, bench.status.slow, bench.status.failures) == (1, 0, 1)


def test_a_head_in_time_settles_slowness_though_the_body_takes_long():
    bench = Bench(slow_call_ms=100)
    token = bench.admit()
    bench.breaker.responded(token, bench.now + 0.05)
    bench.wait(60)
    bench.done(token)
    assert (bench.status.n, bench.status.slow, bench.status.failures) == (1, 0, 0)


def test_a_body_that_breaks_after_a_head_in_time_is_a_failure():
    bench = Bench()
    token = bench.admit()
    bench.breaker.responded(token, bench.now)
    bench.done(token, BAD)
    assert (bench.status.n, bench.status.failures) == (1, 1)


def test_a_late_head_counts_as_slow_at_once_and_only_once():
    bench = Bench(slow_call_ms=100)
    token = bench.admit()
    bench.now += 0.2
    bench.breaker.responded(token, bench.now)
    assert (bench.status.n, bench.status.slow) == (1, 1)
    bench.breaker.responded(token, bench.now)
    bench.done(token)
    assert (bench.status.n, bench.status.slow) == (1, 1)


def test_a_late_head_can_trip():
    bench = rates_only(slow_call_ms=100, minimum_calls=1)
    token = bench.admit()
    bench.now += 0.2
    bench.breaker.responded(token, bench.now)
    assert bench.last.rule == "slow_rate"


def test_neutral_ends_change_nothing():
    bench = Bench(slow_call_ms=100, minimum_calls=1)
    bench.call(NEUTRAL, times=100, takes=0.5)
    token = bench.admit()
    bench.breaker.responded(token, bench.now)
    bench.done(token, NEUTRAL)
    assert (bench.status.n, bench.status.slow, bench.status.consecutive) == (0, 0, 0)
    assert not bench.moves


def test_a_neutral_end_does_not_break_a_row_of_failures():
    bench = Bench(consecutive_failures=3)
    bench.call(BAD, times=2)
    bench.call(NEUTRAL)
    bench.call(BAD)
    assert bench.state == "open"


def test_a_token_counts_once_and_an_unknown_one_never():
    bench = Bench()
    token = bench.admit()
    for _ in range(10):
        bench.done(token, BAD)
    bench.done(12345, BAD)
    bench.breaker.responded(12345, bench.now)
    bench.done(0, BAD)
    assert (bench.status.n, bench.status.consecutive) == (1, 1)


def test_results_of_calls_from_before_the_trip_are_ignored():
    bench = Bench(consecutive_failures=2)
    late = [bench.admit() for _ in range(10)]
    bench.call(BAD, times=2)
    before = bench.status
    for token in late:
        bench.breaker.responded(token, bench.now)
        bench.done(token, BAD)
    assert bench.status == before
