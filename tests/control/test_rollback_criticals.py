"""Failures that need no statistics: open breakers, broken contracts, workers that crash in a loop."""

from types import SimpleNamespace

from proxy.control.rollback_criticals import CONTRACT_S, CRASH_S, Criticals
from proxy.core.breaker import Breaker, BreakerSettings, Outcome
from proxy.telemetry.counters import Counters


def breaker(**how):
    return Breaker("cf", BreakerSettings(**how), rng=lambda: 0.5, on_transition=lambda _: None, now=0.0)


def broken(it, now=0.0):
    for _ in range(5):
        it.done(it.admit(now, 0), Outcome.FAILURE, now)


def criticals(it=None, counters=None, restarts=lambda: 0):
    holder = SimpleNamespace(breakers={} if it is None else {"cf": it})
    return Criticals(holder, counters or Counters(), restarts)


def kinds(found):
    return [(one.kind, one.name) for one in found]


def test_an_open_breaker_is_critical_until_it_has_closed_again():
    it = breaker()
    found = criticals(it)
    assert found.look(["cf"], 0.0) == ()
    broken(it, 1.0)
    assert kinds(found.look(["cf"], 2.0)) == [("breaker_open", "cf")]
    assert found.look(["cf"], 2.0)[0].detail == "5 failures in a row"
    permit = it.admit(9.0, 0)  # it probes
    assert it.snapshot(9.0).state == "half_open"
    assert kinds(found.look(["cf"], 9.0)) == [("breaker_open", "cf")]
    it.done(permit, Outcome.SUCCESS, 9.1)
    it.done(it.admit(9.2, 0), Outcome.SUCCESS, 9.3)
    assert it.snapshot(9.4).state == "closed"
    assert found.look(["cf"], 9.4) == ()


def test_no_decision_and_no_dry_run_is_critical_nor_what_is_not_named():
    by_hand = breaker()
    by_hand.open(0.0, "maintenance")
    assert criticals(by_hand).look(["cf"], 1.0) == ()
    dry = breaker(dry_run=True)
    broken(dry)
    assert criticals(dry).look(["cf"], 1.0) == ()
    other = breaker()
    broken(other)
    assert criticals(other).look([], 1.0) == ()


def test_a_contract_is_broken_by_answers_that_are_none_and_heals_with_time():
    counters = Counters()
    cell = counters.upstream("cf")
    found = criticals(counters=counters)
    found.look(["cf"], 0.0)
    cell.outcomes["invalid"] += 4
    assert found.look(["cf"], 1.0) == ()
    cell.outcomes["invalid"] += 1
    assert kinds(found.look(["cf"], 2.0)) == [("contract_broken", "cf")]
    assert found.look(["cf"], 2.0)[0].detail.startswith("5 of 5 answers")
    cell.outcomes["success"] += 6
    assert found.look(["cf"], 3.0) == ()
    for second in range(4, 5 + int(CONTRACT_S)):
        found.look(["cf"], float(second))
    cell.outcomes["invalid"] += 4
    assert found.look(["cf"], 6.0 + CONTRACT_S) == ()


def test_three_workers_lost_within_a_minute_are_a_loop():
    lost = [0]
    found = criticals(restarts=lambda: lost[0])
    found.look([], 0.0)
    lost[0] = 2
    assert found.look([], 10.0) == ()
    lost[0] = 3
    assert kinds(found.look([], 20.0)) == [("crash_loop", "workers")]
    for second in range(30, 90, 10):
        found.look([], float(second))
    assert found.look([], 21.0 + CRASH_S) == ()
