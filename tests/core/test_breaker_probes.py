"""The trial of a half-open breaker: how many probes, their leases, their verdict."""

import pytest
from breaker_bench import BAD, NEUTRAL, OK, Bench


def test_one_probe_at_a_time_by_default():
    bench = Bench()
    token = bench.half_open()
    assert token
    assert not any(bench.admit() for _ in range(100))
    refusal = bench.breaker.refusal(bench.now)
    assert (refusal.rule, refusal.retry_after_s) == ("half_open", 1)
    bench.done(token)
    assert bench.admit()
    assert not bench.admit()


def test_no_more_probes_than_their_number_at_any_concurrency():
    bench = Bench(probes=3, probe_successes=3, probe_concurrency=10)
    bench.half_open()
    assert sum(bool(bench.admit()) for _ in range(20)) == 2


def test_enough_successes_close():
    bench = Bench(probes=3, probe_successes=2)
    token = bench.half_open()
    bench.done(token, BAD)
    bench.call(OK)
    assert bench.state == "half_open"
    assert (bench.status.probes_passed, bench.status.probes_failed) == (1, 1)
    bench.call(OK)
    assert bench.state == "closed"
    last = bench.last
    assert (last.rule, last.observed, last.n, last.threshold) == ("probes_passed", 2, 3, 2)
    assert bench.status.opened_for_s == 0


def test_it_reopens_as_soon_as_the_successes_cannot_be_reached():
    bench = Bench(probes=5, probe_successes=4)
    token = bench.half_open()
    bench.done(token, BAD)
    assert bench.state == "half_open"
    bench.call(BAD)
    last = bench.last
    assert (last.to, last.rule, last.observed, last.n, last.threshold) == ("open", "probes_failed", 2, 2, 2)


def test_a_neutral_probe_frees_its_lease_without_a_verdict():
    bench = Bench()
    token = bench.half_open()
    for _ in range(20):
        bench.done(token, NEUTRAL)
        token = bench.admit()
        assert token
    assert (bench.state, bench.status.probes_passed, bench.status.probes_failed) == ("half_open", 0, 0)


def test_a_probe_without_a_head_by_the_end_of_its_lease_has_failed():
    bench = Bench(probe_lease_s=2, slow_call_ms=60_000)
    token = bench.half_open()
    bench.wait(1.9)
    assert not bench.admit()
    bench.wait(0.1)
    assert bench.status.probes_failed == 1
    other = bench.admit()
    assert other
    bench.done(token)
    assert (bench.status.probes_passed, bench.status.probes_inflight) == (0, 1)
    bench.wait(2)
    assert (bench.state, bench.last.rule, bench.last.observed) == ("open", "lease_expired", 2)


def test_leases_lapse_without_ticks_when_the_next_call_asks():
    bench = Bench(probe_lease_s=2, slow_call_ms=60_000)
    bench.half_open()
    bench.now += 2
    assert bench.admit()


def test_a_response_head_keeps_the_lease_until_the_body_ends():
    bench = Bench(probe_lease_s=2)
    token = bench.half_open()
    bench.breaker.responded(token, bench.now)
    bench.wait(30)
    assert not bench.admit()
    bench.done(token)
    assert bench.status.probes_passed == 1


def test_a_slow_probe_has_failed_before_it_ends_and_keeps_its_place():
    bench = Bench(slow_call_ms=100)
    token = bench.half_open()
    bench.wait(0.2)
    assert bench.status.probes_failed == 1
    assert not bench.admit()
    bench.breaker.responded(token, bench.now)
    bench.done(token, BAD)
    assert bench.status.probes_failed == 1
    assert bench.admit()


def test_a_late_head_can_end_a_trial_at_once():
    bench = Bench(slow_call_ms=100, probes=1, probe_successes=1)
    token = bench.half_open()
    bench.now += 0.2
    bench.breaker.responded(token, bench.now)
    assert bench.last.rule == "probes_failed"


@pytest.mark.parametrize("head", [True, False])
def test_a_probe_that_succeeds_late_has_failed(head):
    bench = Bench(slow_call_ms=100)
    token = bench.half_open()
    bench.now += 0.2
    if head:
        bench.breaker.responded(token, bench.now)
    bench.done(token)
    assert (bench.status.probes_passed, bench.status.probes_failed) == (0, 1)


def test_a_trial_that_hears_nothing_more_closes_on_its_successes():
    bench = Bench(half_open_s=60)
    bench.done(bench.half_open())
    bench.wait(59.9)
    assert bench.state == "half_open"
    bench.wait(0.1)
    last = bench.last
    assert (last.to, last.rule, last.n) == ("closed", "half_open_timeout", 1)
    assert last.observed == pytest.approx(last.threshold)


def test_a_trial_that_hears_nothing_more_reopens_after_any_failure():
    bench = Bench(half_open_s=60)
    bench.done(bench.half_open())
    bench.call(BAD)
    bench.wait(60)
    assert (bench.last.to, bench.last.rule) == ("open", "half_open_timeout")
    assert bench.breaker._until - bench.now == pytest.approx(10)


def test_a_trial_without_any_verdict_reopens_and_doubles_nothing():
    bench = Bench(half_open_s=60, cooldown_s=5)
    bench.done(bench.half_open(), NEUTRAL)
    bench.wait(60)
    assert (bench.last.to, bench.last.rule) == ("open", "half_open_timeout")
    assert bench.breaker._until - bench.now == pytest.approx(5)


def test_a_probe_that_streams_on_closes_a_trial_in_the_end():
    """An upstream of event streams has no calls that end; it must not stay cut off for good."""
    bench = Bench(half_open_s=60)
    bench.breaker.responded(bench.half_open(), bench.now)
    bench.wait(60)
    assert (bench.last.to, bench.last.rule) == ("closed", "half_open_timeout")


def test_the_probes_of_a_trial_that_is_over_are_ignored():
    bench = Bench(probes=3, probe_successes=2, probe_concurrency=3)
    first = bench.half_open()
    second, third = bench.admit(), bench.admit()
    bench.done(first)
    bench.done(second)
    assert bench.state == "closed"
    bench.done(third, BAD)
    assert (bench.status.n, bench.status.consecutive) == (0, 0)


def test_who_only_passes_takes_no_probe_and_begins_no_trial():
    bench = Bench(probes=1, probe_successes=1)
    assert bench.breaker.passes(bench.now, 9_999)
    bench.call(BAD, times=bench.breaker.settings.consecutive_failures)
    bench.now = bench.breaker._until
    before = bench.status
    assert not bench.breaker.passes(bench.now, 0)
    assert (bench.state, bench.status) == ("open", before)
    token = bench.admit()
    bench.done(token, NEUTRAL)
    assert not bench.breaker.passes(bench.now, 0)  # a probe would be free
    assert bench.admit()


def test_who_only_passes_is_let_in_by_the_ramp_like_all():
    bench = Bench(ramp_s=10)
    bench.recover()
    assert [bench.breaker.passes(bench.now, bucket) for bucket in (999, 1_000)] == [True, False]
    assert [bool(bench.admit(bucket)) for bucket in (999, 1_000)] == [True, False]


def test_who_only_passes_meets_a_dry_run_and_an_operator_like_all():
    bench = Bench(dry_run=True)
    bench.call(BAD, times=bench.breaker.settings.consecutive_failures)
    assert bench.breaker.passes(bench.now, 9_999)
    bench.breaker.open(bench.now, "why")
    assert not bench.breaker.passes(bench.now, 0)
