"""Changes of state as events: every column is there, and what led to them can be read."""

import json

from proxy.core.breaker_values import Transition as BreakerTransition
from proxy.core.events import COLUMNS
from proxy.core.rollback.engine import Transition
from proxy.core.rollback.layers import Patch
from proxy.core.rollback.verdicts import Critical, Segment, Verdict
from proxy.core.toggles import Scope
from proxy.core.transitions import breaker_moved, rollback_moved

TIME = {"event_date", "timestamp_ms"}


def test_a_move_of_the_rollback_says_what_caused_it_and_what_lies_on_top():
    verdict = Verdict(
        trigger="error_p1",
        metric="error",
        priority="P1",
        segment=Segment("region", "eu"),
        answer="breach",
        threshold=0.001,
        observed=0.02,
        bound=0.01,
        n=500,
        needed=None,
        since=1.0,
    )
    move = Transition(
        before="NORMAL",
        to="DEGRADED",
        event="p1",
        at=12.5,
        by="fusebox",
        reason="error_p1",
        causes=(verdict,),
        criticals=(Critical("breaker_open", "cf", "open for 3 s"),),
        layers=(Patch("1", {"exposure_percent": 75.0}, Scope(region=("eu",)), low=100),),
        stage="1",
    )
    kind, at, columns = rollback_moved(move)
    assert (kind, at) == ("transition", 12.5)
    assert set(columns) == set(COLUMNS["transition"]) - TIME
    assert columns["triggers"] == ["error_p1", "breaker_open"]
    evidence = json.loads(columns["evidence"])
    assert (evidence[0]["segment"], evidence[0]["observed"], evidence[0]["n"]) == ("region=eu", 0.02, 500)
    assert evidence[1]["name"] == "cf"
    assert json.loads(columns["layers_before"]) == []
    assert json.loads(columns["layers_after"]) == [
        {
            "stage": "1",
            "toggles": {"exposure_percent": 75.0},
            "scope": {"region": ["eu"]},
            "buckets": [100, 10_000],
        }
    ]


def test_a_move_of_a_breaker_says_which_rule_and_by_how_much():
    change = BreakerTransition(
        upstream="cf",
        before="closed",
        to="open",
        rule="failure_rate",
        observed=0.7,
        n=40,
        threshold=0.5,
        dry_run=False,
        reason="70 % of 40 calls failed",
        at=3.0,
    )
    _, at, columns = breaker_moved(change)
    assert at == 3.0
    assert set(columns) == set(COLUMNS["transition"]) - TIME
    assert (columns["subject"], columns["state_after"], columns["triggers"]) == (
        "breaker cf",
        "open",
        ["failure_rate"],
    )
    assert json.loads(columns["evidence"])["threshold"] == 0.5
