"""Each rule of the breaker by itself, on a clock that only the test moves."""

import pybreaker
import pytest

from proxy.core.breaker import (
    MOVES,
    Breaker,
    BreakerSettings,
    IllegalMoveError,
    Outcome,
    Transition,
)
from proxy.core.breaker_values import Cause

OK, BAD, NEUTRAL = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL


class Bench:
    """A breaker, its clock, and what it announced. Jitter is off unless a test draws it."""

    def __init__(self, *, draw: float = 0.5, now: float = 1000.0, **settings) -> None:
        self.now = now
        self.draw = draw
        self.moves: list[Transition] = []
        self.breaker = Breaker(
            "cf",
            BreakerSettings(**settings),
            rng=lambda: self.draw,
            on_transition=self.moves.append,
            now=self.now,
        )

    def admit(self, bucket: int = 0) -> int:
        return self.breaker.admit(self.now, bucket)

    def done(self, token: int, outcome: Outcome = OK) -> None:
        self.breaker.done(token, outcome, self.now)

    def call(self, outcome: Outcome = OK, times: int = 1, takes: float = 0.0) -> None:
        for _ in range(times):
            token = self.admit()
            assert token
            self.now += takes
            self.done(token, outcome)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.breaker.tick(self.now)

    def half_open(self) -> int:
        """Trip it, wait out the cooldown: the token of the first probe."""
        self.call(BAD, times=self.breaker.settings.consecutive_failures)
        assert self.breaker.state == "open"
        self.now = self.breaker._until
        token = self.admit()
        assert self.breaker.state == "half_open"
        return token

    def recover(self) -> None:
        """From closed through open and half-open to closed, with the ramp just begun."""
        token = self.half_open()
        for _ in range(self.breaker.settings.probe_successes):
            self.done(token)
            token = self.breaker.state == "half_open" and self.admit()
        assert self.breaker.state == "closed"

    @property
    def state(self) -> str:
        return self.breaker.state

    @property
    def status(self):
        return self.breaker.snapshot(self.now)

    @property
    def last(self) -> Transition:
        return self.moves[-1]


def rates_only(**settings) -> Bench:
    return Bench(consecutive_failures=0, **settings)


# settings


def test_settings_whose_fields_disagree_are_refused_with_every_disagreement():
    with pytest.raises(ValueError, match=r"probe_successes \(4\).*probes \(3\).*; cooldown_max_s \(1\)"):
        BreakerSettings(probe_successes=4, cooldown_max_s=1)


# tripping


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


# open


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


# half-open


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


# dry run


def test_a_dry_run_moves_and_reports_and_refuses_nothing():
    bench = Bench(dry_run=True, cooldown_s=5)
    bench.call(BAD, times=5)
    assert (bench.state, bench.last.dry_run) == ("open", True)
    before = bench.status
    bench.call(BAD, times=50)
    assert bench.status == before
    bench.wait(5)
    probe = bench.admit()
    others = [bench.admit() for _ in range(10)]
    assert all(others)
    for token in others:
        bench.breaker.responded(token, bench.now)
        bench.done(token, BAD)
    assert (bench.state, bench.status.probes_failed) == ("half_open", 0)
    bench.done(probe)
    bench.call(OK)
    assert bench.state == "closed"
    assert all(bench.admit(bucket) for bucket in range(0, 10_000, 100))
    assert all(move.dry_run for move in bench.moves)


# by hand


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


# reload


def test_new_settings_keep_state_and_counts():
    bench = Bench(consecutive_failures=10)
    bench.call(BAD, times=4)
    bench.breaker.reconfigure(BreakerSettings(consecutive_failures=5), bench.now)
    assert (bench.state, bench.status.n, bench.status.consecutive) == ("closed", 4, 4)
    bench.call(BAD)
    assert bench.state == "open"


def test_a_new_slow_threshold_holds_for_calls_in_flight():
    bench = Bench(slow_call_ms=10_000)
    bench.admit()
    bench.breaker.reconfigure(BreakerSettings(slow_call_ms=100), bench.now)
    bench.wait(0.2)
    assert bench.status.slow == 1


def test_a_new_window_begins_empty_and_never_holds_more_failures_than_calls():
    bench = Bench(now=3.0, slow_call_ms=100, consecutive_failures=0, window_s=20)
    tokens = [bench.admit() for _ in range(3)]
    bench.wait(0.2)
    bench.breaker.reconfigure(BreakerSettings(slow_call_ms=100, window_s=10), bench.now)
    assert bench.status.n == 0
    for token in tokens:
        bench.done(token, BAD)
    assert (bench.status.n, bench.status.failures) == (3, 3)


def test_a_shorter_cooldown_holds_for_one_under_way():
    bench = Bench(cooldown_s=100)
    bench.call(BAD, times=5)
    bench.breaker.reconfigure(BreakerSettings(cooldown_s=2), bench.now)
    bench.wait(2)
    assert bench.admit()


# what others see


def test_every_move_of_the_table_is_heard_by_pybreaker_listeners_after_it_is_complete():
    bench = Bench(probe_successes=1)
    heard = []

    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb, old_state, new_state):
            heard.append((old_state.name, new_state.name, bench.breaker.state, bench.status.generation))

    bench.breaker.circuit.add_listener(Listener())
    bench.done(bench.half_open())
    assert heard == [
        ("closed", "open", "open", 1),
        ("open", "half-open", "half_open", 2),
        ("half-open", "closed", "closed", 3),
    ]
    assert [(move.before, move.to) for move in bench.moves] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    assert bench.breaker.circuit.current_state == "closed"


def test_a_move_that_is_not_in_the_table_raises_and_changes_nothing():
    bench = Bench()
    before = bench.status
    for to, rule in [("half_open", "cooldown"), ("closed", "manual"), ("open", "probes_failed")]:
        with pytest.raises(IllegalMoveError):
            bench.breaker._move(to, bench.now, Cause(rule, ""))
    assert bench.status == before
    assert not bench.moves
    assert all(before != to for before, to in MOVES)


def test_opened_for_counts_from_leaving_closed_through_failed_trials():
    bench = Bench(cooldown_s=5, probes=1, probe_successes=1)
    bench.call(BAD, times=5)
    bench.wait(5)
    bench.call(BAD)
    bench.wait(3)
    assert bench.status.opened_for_s == pytest.approx(8)
