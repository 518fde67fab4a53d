"""The breaker as a whole: its settings and their change, dry run, and what others see of its moves."""

import pybreaker
import pytest
from breaker_bench import BAD, OK, Bench

from proxy.core.breaker import MOVES, BreakerSettings, IllegalMoveError
from proxy.core.breaker_values import Cause


def test_settings_whose_fields_disagree_are_refused_with_every_disagreement():
    with pytest.raises(ValueError, match=r"probe_successes \(4\).*probes \(3\).*; cooldown_max_s \(1\)"):
        BreakerSettings(probe_successes=4, cooldown_max_s=1)


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
