"""Breakers by hand."""

import pytest

from proxy.control.breakers import ACTIONS, BreakerControl, UnknownBreaker
from proxy.core.breaker import Breaker, BreakerSettings


class Plane:
    def __init__(self):
        self.breakers = {"cf": made("cf")}


def made(name):
    return Breaker(name, BreakerSettings(), rng=lambda: 0.5, on_transition=lambda _: None, now=0.0)


@pytest.fixture
def control():
    return BreakerControl(Plane(), monotonic=lambda: 1.0)


def test_open_close_and_auto_answer_with_the_new_state(control):
    seen = [control.command("cf", action, reason="r", by="ann") for action in ACTIONS]
    assert [(it.state, it.forced) for it in seen] == [
        ("open", "open"),
        ("closed", "closed"),
        ("closed", None),
    ]


def test_an_unknown_name_is_answered_with_the_known_ones(control):
    with pytest.raises(UnknownBreaker, match=r"'cg'.*: cf"):
        control.command("cg", "open", reason="r", by="ann")


def test_breakers_that_a_reload_brought_are_found(control):
    control._holder.breakers = {"new": made("new")}
    assert list(control.read()) == ["new"]
    assert control.command("new", "open", reason="r", by="ann").state == "open"


def test_who_and_why_are_logged(control, caplog):
    control.command("cf", "open", reason="it burns", by="ann")
    assert "open by ann: it burns" in caplog.text
