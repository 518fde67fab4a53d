"""From open back to everybody: the cooldown, how it grows, and the ramp."""

import pytest
from breaker_bench import BAD, OK, Bench


def test_open_refuses_until_the_cooldown_is_over_and_says_how_long():
    bench = Bench(cooldown_s=5)
    bench.call(BAD, times=5)
    bench.wait(0.5)
    assert not bench.admit()
    refusal = bench.breaker.refusal(bench.now)
    assert (refusal.rule, refusal.retry_after_s) == ("consecutive_failures", 5)
    assert refusal.reason == "5 failures in a row"
    bench.wait(4.4)
    assert not bench.admit()
    assert bench.breaker.refusal(bench.now).retry_after_s == 1
    bench.wait(0.1)
    assert bench.state == "open"
    assert bench.admit()
    assert bench.state == "half_open"
    assert (bench.last.rule, bench.last.observed, bench.last.threshold) == (
        "cooldown",
        pytest.approx(5),
        pytest.approx(5),
    )


def test_no_trial_begins_without_a_call_to_try():
    bench = Bench(cooldown_s=5)
    bench.call(BAD, times=5)
    bench.wait(3600)
    assert bench.state == "open"
    assert bench.status.retry_after_s == 1
    assert bench.admit()


@pytest.mark.parametrize(("draw", "cooldown"), [(0.0, 4.0), (0.5, 5.0), (0.999999, 6.0)])
def test_jitter_spreads_the_cooldown_to_both_sides(draw, cooldown):
    bench = Bench(draw=draw, cooldown_s=5, cooldown_jitter=0.2)
    bench.call(BAD, times=5)
    assert bench.breaker._until - bench.now == pytest.approx(cooldown, abs=1e-4)


def test_each_failed_trial_doubles_the_cooldown_up_to_its_limit():
    bench = Bench(cooldown_s=5, cooldown_max_s=30, probes=1, probe_successes=1)
    bench.call(BAD, times=5)
    cooldowns = []
    for _ in range(5):
        cooldowns.append(bench.breaker._until - bench.now)
        bench.now = bench.breaker._until
        bench.call(BAD)
    assert cooldowns == [5, 10, 20, 30, 30]


def test_a_trip_during_the_ramp_is_a_failed_recovery():
    bench = Bench(cooldown_s=5, ramp_s=10)
    bench.recover()
    bench.wait(9.75)
    bench.call(BAD, times=5)
    assert bench.breaker._until - bench.now == 10


def test_a_trip_soon_after_the_ramp_repeats_the_cooldown():
    bench = Bench(cooldown_s=5, cooldown_max_s=60, ramp_s=10)
    bench.recover()
    bench.call(BAD, times=5)
    assert bench.breaker._until - bench.now == 10
    bench.now = bench.breaker._until
    bench.call(OK, times=2)
    bench.wait(30)
    bench.call(BAD, times=5)
    assert bench.breaker._until - bench.now == 10


def test_a_trip_long_after_closing_begins_with_the_first_cooldown_again():
    bench = Bench(cooldown_s=5, cooldown_max_s=60, ramp_s=10)
    bench.recover()
    bench.call(BAD, times=5)
    bench.now = bench.breaker._until
    bench.call(OK, times=2)
    bench.wait(60)
    bench.call(BAD, times=5)
    assert bench.breaker._until - bench.now == 5


# ramp


def test_after_closing_the_share_of_users_grows_from_a_tenth_to_all():
    bench = Bench(ramp_s=10)
    bench.recover()
    shares = []
    for _ in range(11):
        tokens = [bench.admit(bucket) for bucket in range(0, 10_000, 50)]
        shares.append(sum(map(bool, tokens)) / 200)
        for token in tokens:
            bench.done(token)
        bench.wait(1)
    assert shares == pytest.approx([0.1 + 0.09 * second for second in range(10)] + [1.0], abs=0.006)


def test_the_ramp_refuses_by_bucket_and_says_until_when():
    bench = Bench(ramp_s=10)
    bench.recover()
    assert bench.admit(999)
    assert not bench.admit(1000)
    refusal = bench.breaker.refusal(bench.now)
    assert (refusal.rule, refusal.retry_after_s) == ("ramp", 10)
    assert refusal.reason == "recovering: 10% of users are let in"
    assert bench.status.ramp_share == pytest.approx(0.1)
    bench.wait(10)
    assert bench.admit(9999)
    assert (bench.status.ramp_share, bench.status.retry_after_s) == (1, 0)
    assert bench.breaker._passing  # the short way through admit again


def test_without_a_ramp_all_come_back_at_once():
    bench = Bench(ramp_s=0)
    bench.recover()
    assert bench.admit(9999)


def test_closing_begins_with_an_empty_window():
    bench = Bench(window_s=1000, minimum_calls=5)
    bench.recover()
    assert (bench.status.n, bench.status.failures, bench.status.consecutive) == (0, 0, 0)
