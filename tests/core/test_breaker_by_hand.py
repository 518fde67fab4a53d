"""A breaker that an operator holds, and lets go."""

import pybreaker
import pytest
from breaker_bench import BAD, Bench


def test_open_by_hand_refuses_until_auto():
    bench = Bench(cooldown_s=5)
    bench.breaker.open(bench.now, "maintenance")
    assert (bench.last.rule, bench.last.reason, bench.status.forced) == ("manual", "maintenance", "open")
    bench.wait(3600)
    assert not bench.admit()
    refusal = bench.breaker.refusal(bench.now)
    assert (refusal.rule, refusal.retry_after_s, refusal.reason) == ("manual", 5, "maintenance")
    bench.breaker.auto(bench.now, "done")
    assert (bench.state, bench.status.forced, bench.last.reason) == ("closed", None, "done")
    assert bench.status.ramp_share == pytest.approx(0.1)


def test_open_by_hand_holds_a_breaker_that_was_open_already():
    bench = Bench(cooldown_s=5)
    bench.call(BAD, times=5)
    bench.breaker.open(bench.now, "hold it")
    assert len(bench.moves) == 1
    bench.wait(3600)
    assert not bench.admit()
    assert bench.breaker.refusal(bench.now).reason == "hold it"


def test_open_by_hand_ends_a_trial():
    bench = Bench()
    token = bench.half_open()
    bench.breaker.open(bench.now, "no")
    bench.done(token)
    bench.wait(3600)
    assert (bench.state, bench.status.probes_inflight) == ("open", 0)


def test_close_by_hand_admits_all_and_goes_on_counting():
    bench = Bench()
    bench.half_open()
    bench.breaker.close(bench.now, "I know better")
    assert all(bench.admit(bucket) for bucket in (0, 5000, 9999))
    bench.call(BAD, times=100)
    assert (bench.state, bench.status.failures, bench.status.forced) == ("closed", 100, "closed")
    bench.breaker.auto(bench.now, "over")
    assert bench.state == "closed"
    bench.call(BAD)
    assert bench.last.rule == "consecutive_failures"


def test_open_by_hand_is_no_failed_recovery():
    bench = Bench(cooldown_s=5, ramp_s=10)
    bench.recover()
    bench.breaker.open(bench.now, "lunch")
    bench.breaker.auto(bench.now, "back")
    bench.wait(30)
    bench.call(BAD, times=5)
    assert bench.breaker._until - bench.now == pytest.approx(5)


def test_whoever_hears_of_a_close_by_hand_sees_all_admitted():
    heard = []
    bench = Bench()
    bench.call(BAD, times=5)
    listener = pybreaker.CircuitBreakerListener()
    listener.state_change = lambda *_: heard.append(bench.status.ramp_share)
    bench.breaker.circuit.add_listener(listener)
    bench.breaker.close(bench.now, "now")
    assert heard == [1]


def test_close_by_hand_ends_a_ramp():
    bench = Bench(ramp_s=10)
    bench.recover()
    bench.breaker.close(bench.now, "all of them")
    assert bench.admit(9999)


def test_auto_of_a_breaker_nobody_holds_changes_nothing():
    bench = Bench()
    bench.call(BAD, times=5)
    bench.breaker.auto(bench.now, "?")
    assert (bench.state, len(bench.moves)) == ("open", 1)
