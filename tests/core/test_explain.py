"""Explanations: told from decision and outcome, ASCII, bounded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.decide import Decider
from proxy.core.decision import Laid, ServingMode
from proxy.core.experiment import Experiment
from proxy.core.explain import MAX_CHARACTERS, NOT_REACHED, Explained, SourceTold, explanation
from proxy.core.identity import Who
from proxy.core.override import Clamped, Override, Verified
from proxy.core.policy import Route, Sources
from proxy.core.scopes import Scopes
from proxy.core.toggles import DEFAULTS, Rule, Scope, Toggles

ROUTE = Route(name="films", path="/", kind="recommend", sources=Sources(cf="cf", content="co"), alpha=0.6)
ANN = Who(b"ann", b"eu", b"heavy", b"web")
ITEMS = [{"source": "hybrid"}, {"source": "hybrid"}, {"source": "popularity"}]
ANSWER = {
    "items": ITEMS,
    "metadata": {
        "level": "D", "k_requested": 3, "k_returned": 3, "coverage": 0.5, "degraded": True, "cache": "miss",
        "arm": "none",
    },
}  # fmt: skip
SOURCES = (
    SourceTold("cf", "cf", "failed", 0, 150.2, "miss", "closed"),
    SourceTold("content", "co", "answered", 20, 3.1, "miss", "half_open"),
)


def told(
    toggles=DEFAULTS,
    *,
    who=ANN,
    bucket=1_234,
    experiment=None,
    over=(),
    mode=None,
    clamped=(),
    decider=None,
    **more,
):
    scopes = Scopes.of(toggles, None)
    decider = Decider(ROUTE, toggles, experiment or Experiment(), scopes, **(decider or {}))
    laid = Laid(over, "override", mode)
    decision = decider.decide(who, who.user, bucket, laid)
    at = decider.place(who, bucket)
    verified = Verified(Override("o-1", "ann", 100, 700, over), clamped)
    said = {
        "who": who, "bucket": bucket, "inside": at[1], "toggles": decider.effective(at, laid),
        "version": 7, "decision": decision, "verified": verified, "sources": SOURCES, "answer": ANSWER,
    }  # fmt: skip
    line = explanation(Explained(**said | more))
    return json.loads(line.decode("ascii"))


def steps(found):
    return {it["step"]: it["said"] for it in found["steps"]}


def test_everything_that_was_asked_for_is_in_it():
    found = told(over=(("alpha_override", 0.5),), clamped=(Clamped("alpha_override", 0.9, 0.5),))
    assert found["who"] == {
        "user": "ann", "region": "eu", "cohort": "heavy", "client": "web", "bucket": 1234, "sticky": True,
    }  # fmt: skip
    assert found["toggles_version"] == 7
    assert found["override"] == {
        "id": "o-1", "by": "ann", "until": 700, "toggles": {"alpha_override": 0.5},
        "clamped": {"alpha_override": {"asked": 0.9, "given": 0.5}},
    }  # fmt: skip
    assert found["toggles"]["alpha_override"] == 0.5
    assert found["decision"] == {
        "reason": "alpha_override", "policy": "hybrid_default", "sources": ["cf", "content"], "alpha": 0.5,
        "ceiling": "A", "arm": "none", "exposed": True,
    }  # fmt: skip
    assert found["sources"] == [source._asdict() for source in SOURCES]
    assert found["answer"] == {
        "level": "D", "k_requested": 3, "k_returned": 3, "coverage": 0.5, "degraded": True, "cache": "miss",
        "items_by": {"hybrid": 2, "popularity": 1},
    }  # fmt: skip


def test_steps_stand_in_the_order_of_precedence():
    assert list(steps(told())) == [
        "kill_switch", "scope", "exposure_percent", "disable_cf", "disable_content",
        "candidate_fallback_level", "cache_mode", "policy_mode", "alpha_override", "experiment",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("toggles", "expected"),
    [
        ({}, {"exposure_percent": "bucket 1234 of 10000 exposed: goes on",
              "disable_cf": "false: changed nothing"}),
        ({"exposure_percent": 12.34}, {"exposure_percent": "bucket 1234 of 1234 exposed: control answers",
                                       "disable_cf": NOT_REACHED, "experiment": NOT_REACHED}),
        ({"disable_cf": True}, {"disable_cf": "true: decided", "policy_mode": "null: changed nothing"}),
        ({"disable_cf": True, "disable_content": True},
         {"disable_cf": "true: decided", "disable_content": "true: decided", "policy_mode": NOT_REACHED}),
        ({"candidate_fallback_level": "D"},
         {"disable_cf": "false: changed nothing", "candidate_fallback_level": '"D": decided',
          "alpha_override": NOT_REACHED}),
        ({"policy_mode": "content_only", "alpha_override": 0.3},
         {"policy_mode": '"content_only": decided', "alpha_override": "0.3: changed nothing"}),
        ({"region_scope": ("us",), "disable_cf": True},
         {"scope": "outside: defaults hold", "disable_cf": "false: changed nothing"}),
        ({"rules": (Rule(Scope(region=("eu",)), {"disable_cf": True}),)},
         {"scope": "the document holds, rules[0] over it", "disable_cf": "true: decided"}),
    ],
)  # fmt: skip
def test_each_step_says_what_it_did(toggles, expected):
    said = steps(told(Toggles(**toggles)))
    assert {name: said[name] for name in expected} == expected


def test_the_arm_is_told_where_it_decided():
    found = told(experiment=Experiment(name="hybrid_v1"))
    assert found["decision"]["reason"] == "experiment"
    assert steps(found)["experiment"] == f"arm {found['decision']['arm']}"


def test_who_is_held_back_or_new_in_a_freeze_is_told_so():
    hybrid = Experiment(name="hybrid_v1")
    found = told(experiment=hybrid, decider={"held": {None: ((0, 10_000),)}})
    assert found["decision"]["reason"] == "flap_budget"
    assert steps(found)["flap_budget"] == "changed too often within the hour: control answers"
    assert steps(found)["experiment"] == NOT_REACHED
    found = told(Toggles(experiment_freeze=True), experiment=hybrid, decider={"seen": ()})
    assert found["decision"]["reason"] == "experiment_freeze"
    assert steps(found)["experiment"] == "frozen, and this user was not seen before: control"


def test_a_further_page_is_told_as_one():
    found = told(mode=ServingMode(True, "none", "content_only", 0.0, "A"), shown=20)
    assert found["shown_before"] == 20
    assert list(steps(found))[2] == "cursor"
    assert steps(found)["exposure_percent"] == "as on the first page: goes on"
    assert found["decision"]["reason"] == "cursor"


def test_who_has_no_user_is_not_sticky():
    assert told(who=Who(b"", b"", b"", b""))["who"]["sticky"] is False


@given(st.lists(st.binary(max_size=256), min_size=4, max_size=4), st.text(max_size=64), st.text(max_size=64))
def test_it_is_one_line_of_ascii_whatever_was_asked(values, by, identity):
    verified = Verified(Override(identity, by, 0, 1, ()), ())
    decision = Decider(ROUTE, DEFAULTS, Experiment(), Scopes.of(DEFAULTS, None)).fixed
    line = explanation(Explained(Who(*values), 1, True, DEFAULTS, 7, decision, verified, SOURCES, ANSWER))
    assert line.isascii()
    assert not set(line) & set(b"\r\n\0")
    assert len(line) <= MAX_CHARACTERS
    json.loads(line)


def test_the_longest_there_can_be_is_within_its_bound():
    longest = "\U0001f600" * 64
    toggles = (("alpha_override", 0.12345678901234567), ("cache_mode", "warm_only"),
               ("candidate_fallback_level", "C"), ("disable_cf", False), ("disable_content", True),
               ("exposure_percent", 12.34), ("policy_mode", "hybrid_default"))  # fmt: skip
    clamps = tuple(Clamped(name, 0.12345678901234567, 0.12345678901234567)
                   for name in ("until", "alpha_override", "exposure_percent"))  # fmt: skip
    outcome = "not asked: its breaker is held open"
    source = SourceTold("neighbours", "u" * 64, outcome, 10_000, 12_345.67, "bypass", "half_open")
    verified = Verified(Override(longest, longest, 2**31, 2**31, toggles), clamps)
    who = Who(*[longest.encode()] * 4)
    mode = ServingMode(True, "a" * 64, "hybrid_default", 0.12345678901234567, "C")
    rule = Rule(Scope(region=("eu",)), {"alpha_override": 0.12345678901234567})
    in_force = Toggles(**dict(toggles), rules=(rule,))
    decider = Decider(ROUTE, in_force, Experiment(), Scopes.of(in_force, None))
    decision = decider.decide(who, b"", 9_999, Laid(toggles, "override", mode))
    document = ANSWER | {"items": [{"source": f"source-{n % 8}"} for n in range(200)]}
    line = explanation(
        Explained(who, 9_999, True, in_force, 2**62, decision, verified, [source] * 4, document, 1_000)
    )
    assert 3_000 < len(line) <= MAX_CHARACTERS
