"""Stages by scope: what covers what, what comes next, and the patches of it."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.stages import (
    ORDER,
    TOGGLES,
    Part,
    covered,
    highest,
    laid,
    laid_baseline,
    put,
    raised,
    stage_of,
    within,
)
from proxy.core.toggles import BASELINES, STAGES, Scope

EU, US = Scope(region=("eu",)), Scope(region=("us",))
HEAVY = Scope(cohort=("heavy",))

names = st.sampled_from([(), ("a",), ("b",), ("a", "b")])
scopes = st.builds(Scope, names, names, names)
stages = st.sampled_from(ORDER)


def test_stages_are_cumulative_and_end_in_the_emergency_baseline():
    assert TOGGLES["1"] == STAGES["1"]
    assert TOGGLES["2"] == {**STAGES["1"], **STAGES["2"]}
    assert TOGGLES["3"] == {**STAGES["1"], **STAGES["2"], **STAGES["3"]}
    assert BASELINES["emergency"].items() <= TOGGLES["emergency"].items()


def test_a_scope_is_within_another_if_everybody_is():
    assert within(EU, Scope())
    assert within(EU, Scope(region=("us", "eu")))
    assert within(Scope(region=("eu",), cohort=("heavy",)), EU)
    assert not within(Scope(), EU)
    assert not within(HEAVY, EU)


def test_what_lies_in_a_wider_part_of_the_same_stage_needs_none_of_its_own():
    assert put((Part(EU, "2"),), Scope(), "2") == (Part(Scope(), "2"),)
    assert put((Part(EU, "3"),), Scope(), "2") == (Part(EU, "3"), Part(Scope(), "2"))
    assert put((Part(Scope(), "3"),), EU, "2") == (Part(Scope(), "3"),)


def test_the_next_stage_is_for_the_scope_that_is_blamed_else_for_all():
    assert raised((Part(Scope(), "2"),), EU) == (Part(EU, "3"), Part(Scope(), "2"))
    assert raised((Part(EU, "2"), Part(US, "1")), Scope()) == (Part(EU, "3"), Part(US, "2"))
    assert raised((Part(Scope(), "emergency"),), Scope()) == (Part(Scope(), "emergency"),)


@given(st.lists(st.tuples(scopes, stages), max_size=6), scopes, stages)
def test_putting_a_scope_into_a_stage_lowers_nobody(before, scope, stage):
    parts = ()
    for one in before:
        parts = put(parts, *one)
    after = put(parts, scope, stage)
    assert covered(after, scope)
    assert ORDER.index(stage_of(after, scope)) >= ORDER.index(stage)
    for part in parts:
        assert ORDER.index(stage_of(after, part.scope)) >= ORDER.index(stage_of(parts, part.scope))
    ranks = [ORDER.index(part.stage) for part in after]
    assert ranks == sorted(ranks, reverse=True)
    assert highest(after) == after[0].stage


@given(st.integers(0, BUCKETS), st.floats(0.05, 1))
def test_every_bucket_from_low_on_is_in_exactly_one_patch_and_those_below_in_none(low, share):
    layers = laid((Part(Scope(), "2"),), low, share)
    edges = [(patch.low, patch.high) for patch in layers]
    assert edges[0][0] == low
    assert edges[-1][1] == BUCKETS
    assert all(one[1] == other[0] for one, other in pairwise(edges))


def test_what_the_upstream_cannot_take_gets_level_d_and_always_the_same_buckets():
    sent, kept = laid((Part(EU, "2"),), share=0.4)
    assert (sent.low, sent.high, sent.toggles["candidate_fallback_level"]) == (0, 4_000, "C")
    assert (kept.low, kept.high, kept.toggles["candidate_fallback_level"]) == (4_000, BUCKETS, "D")
    assert [(it.low, it.high) for it in laid((Part(EU, "2"),), 500, 0.4)] == [(500, 4_000), (4_000, BUCKETS)]
    assert [(it.low, it.high) for it in laid((Part(EU, "2"),), 5_000, 0.4)] == [(5_000, BUCKETS)]
    assert len(laid((Part(EU, "3"),), share=0.4)) == 1  # asks nobody


def test_a_patch_that_has_let_out_all_stays_to_say_for_whom_it_was():
    (patch,) = laid((Part(EU, "2"),), BUCKETS)
    assert (patch.low, patch.high, patch.scope) == (BUCKETS, BUCKETS, EU)
    (patch,) = laid((Part(EU, "2"),), BUCKETS, 0.4)
    assert (patch.low, patch.high) == (BUCKETS, BUCKETS)


def test_no_baseline_no_patch():
    assert laid_baseline("") == ()
