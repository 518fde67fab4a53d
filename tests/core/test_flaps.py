"""The flap budget: replayed bucket by bucket beside it, and by hand."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.flaps import BUCKETS, HOUR_S, MOST, FlapBook, Flaps
from proxy.core.toggles import Rule, Scope, Toggles

EU, TV = Scope(region=("eu",)), Scope(client=("tv",))
STEPS = st.lists(
    st.tuples(st.integers(0, 2 * int(HOUR_S)), st.sampled_from([0, 100, 1_000, 2_500, 5_000, 7_500, 10_000])),
    max_size=14,
)


class Bucket:
    """One bucket, by the rule itself."""

    def __init__(self, exposed):
        self.exposed = exposed
        self.wants = exposed
        self.changes = []

    def recent(self, now):
        return [at for at in self.changes if at > now - HOUR_S]

    def let_in(self, now, budget):
        """When it may change to exposed: now, or once enough of its changes have left the hour."""
        recent = self.recent(now)
        return now if not budget or len(recent) < budget else recent[-budget] + HOUR_S

    def pass_until(self, now, budget):
        if self.wants and not self.exposed and self.changes:
            at = self.let_in(self.changes[-1], budget)
            if at <= now:
                self.change(True, at)

    def ask(self, wants, now, budget):
        self.pass_until(now, budget)
        self.wants = wants
        if (wants != self.exposed and not wants) or (
            wants and not self.exposed and len(self.recent(now)) < (budget or len(self.changes) + 1)
        ):
            self.change(wants, now)

    def change(self, exposed, at):
        self.exposed = exposed
        self.changes.append(at)


def exposed(flaps):
    """Of each bucket whether it is."""
    found = [None] * BUCKETS
    for span in flaps.spans:
        found[span.low : span.high] = [span.exposed] * (span.high - span.low)
    return found


def replay(steps, budget, begin=10_000):
    """By spans; yields what is asked for, the time and the flaps after each step."""
    flaps, now = Flaps.at(begin), 0
    for after, wanted in steps:
        now += after
        flaps = flaps.moved(now, wanted, budget)
        yield now, wanted, flaps


class TestInvariants:
    @given(STEPS, st.integers(0, 5))
    @settings(deadline=None)
    def test_it_is_what_every_bucket_by_itself_would_do(self, steps, budget):
        samples = {at: Bucket(True) for at in (0, 99, 100, 999, 1_000, 4_999, 5_000, 7_499, 9_999)}
        for now, wanted, flaps in replay(steps, budget):
            got = exposed(flaps)
            for at, bucket in samples.items():
                bucket.ask(at < wanted, now, budget)
                assert got[at] == bucket.exposed, (at, now)

    @given(STEPS, st.integers(1, 5))
    @settings(deadline=None)
    def test_nobody_is_let_in_beyond_the_budget_nor_kept_from_control(self, steps, budget):
        for now, wanted, flaps in replay(steps, budget):
            assert flaps.spans[0].low == 0
            assert flaps.spans[-1].high == BUCKETS
            assert all(one.high == other.low for one, other in pairwise(flaps.spans))
            for span in flaps.spans:
                assert len(span.changes) <= budget + 1
                assert not (span.exposed and len(span.changes) > budget)
                assert list(span.changes) == sorted(span.changes)
                assert not (span.exposed and span.low >= wanted)  # to control always at once
            for held in flaps.held(budget):
                assert now < held.until <= now + HOUR_S
                assert held.low < held.high <= wanted

    @given(STEPS, st.integers(1, 5))
    @settings(deadline=None)
    def test_an_hour_of_calm_lets_everybody_in(self, steps, budget):
        *_, (now, wanted, flaps) = [(0.0, 10_000, Flaps.at(10_000)), *replay(steps, budget)]
        after = flaps.moved(now + HOUR_S, wanted, budget)
        assert exposed(after) == [at < wanted for at in range(BUCKETS)]
        assert after.moved(now + 3 * HOUR_S, wanted, budget) == Flaps.at(wanted)

    @given(STEPS, st.integers(1, 5), st.lists(st.integers(0, 100), max_size=5))
    @settings(deadline=None)
    def test_looking_more_often_changes_nothing(self, steps, budget, looks):
        """So a timer that wakes late, or a replay of the history after a restart, comes to the same."""
        often, seldom, now = Flaps.at(10_000), Flaps.at(10_000), 0
        for after, wanted in steps:
            for part in sorted(looks):
                often = often.moved(now + part * after // 100, often.wanted, budget)
            now += after
            often, seldom = often.moved(now, wanted, budget), seldom.moved(now, wanted, budget)
            assert exposed(often) == exposed(seldom)

    @given(STEPS)
    @settings(deadline=None)
    def test_without_a_limit_everything_is_as_asked(self, steps):
        for _, wanted, flaps in replay(steps, 0):
            assert exposed(flaps) == [at < wanted for at in range(BUCKETS)]
            assert flaps.held(0) == ()

    def test_a_flood_of_changes_is_bounded(self):
        steps = [(0.001, 10_000 * (n % 2)) for n in range(10 * MOST)]
        *_, (_, _, flaps) = replay(steps, 0)
        assert len(flaps.spans[0].changes) == MOST


class TestByHand:
    def test_recovery_lets_the_same_users_in_first(self):
        """After 100 → 10 → 50 the first half is who was exposed before, lower buckets first."""
        *_, (_, _, flaps) = replay([(10, 1_000), (60, 2_500), (60, 5_000)], 4)
        assert exposed(flaps) == [at < 5_000 for at in range(BUCKETS)]
        before = None
        for _, _, later in replay([(10, 1_000), *((60, wanted) for wanted in range(1_500, 10_001, 500))], 4):
            now = {at for at, is_in in enumerate(exposed(later)) if is_in}
            assert now == set(range(len(now)))
            assert before is None or before <= now
            before = now

    def test_the_second_way_back_within_the_hour_is_one_too_many(self):
        """Of two, out and in are spent; out again passes, in again waits for the first to be an hour old."""
        steps = [(0, 5_000), (60, 10_000), (60, 5_000), (60, 10_000)]
        *_, (now, _, flaps) = replay(steps, 2)
        assert now == 180
        assert flaps.held(2) == ((5_000, 10_000, 60 + HOUR_S),)
        assert not exposed(flaps.moved(60 + HOUR_S - 1, 10_000, 2))[5_000]
        later = flaps.moved(60 + HOUR_S, 10_000, 2)
        assert all(exposed(later))
        assert later.spans == ((0, 5_000, True, ()), (5_000, 10_000, True, (120, 60 + HOUR_S)))

    def test_who_did_not_flap_is_not_held_with_those_who_did(self):
        steps = [(0, 100), (1, 0), (1, 100), (1, 0), (1, 10_000)]
        *_, (_, _, flaps) = replay(steps, 2, begin=0)
        assert [(it.low, it.high) for it in flaps.held(2)] == [(0, 100)]
        assert sum(exposed(flaps)) == 9_900

    def test_a_larger_budget_lets_in_who_is_held(self):
        *_, (now, _, flaps) = replay([(0, 0), (1, 10_000), (1, 0), (1, 10_000)], 2)
        assert flaps.held(2)
        assert all(exposed(flaps.moved(now + 1, 10_000, 4)))

    @pytest.mark.parametrize("budget", [1, 2, 3, 4])
    def test_ordinary_stages_are_never_held(self, budget):
        stages = [(60, wanted) for wanted in (100, 500, 2_500, 5_000, 10_000)]
        for _, _, flaps in replay(stages, budget, begin=0):
            assert flaps.held(budget) == ()


def toggles(percent, **rules):
    scopes = {"eu": EU, "tv": TV}
    return Toggles(
        exposure_percent=percent,
        rules=tuple(Rule(scopes[name], {"exposure_percent": value}) for name, value in rules.items()),
    )


def book(steps, budget=2):
    """After toggles that followed each other by a minute."""
    made, now = FlapBook.at(steps[0]), 0.0
    for each in steps[1:]:
        now += 60
        made = made.moved(each, now, budget)
    return made


def held(made, budget=2):
    return {
        place: [(it.low, it.high) for it in ranges] for place, ranges in made.held(budget).items() if ranges
    }


class TestPlaces:
    def test_each_rule_has_its_own_history(self):
        made = book([toggles(100, eu=100), toggles(100, eu=0), toggles(100, eu=100), toggles(100, eu=0),
                     toggles(100, eu=100)])  # fmt: skip
        assert held(made) == {EU: [(0, 10_000)]}
        assert None not in made.held(2)

    def test_a_rule_that_comes_and_goes_is_a_change_each_time(self):
        made = book([toggles(100), toggles(100, eu=0), toggles(100), toggles(100, eu=0), toggles(100)])
        assert held(made) == {EU: [(0, 10_000)]}

    def test_a_new_rule_finds_its_users_as_the_document_has_left_them(self):
        made = book([toggles(100), toggles(0), toggles(100), toggles(0), toggles(0, tv=100)])
        assert held(made) == {TV: [(0, 10_000)]}
        made = book([toggles(100), toggles(0), toggles(100), toggles(0), toggles(100, tv=100)])
        assert held(made) == {None: [(0, 10_000)], TV: [(0, 10_000)]}

    def test_rules_without_an_exposure_have_no_place(self):
        rule = Rule(EU, {"disable_cf": True})
        made = book([toggles(100), Toggles(rules=(rule,))])
        assert made.restless == {}

    def test_calm_places_are_forgotten(self):
        made = book([toggles(100), toggles(100, eu=0), toggles(100)])
        assert set(made.restless) == {EU}
        assert made.moved(toggles(100), 2 * HOUR_S, 2) == FlapBook.at(toggles(100))

    def test_a_change_of_something_else_looks_at_no_rule(self):
        """A kill must not wait for ten thousand of them."""
        before = toggles(100, eu=50)
        made = FlapBook.at(before)
        later = made.moved(replace(before, kill_switch=True), 60, 2)
        assert later.wanted is made.wanted
        assert later.moved(replace(before, exposure_percent=50), 120, 2).restless.keys() == {None}

    def test_where_nobody_is_held_nothing_is_said(self):
        assert book([toggles(100, eu=10), toggles(50, eu=20)]).held(2) == {}
