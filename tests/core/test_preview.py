"""Previews: what they count, compared with what the decider does; and when a load is said to fit."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.capacity import Shown
from proxy.core.decide import Decider
from proxy.core.experiment import Experiment
from proxy.core.identity import Who
from proxy.core.inputs import Input
from proxy.core.policy import Policy, Route, Sources, Upstream
from proxy.core.preview import ASPECTS, MOST_MOVES, Replay
from proxy.core.routing import SALT, bucket
from proxy.core.scopes import Scopes
from proxy.core.toggles import Rule, Scope, Toggles

NOW = 5_000.0
SOURCES = {"cf": "cf-service", "content": "content-service", "control": "control-service"}
ROUTE = Route(name="films", path="/films", kind="recommend", sources=Sources(**SOURCES))
NONE = Experiment()
HYBRID = Experiment(name="hybrid_v1")
WORLD = Policy(
    routes=(ROUTE, Route(name="pay", path="/pay", upstream="cf-service")),
    upstreams={name: Upstream(url="http://h", max_inflight=10) for name in SOURCES.values()},
)


def policy(experiment=NONE, **toggles):
    return replace(WORLD, toggles=Toggles(**toggles), experiment=experiment)


def asked(user="", *, at=NOW, weight=1, route="films", region="", cohort="", request="r"):
    key = (user or request).encode()
    who = Who(user.encode(), region.encode(), cohort.encode(), b"")
    return Input(route, who, key, bucket(key, SALT), weight, at)


def users(count, **more):
    return [asked(f"u{n}", **more) for n in range(count)]


def preview(inputs, before, after, shown=None):
    replay = Replay(before, after, NOW)
    replay.add(inputs)
    return replay.report(shown or {})


def loads(found):
    return {it.upstream.removesuffix("-service"): (it.before_per_s, it.after_per_s) for it in found.upstreams}


def load(found, name):
    return next(it for it in found.upstreams if it.upstream == f"{name}-service")


class TestUsers:
    def test_each_aspect_is_counted_by_itself_and_the_moves_say_from_what_to_what(self):
        found = preview(users(10), policy(), policy(candidate_fallback_level="C"))
        assert (found.requests, found.replayed, found.users) == (10, 10, 10)
        assert {name: getattr(found.changed, name) for name in ("users", *ASPECTS)} == {
            "users": 10, "policy": 10, "arm": 0, "level": 10, "sources": 10, "alpha": 10, "exposed": 0,
        }  # fmt: skip
        (move,) = found.moves
        assert (move.users, move.requests) == (10, 10)
        assert (move.before.sources, move.before.level) == (("cf", "content"), "A")
        assert (move.after.sources, move.after.level) == (("content",), "C")

    def test_a_user_who_came_often_is_one_and_all_requests_count(self):
        found = preview(
            [asked("u", weight=3), asked("u", weight=4), asked("v")], policy(), policy(disable_cf=True)
        )
        assert (found.requests, found.replayed, found.users, found.changed.users) == (8, 3, 2, 2)
        assert found.moves[0].requests == 8

    def test_that_the_kill_switch_hides_a_change_is_said(self):
        killed = policy(kill_switch=True)
        found = preview(users(10), killed, policy(kill_switch=True, policy_mode="content_only"))
        assert found.changed.users == 0
        assert found.says == ("the kill switch is on: nothing changes until it is released",)
        assert not any("kill" in said for said in preview(users(10), killed, policy()).says)

    @pytest.mark.parametrize(("count", "who"), [(10, "10 users stay"), (1, "1 user stays")])
    def test_how_many_the_flap_budget_keeps_in_control_is_said(self, count, who):
        known = {f"{name}-service": Shown(per_s=1_000.0, latency_s=0.001) for name in SOURCES}
        held = replace(policy(), held={None: ((0, 10_000),)})
        found = preview(users(count), policy(exposure_percent=0), held, known)
        assert found.exposed_after == 0
        assert found.says == (f"{who} in control by the flap budget, for an hour at most",)
        assert found.verdict == "fits"

    def test_exposure_moves_those_above_it_and_nobody_else(self):
        found = preview(users(1000), policy(), policy(exposure_percent=30))
        staying = sum(one.bucket < 3000 for one in users(1000))
        assert (found.exposed_before, found.exposed_after) == (1000, staying)
        assert found.changed.exposed == found.changed.users == found.changed.arm == 1000 - staying

    def test_who_has_no_user_id_is_nobody_and_their_requests_count(self):
        found = preview(
            [asked(request=f"r{n}", weight=5) for n in range(8)], policy(), policy(disable_cf=True)
        )
        assert (found.users, found.changed.users, found.requests) == (0, 0, 40)
        assert (found.moves[0].users, found.moves[0].requests) == (0, 40)

    def test_a_rule_moves_those_of_its_scope(self):
        rules = (Rule(Scope(region=("eu",)), {"policy_mode": "content_only"}),)
        inputs = [*users(4, region="eu"), asked("far", region="us")]
        found = preview(inputs, policy(), policy(rules=rules))
        assert (found.users, found.changed.users) == (5, 4)

    def test_a_kill_asks_nobody_and_its_release_asks_again(self):
        on, off = policy(kill_switch=True), policy()
        found = preview(users(4, at=NOW - 2.0), off, on)
        assert loads(found) == {"cf": (2.0, 0.0), "content": (2.0, 0.0), "control": (0.0, 0.0)}
        assert found.moves[0].after.policy == "kill_switch"
        assert loads(preview(users(4, at=NOW - 2.0), on, off))["cf"] == (0.0, 2.0)

    def test_arms_that_end_are_told(self):
        found = preview(users(200), policy(HYBRID), policy(HYBRID, policy_mode="bucket_gate"))
        assert found.changed.arm == 200
        assert {move.before.arm for move in found.moves} == {"control", "treatment_a", "treatment_b"}
        assert {move.after.arm for move in found.moves} == {"none"}
        assert [move.requests for move in found.moves] == sorted(
            (move.requests for move in found.moves), reverse=True
        )

    def test_who_is_new_in_a_frozen_experiment_is_control_before_and_moves_with_the_thaw(self):
        """Facts 2.13; the decider of the data plane asks the same."""
        replay = Replay(policy(HYBRID, experiment_freeze=True), policy(HYBRID), NOW, seen={b"u1", b"u2"})
        replay.add(users(40))
        found = replay.report({})
        assert {move.before.arm for move in found.moves} == {"control"}
        own = sum(move.users for move in found.moves)
        assert 0 < own == found.changed.arm < 38

    def test_only_so_many_moves_are_told_and_the_rest_is_counted(self):
        rules = tuple(
            Rule(Scope(region=(f"r{n}",)), {"alpha_override": n / 100}) for n in range(MOST_MOVES + 7)
        )
        inputs = [asked(f"u{n}", region=f"r{n}") for n in range(MOST_MOVES + 7)]
        found = preview(inputs, policy(), policy(rules=rules))
        assert (len(found.moves), found.more_moves, found.changed.alpha) == (MOST_MOVES, 7, MOST_MOVES + 7)

    def test_routes_that_are_gone_are_left_out(self):
        found = preview([asked("u", route="gone"), asked("u", route="pay")], policy(), policy())
        assert (found.replayed, found.verdict) == (0, "unknown")


SHOWN = {"content-service": Shown(per_s=40.0, latency_s=0.1)}


class TestLoads:
    @staticmethod
    def steady(per_s, seconds=30):
        """So many requests in each second up to now."""
        return [asked(f"u{n}", at=NOW - s - 0.5) for s in range(seconds) for n in range(per_s)]

    def collab_to_content(self, per_s, shown, seconds=30):
        before, after = policy(policy_mode="collab_only"), policy(policy_mode="content_only")
        return preview(self.steady(per_s, seconds), before, after, shown)

    def test_a_rate_is_over_the_time_from_the_oldest_request(self):
        found = preview(
            [asked("u", at=NOW - 20.0, weight=60), asked("u", at=NOW)], policy(), policy(disable_cf=True)
        )
        assert found.span_s == 20.0
        assert loads(found) == {"cf": (3.05, 0.0), "content": (3.05, 3.05), "control": (0.0, 0.0)}

    def test_within_what_was_shown_it_fits(self):
        found = self.collab_to_content(30, SHOWN)
        assert load(found, "content").busiest_after_per_s == 30.0
        assert (load(found, "content").verdict, found.verdict, found.says) == ("fits", "fits", ())

    def test_more_than_was_shown_exceeds_and_says_what(self):
        found = self.collab_to_content(41, SHOWN)
        assert found.verdict == "exceeds"
        (says,) = found.says
        assert says == (
            "content-service would get 41 calls a second in its busiest 10 s: "
            "the most it answered in the last hour is 40"
        )

    def test_the_busiest_seconds_decide_and_not_the_mean(self):
        inputs = self.steady(5, 60) + [asked(f"w{n}", at=NOW - 15.0) for n in range(400)]
        before, after = policy(policy_mode="collab_only"), policy(policy_mode="content_only")
        found = preview(inputs, before, after, SHOWN)
        assert load(found, "content").after_per_s < 12
        assert (load(found, "content").busiest_after_per_s, found.verdict) == (45.0, "exceeds")

    def test_a_slot_that_is_only_begun_counts_as_far_as_it_goes(self):
        """35 s: three whole slots of 10 calls a second, and half of one with 400 calls in it."""
        inputs = self.steady(10, 30) + [asked(f"w{n}", at=NOW - 34.9) for n in range(400)]
        found = preview(inputs, policy(policy_mode="collab_only"), policy(policy_mode="content_only"))
        assert load(found, "content").busiest_after_per_s == 40.0

    def test_in_less_than_a_slot_it_is_the_mean(self):
        inputs = [asked("u", at=NOW - 4.0), *users(7)]
        found = preview(inputs, policy(policy_mode="collab_only"), policy(policy_mode="content_only"))
        assert load(found, "content").busiest_after_per_s == 2.0

    def test_what_connections_let_through_is_a_bound_of_its_own(self):
        """10 in flight at 100 ms are 100 a second."""
        shown = {"content-service": Shown(per_s=500.0, latency_s=0.1)}
        found = self.collab_to_content(101, shown)
        assert (load(found, "content").limit_per_s, found.verdict) == (100.0, "exceeds")
        assert "max_inflight of 10 lets through 100 at its latency" in found.says[0]

    def test_without_data_it_is_unknown_and_never_a_guess(self):
        found = self.collab_to_content(1, {})
        assert (load(found, "content").verdict, load(found, "cf").verdict, found.verdict) == (
            "unknown", "fits", "unknown",
        )  # fmt: skip
        assert "nobody knows" in found.says[0]

    def test_the_worst_upstream_is_the_verdict(self):
        shown = {"content-service": Shown(per_s=1.0)}
        found = preview(self.steady(9), policy(kill_switch=True), policy(), shown)
        assert [it.verdict for it in found.upstreams] == ["unknown", "exceeds", "fits"]
        assert (found.verdict, len(found.says)) == ("exceeds", 2)

    def test_a_load_that_does_not_rise_is_no_matter_of_the_change(self):
        shown = {"content-service": Shown(per_s=1.0)}
        assert preview(self.steady(50), policy(), policy(disable_cf=True), shown).verdict == "fits"

    @pytest.mark.parametrize(
        ("before", "after", "missed", "expected"),
        [
            ("cold", "cold", 0.2, (10.0, 10.0)), ("prewarm", "prewarm", 0.2, (2.0, 2.0)),
            ("prewarm", "prewarm", None, (10.0, 10.0)), ("cold", "prewarm", 0.2, (10.0, 10.0)),
            ("prewarm", "cold", 0.2, (2.0, 10.0)), ("prewarm", "warm_only", 0.2, (2.0, 0.0)),
            ("warm_only", "prewarm", 0.2, (0.0, 10.0)),
        ],
    )  # fmt: skip
    def test_what_the_cache_answers_is_no_call(self, before, after, missed, expected):
        """Who is read through the cache anew may find nothing there: all of those count."""
        replay = Replay(policy(cache_mode=before), policy(cache_mode=after), NOW)
        replay.add(users(20, at=NOW - 2.0))
        found = replay.report({}, missed)
        assert (loads(found)["cf"], found.cache_missed) == (expected, missed)

    def test_a_source_that_was_not_asked_before_is_not_in_the_cache(self):
        before, after = (
            policy(policy_mode=mode, cache_mode="prewarm") for mode in ("collab_only", "content_only")
        )
        replay = Replay(before, after, NOW)
        replay.add(users(20, at=NOW - 2.0))
        found = loads(replay.report({}, 0.2))
        assert (found["cf"], found["content"]) == ((2.0, 0.0), (0.0, 10.0))

    def test_without_requests_nothing_can_be_told(self):
        found = preview([], policy(), policy(kill_switch=True))
        assert (found.verdict, found.requests, found.span_s) == ("unknown", 0, 0.0)
        assert "nothing can be told" in found.says[0]


NAMES = ("", "eu", "us", "cold", "heavy")
VALUES = {
    "policy_mode": st.sampled_from([None, "bucket_gate", "content_only", "collab_only", "hybrid_default"]),
    "disable_cf": st.booleans(),
    "disable_content": st.booleans(),
    "candidate_fallback_level": st.sampled_from("ABCD"),
    "exposure_percent": st.sampled_from([0.0, 0.01, 37.5, 99.99, 100.0]),
    "cache_mode": st.sampled_from(["cold", "prewarm", "warm_only"]),
    "alpha_override": st.sampled_from([None, 0.0, 0.3]),
}
COHORTS = st.sampled_from([(), ("cold",)])
RULES = st.builds(
    Rule,
    st.builds(Scope, region=st.sampled_from([(), ("eu",), ("eu", "us")]), cohort=COHORTS),
    st.fixed_dictionaries({}, optional=VALUES),
)
TOGGLES = st.builds(
    Toggles,
    **VALUES,
    kill_switch=st.booleans(),
    region_scope=st.sampled_from([(), ("eu",)]),
    rules=st.lists(RULES, max_size=3).map(tuple),
)
POLICIES = st.builds(
    lambda toggles, experiment: replace(WORLD, toggles=toggles, experiment=experiment),
    TOGGLES,
    st.sampled_from([NONE, HYBRID]),
)
INPUTS = st.lists(
    st.builds(
        asked,
        st.sampled_from(["", *"abcdefgh"]),
        at=st.floats(NOW - 600, NOW),
        weight=st.integers(1, 9),
        region=st.sampled_from(NAMES),
        cohort=st.sampled_from(NAMES),
        request=st.sampled_from(["r1", "r2", "r3"]),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(INPUTS, POLICIES)
def test_the_same_document_changes_nobody(inputs, same):
    found = preview(inputs, same, replace(same, toggles=replace(same.toggles, version=9)))
    assert (found.changed.users, found.moves, found.exposed_before) == (0, (), found.exposed_after)
    assert all(it.before_per_s == it.after_per_s and it.verdict == "fits" for it in found.upstreams)


@settings(deadline=None)
@given(INPUTS, POLICIES, POLICIES)
def test_the_load_is_what_the_decider_asks_for(inputs, before, after):
    """Each side by a decider of its own, request by request."""
    found = preview(inputs, before, after)
    span = max(NOW - min((one.at for one in inputs), default=NOW), 1.0)
    for side, of in ((0, before), (1, after)):
        decider = Decider(ROUTE, of.toggles, of.experiment, Scopes(of.toggles.scope, of.toggles.rules))
        calls = Counter()
        for one in inputs:
            decision = decider.fixed or decider.decide(one.who, one.key, one.bucket)
            for kind in decision.calls:
                calls[kind] += one.weight
        for kind in SOURCES:
            assert loads(found)[kind][side] == pytest.approx(calls[kind] / span, abs=0.001)


@settings(deadline=None)
@given(INPUTS, POLICIES, POLICIES, st.integers(0, 40))
def test_pieces_add_up_and_both_directions_agree(inputs, before, after, at):
    replay = Replay(before, after, NOW)
    replay.add(inputs[:at])
    replay.add(inputs[at:])
    found = replay.report({})
    assert found == preview(inputs, before, after)
    back = preview(inputs, after, before)
    assert (back.changed, back.exposed_before) == (found.changed, found.exposed_after)
    assert {(it.before, it.after) for it in back.moves} == {(it.after, it.before) for it in found.moves}
