"""What a transition changes of the toggles, and for whom."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.changes import Change, changes
from proxy.core.rollback.stages import ALL_SCOPE, ORDER, Part, laid, laid_baseline
from proxy.core.toggles import DEFAULTS, Rule, Scope, Toggles

EU = Scope(region=("eu",))
STAGE_2 = laid((Part(ALL_SCOPE, "2"),))


def told(*found):
    return [Change(scope, low, high, *rest) for scope, low, high, *rest in found]


def test_a_stage_changes_what_it_sets_where_that_is_not_so_already():
    toggles = Toggles(exposure_percent=10, disable_cf=True)
    assert list(changes(toggles, (), STAGE_2)) == told(
        (ALL_SCOPE, 0, BUCKETS, "policy_mode", None, "content_only"),
        (ALL_SCOPE, 0, BUCKETS, "candidate_fallback_level", "A", "C"),
        (ALL_SCOPE, 0, BUCKETS, "cache_mode", "cold", "prewarm"),
    )


def test_a_step_of_the_recovery_changes_the_buckets_that_it_lets_out():
    found = changes(DEFAULTS, laid((Part(EU, "1"),), 100), laid((Part(EU, "1"),), 500))
    assert list(found) == told(
        (EU, 100, 500, "exposure_percent", 75, 100), (EU, 100, 500, "cache_mode", "prewarm", "cold")
    )


def test_a_rule_of_the_operators_is_what_holds_before():
    toggles = Toggles(rules=(Rule(EU, {"exposure_percent": 20.0}),))
    found = changes(toggles, (), laid((Part(EU, "1"),)))
    assert [it.toggle for it in found] == ["cache_mode"]


def test_neighbouring_buckets_that_change_alike_are_told_as_one():
    found = changes(DEFAULTS, (), laid((Part(ALL_SCOPE, "2"),), share=0.5))
    assert [(it.low, it.high, it.after) for it in found if it.toggle == "disable_cf"] == [(0, BUCKETS, True)]
    levels = [(it.low, it.high, it.after) for it in found if it.toggle == "candidate_fallback_level"]
    assert levels == [(0, 5_000, "C"), (5_000, BUCKETS, "D")]


def test_a_kill_goes_before_whatever_lies_beside_it():
    found = changes(DEFAULTS, STAGE_2, (*STAGE_2, *laid((Part(ALL_SCOPE, "emergency"),))))
    assert ("kill_switch", True) in {(it.toggle, it.after) for it in found}


@given(st.sampled_from(ORDER), st.sampled_from(["normal", "collaborative_only", "degraded"]))
def test_back_and_forth_are_the_same_changes(stage, baseline):
    one, other = laid((Part(EU, stage),), 100), laid_baseline(baseline)
    there, back = changes(DEFAULTS, one, other), changes(DEFAULTS, other, one)
    assert {(*it[:4], it.after, it.before) for it in back} == set(there)
    assert changes(DEFAULTS, one, one) == ()
