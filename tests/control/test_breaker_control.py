"""Breakers by hand."""

import pytest

from proxy.control.breakers import ACTIONS, BreakerControl, UnknownBreaker
from proxy.core.breaker import Breaker, BreakerSettings, Outcome


class Plane:
    def __init__(self):
        self.breakers = {"cf": made("cf")}
        self.settled_after = []

    async def settled(self):
        self.settled_after = [breaker.state for breaker in self.breakers.values()]


def made(name, on_transition=lambda _: None):
    return Breaker(name, BreakerSettings(), rng=lambda: 0.5, on_transition=on_transition, now=0.0)


@pytest.fixture
def control():
    return BreakerControl(Plane(), monotonic=lambda: 1.0)


async def test_open_close_and_auto_answer_with_the_new_state(control):
    seen = [await control.command("cf", action, reason="r", by="ann") for action in ACTIONS]
    assert [(it.state, it.forced) for it in seen] == [
        ("open", "open"),
        ("closed", "closed"),
        ("closed", None),
    ]


async def test_a_command_is_answered_once_it_holds_everywhere(control):
    await control.command("cf", "open", reason="r", by="ann")
    assert control._holder.settled_after == ["open"]


async def test_an_unknown_name_is_answered_with_the_known_ones(control):
    with pytest.raises(UnknownBreaker, match=r"'cg'.*: cf"):
        await control.command("cg", "open", reason="r", by="ann")


async def test_breakers_that_a_reload_brought_are_found(control):
    control._holder.breakers = {"new": made("new")}
    assert list(control.read()) == ["new"]
    assert (await control.command("new", "open", reason="r", by="ann")).state == "open"


async def test_who_and_why_are_logged(control, caplog):
    await control.command("cf", "open", reason="it burns", by="ann")
    assert "open by ann: it burns" in caplog.text


def test_last_and_last_trip_say_why_when_and_how_long_ago():
    now, plane = 100.0, Plane()
    control = BreakerControl(plane, monotonic=lambda: now, wall=lambda: now - 100)
    plane.breakers["cf"] = breaker = made("cf", control.heard)
    assert (control.read()["cf"].last, control.read()["cf"].last_trip) == (None, None)
    for _ in range(5):
        breaker.done(breaker.admit(now, 0), Outcome.FAILURE, now)
    now += 7.0
    breaker.admit(now, 0)
    now += 1.0
    report = control.read()["cf"]
    trip = report.last_trip
    assert (report.state, report.last.to, report.last.ago_s) == ("half_open", "half_open", 1.0)
    assert report.last.at == "1970-01-01T00:00:07+00:00"
    assert (trip.to, trip.rule, trip.observed, trip.n, trip.threshold) == (
        "open",
        "consecutive_failures",
        5,
        5,
        5,
    )
    assert (trip.at, trip.ago_s) == ("1970-01-01T00:00:00+00:00", 8.0)
    assert trip.reason == "5 failures in a row"


async def test_a_new_breaker_of_an_old_name_has_no_past():
    plane = Plane()
    control = BreakerControl(plane, monotonic=lambda: 1.0)
    plane.breakers["cf"] = made("cf", control.heard)
    assert (await control.command("cf", "open", reason="r", by="ann")).last_trip.reason == "r"
    plane.breakers["cf"] = made("cf", control.heard)
    assert control.read()["cf"].last_trip is None
