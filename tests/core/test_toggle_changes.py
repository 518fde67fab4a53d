"""What becomes of a toggles document by a change, and what changes with a time limit return to."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.cache import CacheSettings
from proxy.core.policy import Policy, Route, Sources
from proxy.core.toggle_changes import Return, World, after_all, changed, laid_over, limited, over, without
from proxy.core.toggle_values import Document, difference
from proxy.core.toggles import DEFAULTS, Rule, Scope, Toggles

START = Document(toggles=DEFAULTS)


def world(*sources, flag="billing"):
    routes = [
        Route(name=f"r{at}", path=f"/r{at}", kind="recommend", sources=it) for at, it in enumerate(sources)
    ]
    return World(Policy(routes=(*routes, Route(name="p", path="/p", flag=flag)), upstreams={}))


BOTH = world(Sources(cf="cf", content="content"))


def said(faults):
    return [(".".join(map(str, it.place)), it.message) for it in faults]


def test_every_fault_is_told_at_once():
    wanted = {("toggles", "exposure_percent"): 101, ("toggles", "nope"): 1, ("flags", "biling"): False,
              ("rules",): [{"scope": {"region": [""]}, "toggles": {}}]}  # fmt: skip
    _, faults = changed(START, wanted, BOTH)
    assert {place for place, _ in said(faults)} == {
        "toggles.exposure_percent", "toggles.nope", "flags.biling", "rules.0.scope.region.0",
        "rules.0.toggles",
    }  # fmt: skip


COLLAB = {("toggles", "policy_mode"): "collab_only"}


class TestSources:
    def test_a_mode_of_a_source_that_no_route_has_is_refused(self):
        _, faults = changed(START, COLLAB, world(Sources(content="content")))
        assert said(faults) == [("toggles.policy_mode", "collab_only asks cf, and no route has that source")]

    @pytest.mark.parametrize(
        "fine",
        [BOTH, world(), world(Sources(content="content"), Sources(cf="cf"))],
        ids=["has", "none", "one"],
    )
    def test_one_route_that_has_it_is_enough_and_without_any_nothing_is_asked(self, fine):
        assert changed(START, COLLAB, fine)[1] == []

    def test_at_level_d_nobody_is_asked(self):
        wanted = {**COLLAB, ("toggles", "candidate_fallback_level"): "D"}
        assert changed(START, wanted, world(Sources(content="content")))[1] == []

    def test_a_rule_is_held_to_the_same(self):
        rules = [{"scope": {}, "toggles": {"disable_cf": False}},
                 {"scope": {"region": ["eu"]}, "toggles": {"policy_mode": "content_only"}}]  # fmt: skip
        _, faults = changed(START, {("rules",): rules[1:]}, world(Sources(cf="cf")))
        assert [place for place, _ in said(faults)] == ["rules.0.toggles.policy_mode"]

    def test_what_stands_already_is_no_fault_of_another_change(self):
        standing = Document(toggles=Toggles(policy_mode="collab_only"))
        wanted = {("toggles", "exposure_percent"): 50}
        assert changed(standing, wanted, world(Sources(content="content")))[1] == []


def test_the_cache_alone_can_be_asked_only_where_there_is_one():
    wanted = {("toggles", "cache_mode"): "warm_only"}
    without = World(replace(BOTH.policy, cache=CacheSettings(max_bytes=0)))
    assert changed(START, wanted, BOTH)[1] == []
    assert said(changed(START, wanted, without)[1]) == [
        ("toggles.cache_mode", "warm_only asks the cache alone, and there is none")
    ]
    assert changed(START, {**wanted, ("toggles", "candidate_fallback_level"): "D"}, without)[1] == []
    assert changed(START, {("toggles", "cache_mode"): "prewarm"}, without)[1] == [], "a rollback begins so"


def test_rules_that_are_not_changed_stay_the_same_object():
    """So their index is kept."""
    rules = (Rule(Scope(region=("eu",)), {"disable_cf": True}),)
    document, _ = changed(Document(toggles=Toggles(rules=rules)), {("toggles", "exposure_percent"): 50}, BOTH)
    assert document.toggles.rules is rules


PLACES = [("toggles", "exposure_percent"), ("toggles", "alpha_override"), ("flags", "billing")]
VALUES = {
    PLACES[0]: st.sampled_from([0, 20, 50, 100]),
    PLACES[1]: st.sampled_from([None, 0.1, 0.9]),
    PLACES[2]: st.booleans(),
}
WANTED = st.sets(st.sampled_from(PLACES), min_size=1).flatmap(
    lambda places: st.fixed_dictionaries({it: VALUES[it] for it in sorted(places)})
)
CHANGES = st.lists(st.tuples(WANTED, st.none() | st.integers(1, 9), st.integers(0, 4)), max_size=12)


@given(CHANGES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_once_all_limits_are_over_it_is_as_if_changes_with_limits_had_never_been(changes, random):
    """Whatever ends while later changes come, and in whichever order the rest ends."""
    document, for_good, returns = START, START, ()
    clock = 0

    def end(due):
        nonlocal document, returns
        back, returns = over(returns, due.version)
        document, faults = changed(document, back, BOTH)
        assert faults == []

    for version, (wanted, ttl, passed) in enumerate(changes, 2):
        clock += passed
        for due in sorted((it for it in returns if int(it.at) <= clock), key=lambda it: it.at):
            if due.version in {it.version for it in returns}:
                end(due)
        after, faults = changed(document, wanted, BOTH)
        assert faults == []
        if ttl is None:
            returns = without(returns, wanted)
            for_good, _ = changed(for_good, wanted, BOTH)
        else:
            new = Return(version, f"{clock + ttl:04}", ttl, limited(document, after, wanted))
            returns = laid_over(returns, new)
        document = after
    assert after_all(document, returns, BOTH) == []
    while returns:
        end(random.choice(returns))
    assert difference(document, for_good) == {}


def test_a_return_that_would_contradict_what_holds_by_then_is_told_with_its_time():
    now = Document(toggles=Toggles(policy_mode="content_only", disable_cf=True))
    back = Return(7, "2026-01-01T00:00:00Z", 60, {("toggles", "policy_mode"): "collab_only"})
    [fault] = after_all(now, [back], BOTH)
    assert fault.place == ("toggles", "policy_mode")
    assert fault.message.endswith("once the change of version 7 is over at 2026-01-01T00:00:00Z")
