"""Decisions on users whom the flap budget keeps in control."""

from dataclasses import replace

from proxy.core.decide import Decider
from proxy.core.decision import KILLED, NOTHING_LAID, Laid
from proxy.core.experiment import Experiment
from proxy.core.identity import Who
from proxy.core.policy import Route, Sources
from proxy.core.scopes import Scopes
from proxy.core.toggles import Rule, Scope, Toggles

BOTH = Route(name="films", path="/films", kind="recommend", sources=Sources(cf="a", content="b", control="c"))


def decider(held, **named):
    toggles = Toggles(**named)
    return Decider(BOTH, toggles, Experiment(), Scopes(toggles.scope, toggles.rules), held=held)


def reason(made, at, *, user=b"u", region=b"", client=b"", laid=NOTHING_LAID):
    decision = made.decide(Who(user, region, b"", client), user or b"r", at, laid)
    assert decision.exposed is (decision.reason not in ("flap_budget", "exposure_percent"))
    return decision.reason


def test_they_get_what_the_unexposed_get_and_the_reason_says_why():
    made = decider({None: ((1_000, 2_000), (3_000, 4_000))}, exposure_percent=50)
    found = [reason(made, at) for at in (999, 1_000, 1_999, 2_000, 3_000, 4_000, 5_000)]
    assert found == ["default", "flap_budget", "flap_budget", "default", "flap_budget", "default",
                     "exposure_percent"]  # fmt: skip
    held = made.decide(Who(b"u", b"", b"", b""), b"u", 1_000)
    out = made.decide(Who(b"u", b"", b"", b""), b"u", 9_999)
    assert replace(held, reason=out.reason) == out


def test_nobody_has_a_decision_beforehand_while_anybody_is_held():
    assert decider({None: ((0, 1),)}).fixed is None
    assert decider({}).fixed
    assert decider({None: ((0, 1),)}, kill_switch=True).fixed is KILLED


def test_requests_without_a_user_flap_for_nobody():
    assert reason(decider({None: ((0, 10_000),)}), 5, user=b"") == "default"


def test_rules_hold_their_own():
    eu, tv = Scope(region=("eu",)), Scope(client=("tv",))
    rules = (Rule(eu, {"exposure_percent": 50}), Rule(tv, {"policy_mode": "content_only"}))
    made = decider({None: ((0, 10),), eu: ((10, 20),)}, rules=rules)
    assert [reason(made, at, region=b"eu") for at in (5, 15)] == ["default", "flap_budget"]
    assert [reason(made, at, client=b"tv") for at in (5, 15)] == ["flap_budget", "policy_mode"]
    assert [reason(made, at) for at in (5, 15)] == ["flap_budget", "default"]


def test_those_of_a_rule_that_is_gone_are_held_by_its_scope():
    eu = Scope(region=("eu",))
    made = decider({None: ((0, 10),), eu: ((10, 20),)})
    assert [reason(made, at, region=b"eu") for at in (5, 15)] == ["default", "flap_budget"]
    assert [reason(made, at, region=b"us") for at in (5, 15)] == ["flap_budget", "default"]


def test_outside_the_documents_scope_nobody_is():
    made = decider({None: ((0, 10),), Scope(client=("tv",)): ((0, 10),)}, region_scope=("eu",))
    assert reason(made, 5, region=b"eu") == "flap_budget"
    assert reason(made, 5, region=b"us", client=b"tv") == "default"


def test_an_override_of_the_exposure_is_above_it():
    made = decider({None: ((0, 10),)})
    assert reason(made, 5, laid=Laid((("exposure_percent", 100),), "override")) == "default"
    assert reason(made, 5, laid=Laid((("alpha_override", 1.0),), "override")) == "flap_budget"
