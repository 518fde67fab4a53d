"""Decisions: facts 2.10 to 2.14 as tables, and what holds for all of them."""

from collections import Counter
from dataclasses import replace
from itertools import combinations, product

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.decide import Decider
from proxy.core.decision import KILLED, Decision
from proxy.core.experiment import HYBRID_V1, Arm, Experiment, bounds
from proxy.core.identity import Who
from proxy.core.policy import Route, Sources
from proxy.core.routing import SALT, bucket
from proxy.core.scopes import Scopes
from proxy.core.toggles import BASELINES, BY_NAME, COHORT_ALPHAS, Rule, Scope, Toggles

BOTH = Route(
    name="films",
    path="/films",
    kind="recommend",
    sources=Sources(cf="a", content="b", control="c"),
    alpha=0.55,
)
HYBRID = Experiment(name="hybrid_v1")
NONE = Experiment()


def decider(toggles=None, experiment=NONE, route=BOTH, **named):
    toggles = toggles or Toggles(**named)
    return Decider(route, toggles, experiment, Scopes(toggles.scope, toggles.rules))


def decide(user="u", *, region="", cohort="", client="", **more) -> Decision:
    """The decision for one user, through `fixed` where that says it."""
    made = decider(**more)
    who = Who(user.encode(), region.encode(), cohort.encode(), client.encode())
    key = user.encode() or b"request-7"
    return made.fixed or made.decide(who, key, bucket(key, SALT))


def served(**toggles):
    """Whom to ask, alpha, policy, level, reason."""
    found = decide(**toggles)
    return found.sources, found.alpha, found.policy, found.level, found.reason


@pytest.mark.parametrize(
    ("toggles", "expected"),
    [
        ({}, (("cf", "content"), 0.55, "hybrid_default", "A", "default")),
        ({"policy_mode": "hybrid_default"}, (("cf", "content"), 0.55, "hybrid_default", "A", "policy_mode")),
        ({"policy_mode": "bucket_gate"}, (("cf", "content"), 0.55, "bucket_gate", "A", "policy_mode")),
        ({"policy_mode": "content_only"}, (("content",), 0.0, "content_only", "A", "policy_mode")),
        ({"policy_mode": "collab_only"}, (("cf",), 1.0, "collab_only", "A", "policy_mode")),
        ({"alpha_override": 0.0}, (("cf", "content"), 0.0, "hybrid_default", "A", "alpha_override")),
        ({"alpha_override": 0.3, "policy_mode": "bucket_gate", "cohort": "heavy"},
         (("cf", "content"), 0.3, "bucket_gate", "A", "policy_mode, alpha_override")),
        ({"alpha_override": 0.3, "policy_mode": "collab_only"},
         (("cf",), 1.0, "collab_only", "A", "policy_mode")),
        ({"disable_cf": True}, (("content",), 0.0, "content_only", "A", "disable_cf")),
        ({"disable_content": True}, (("cf",), 1.0, "collab_only", "A", "disable_content")),
        ({"disable_cf": True, "disable_content": True},
         ((), 0.0, "popularity", "D", "disable_cf, disable_content")),
        ({"candidate_fallback_level": "B"},
         (("content",), 0.0, "content_only", "B", "candidate_fallback_level")),
        ({"candidate_fallback_level": "C"},
         (("content",), 0.0, "content_only", "C", "candidate_fallback_level")),
        ({"candidate_fallback_level": "D"}, ((), 0.0, "popularity", "D", "candidate_fallback_level")),
        ({"candidate_fallback_level": "B", "disable_content": True},
         (("cf",), 1.0, "collab_only", "B", "disable_content, candidate_fallback_level")),
        ({"cache_mode": "prewarm"}, (("cf", "content"), 0.55, "hybrid_default", "A", "default")),
        ({"cache_mode": "warm_only"}, (("cf", "content"), 0.55, "hybrid_default", "A", "cache_mode")),
        ({"exposure_percent": 0}, (("control",), 0.0, "control", "A", "exposure_percent")),
        ({"kill_switch": True}, ((), 0.0, "kill_switch", "D", "kill_switch")),
        (BASELINES["content_only"],
         (("content",), 0.0, "content_only", "B", "candidate_fallback_level, policy_mode")),
        (BASELINES["collaborative_only"],
         (("cf",), 1.0, "collab_only", "B", "candidate_fallback_level, policy_mode")),
        (dict(BASELINES["degraded"]) | {"exposure_percent": 100},
         (("content",), 0.0, "content_only", "C", "candidate_fallback_level, policy_mode")),
        (BASELINES["emergency"], ((), 0.0, "kill_switch", "D", "kill_switch")),
        (dict(BASELINES["emergency"]) | {"kill_switch": False, "exposure_percent": 100},
         ((), 0.0, "popularity", "D", "candidate_fallback_level")),
    ],
)  # fmt: skip
def test_toggles_decide_whom_to_ask(toggles, expected):
    assert served(**toggles) == expected


EFFECTIVE = {
    "kill_switch": True, "exposure_percent": 0, "disable_cf": True, "candidate_fallback_level": "D",
    "cache_mode": "warm_only", "policy_mode": "hybrid_default", "alpha_override": 0.9,
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), list(combinations(EFFECTIVE, 2)))
def test_what_outranks_has_the_first_word(one, other):
    """Facts 2.10, pair by pair: the decision's reason begins with the stronger toggle that took effect."""
    stronger, weaker = sorted((one, other), key=lambda name: BY_NAME[name].priority)
    found = decide(**{name: EFFECTIVE[name] for name in (one, other)})
    if (stronger, weaker) in {("disable_cf", "candidate_fallback_level"), ("disable_cf", "cache_mode")}:
        assert weaker in found.reason.split(", ")  # one source disabled leaves the next step its say
    else:
        assert found.reason.split(", ")[0] == stronger


def test_what_is_disabled_is_never_asked_and_d_asks_nobody():
    modes = (None, "bucket_gate", "content_only", "collab_only", "hybrid_default")
    for mode, cf, content, level, experiment in product(modes, (0, 1), (0, 1), "ABCD", (NONE, HYBRID)):
        for user in ("u1", "u2", "u3", "u4"):
            found = decide(
                user, experiment=experiment, policy_mode=mode, disable_cf=bool(cf),
                disable_content=bool(content), candidate_fallback_level=level,
            )  # fmt: skip
            assert not (cf and "cf" in found.sources)
            assert not (content and "content" in found.sources)
            assert bool(found.sources) == (level != "D" and not (cf and content))
            assert found.level == (level if found.sources else "D")
            assert found.judged == bool(found.sources)


class TestRoutes:
    @pytest.mark.parametrize(
        ("sources", "toggles", "asked"),
        [
            (Sources(), {}, ()),
            (Sources(cf="a"), {}, ("cf",)),
            (Sources(content="a"), {}, ("content",)),
            (Sources(cf="a"), {"disable_cf": True}, ()),
            (Sources(cf="a"), {"candidate_fallback_level": "B"}, ("cf",)),
            (Sources(content="a"), {"policy_mode": "collab_only"}, ("content",)),
            (Sources(cf="a"), {"policy_mode": "content_only"}, ("cf",)),
        ],
    )
    def test_what_a_route_does_not_have_leaves_the_other(self, sources, toggles, asked):
        assert decide(route=replace(BOTH, sources=sources), **toggles).sources == asked

    def test_a_route_without_sources_says_so(self):
        found = decide(route=replace(BOTH, sources=Sources()))
        assert (found.reason, found.policy, found.judged) == ("no sources", "popularity", False)


class TestCohorts:
    @pytest.mark.parametrize(("cohort", "alpha"), [*COHORT_ALPHAS.items(), ("", 0.55), ("vip", 0.55)])
    def test_bucket_gate_weighs_by_cohort(self, cohort, alpha):
        assert decide(cohort=cohort, policy_mode="bucket_gate").alpha == alpha

    def test_who_is_nobody_is_cold(self):
        assert decide("", policy_mode="bucket_gate").alpha == 0.2
        assert decide("", cohort_scope=("cold",), disable_cf=True).reason == "disable_cf"

    def test_other_modes_do_not_look(self):
        assert decide(cohort="heavy").alpha == 0.55
        assert decider().fixed


class TestExposure:
    @pytest.mark.parametrize(("control", "asked", "level"), [("c", ("control",), "A"), ("", (), "D")])
    def test_who_is_not_exposed_gets_control(self, control, asked, level):
        route = replace(BOTH, sources=replace(BOTH.sources, control=control))
        found = decide(route=route, exposure_percent=0, candidate_fallback_level="D", disable_cf=True)
        assert (found.arm, found.exposed, found.sources, found.level) == ("control", False, asked, level)
        assert (found.policy, found.judged) == ("control", False)

    @pytest.mark.parametrize(("at", "exposed"), [(0, True), (1233, True), (1234, False), (9999, False)])
    def test_buckets_below_the_percentage_are(self, at, exposed):
        found = decider(exposure_percent=12.34).decide(Who(b"u", b"", b"", b""), b"u", at)
        assert found.exposed is exposed

    @given(st.text(max_size=9), st.integers(0, 10_000), st.integers(0, 10_000))
    def test_raising_the_percentage_only_adds_users(self, user, one, other):
        low, high = sorted((one, other))
        first = decide(user, exposure_percent=low / 100).exposed
        assert first <= decide(user, exposure_percent=high / 100).exposed
        assert first == (bucket(user.encode() or b"request-7", SALT) < low)

    @given(st.text(min_size=1, max_size=9), st.integers(0, 10_000))
    def test_the_same_user_is_decided_the_same_by_every_instance(self, user, hundredths):
        toggles = Toggles(exposure_percent=hundredths / 100)
        assert decide(user, toggles=toggles, experiment=HYBRID) == decide(
            user, toggles=toggles, experiment=HYBRID
        )

    def test_shares_come_out_as_asked(self):
        """Within four standard deviations of 20 000 users."""
        exposed = sum(decide(f"user-{n}", exposure_percent=12.34).exposed for n in range(20_000))
        assert exposed == pytest.approx(2468, abs=4 * (20_000 * 0.1234 * 0.8766) ** 0.5)


class TestExperiment:
    def test_arms_are_served_by_their_modes(self):
        found = {decide(f"u{n}", experiment=HYBRID, cohort="light") for n in range(50)}
        assert {(it.arm, it.policy, it.alpha, it.reason) for it in found} == {
            ("control", "content_only", 0.0, "experiment"),
            ("treatment_a", "bucket_gate", 0.4, "experiment"),
            ("treatment_b", "collab_only", 1.0, "experiment"),
        }

    def test_their_shares_are_those_of_the_settings_and_independent_of_exposure(self):
        users = [f"user-{n}" for n in range(40_000)]
        half = decider(experiment=HYBRID, exposure_percent=50)
        arms = Counter(
            half.decide(Who(key := user.encode(), b"", b"", b""), key, bucket(key, SALT)).arm
            for user in users
            if bucket(user.encode(), SALT) < 5000
        )
        total = sum(arms.values())
        assert total == pytest.approx(20_000, abs=400)
        for arm in HYBRID_V1:
            share = arm.percent / 100
            assert arms[arm.name] == pytest.approx(
                share * total, abs=4 * (total * share * (1 - share)) ** 0.5
            )

    @pytest.mark.parametrize("at", [0, 1999, 2000, 5999, 6000, 9999])
    def test_ranges_begin_where_the_one_before_ends(self, at, monkeypatch):
        monkeypatch.setattr("proxy.core.decide.bucket", lambda key, salt: at)
        found = decide(experiment=HYBRID).arm
        assert found == ("control" if at < 2000 else "treatment_a" if at < 6000 else "treatment_b")

    def test_an_arm_of_nobody_is_skipped(self):
        arms = (
            Arm(name="a", percent=0, policy_mode="collab_only"),
            Arm(name="b", percent=100, policy_mode="content_only"),
            Arm(name="c", percent=0, policy_mode="collab_only"),
        )
        assert bounds(arms) == [0, 10_000]
        assert {decide(f"u{n}", experiment=Experiment(name="x", arms=arms)).arm for n in range(99)} == {"b"}

    @pytest.mark.parametrize(
        ("toggles", "kept"),
        [
            ({"policy_mode": "bucket_gate"}, set()),
            ({"disable_cf": True}, {"control"}),
            ({"disable_content": True}, {"treatment_b"}),
            ({"candidate_fallback_level": "B"}, set()),
            ({"alpha_override": 0.5}, {"control", "treatment_b"}),
            ({"cache_mode": "warm_only"}, set()),
            ({"exposure_percent": 0}, {"control"}),
            ({"cache_mode": "prewarm", "experiment_freeze": True}, {"control", "treatment_a", "treatment_b"}),
        ],
    )
    def test_who_does_not_get_the_treatment_is_in_no_arm(self, toggles, kept):
        found = {decide(f"u{n}", experiment=HYBRID, **toggles).arm for n in range(50)} - {"none"}
        assert found == kept

    def test_a_route_that_cannot_give_the_treatment_has_no_such_arm(self):
        route = replace(BOTH, sources=Sources(content="b"))
        found = {decide(f"u{n}", experiment=HYBRID, route=route).arm for n in range(50)}
        assert found == {"control", "none"}

    def test_another_salt_draws_anew(self):
        again = replace(HYBRID, salt="again")
        moved = [
            n for n in range(200) if decide(f"u{n}", experiment=HYBRID) != decide(f"u{n}", experiment=again)
        ]
        assert 80 < len(moved) < 180


class TestScopes:
    def test_outside_the_documents_scope_there_are_defaults(self):
        scoped = {"region_scope": ("eu",), "client_scope": ("tv", "web"), "disable_cf": True}
        assert decide(region="eu", client="web", **scoped).reason == "disable_cf"
        for region, client in (("eu", ""), ("us", "tv"), ("", "")):
            assert decide(region=region, client=client, **scoped).reason == "default"

    def test_rules_are_laid_over_what_holds_without_them(self):
        rules = (
            Rule(scope=Scope(client=("tv",)), toggles={"policy_mode": "bucket_gate"}),
            Rule(scope=Scope(client=("tv", "web")), toggles={"exposure_percent": 0}),
        )
        scoped = {"region_scope": ("eu",), "alpha_override": 0.9, "rules": rules}
        found = decide(region="eu", client="tv", **scoped)
        assert (found.policy, found.alpha, found.rule) == ("bucket_gate", 0.9, 0)
        found = decide(region="us", client="tv", **scoped)
        assert (found.policy, found.alpha, found.rule) == ("bucket_gate", 0.55, 0)
        found = decide(region="us", client="web", **scoped)
        assert (found.exposed, found.rule) == (False, 1)
        assert decide(region="eu", client="", **scoped).alpha == 0.9

    def test_a_rule_can_take_back_what_the_document_says(self):
        rules = (Rule(scope=Scope(region=("eu",)), toggles={"policy_mode": None, "disable_cf": False}),)
        found = decide(region="eu", rules=rules, policy_mode="content_only", disable_cf=True)
        assert (found.policy, found.sources) == ("hybrid_default", ("cf", "content"))

    def test_the_kill_switch_ignores_all_of_it(self):
        rules = (Rule(scope=Scope(region=("eu",)), toggles={"policy_mode": "collab_only"}),)
        assert (
            decider(kill_switch=True, region_scope=("us",), rules=rules, exposure_percent=5).fixed is KILLED
        )


class TestFixed:
    @pytest.mark.parametrize(
        ("more", "fixed"),
        [
            ({}, True), ({"exposure_percent": 0}, True), ({"alpha_override": 0.2}, True),
            ({"policy_mode": "bucket_gate", "alpha_override": 0.2}, True),
            ({"candidate_fallback_level": "D", "experiment": HYBRID}, True),
            ({"policy_mode": "collab_only", "experiment": HYBRID}, True),
            ({"exposure_percent": 99.99}, False), ({"policy_mode": "bucket_gate"}, False),
            ({"experiment": HYBRID}, False), ({"region_scope": ("eu",)}, False),
        ],
    )  # fmt: skip
    def test_where_all_get_the_same_it_is_known_beforehand(self, more, fixed):
        assert (decider(**more).fixed is not None) is fixed

    @given(
        st.fixed_dictionaries({}, optional={
            "policy_mode": st.sampled_from(["bucket_gate", "content_only", "collab_only", "hybrid_default"]),
            "alpha_override": st.floats(0, 1), "disable_cf": st.booleans(), "disable_content": st.booleans(),
            "candidate_fallback_level": st.sampled_from("ABCD"),
            "exposure_percent": st.sampled_from([0, 100]),
            "cache_mode": st.sampled_from(["cold", "prewarm", "warm_only"]),
        }),
        st.sampled_from([NONE, HYBRID]), st.text(max_size=5), st.sampled_from(["", *COHORT_ALPHAS]),
    )  # fmt: skip
    def test_it_is_what_would_be_decided(self, toggles, experiment, user, cohort):
        made = decider(experiment=experiment, **toggles)
        if made.fixed is not None:
            key = user.encode() or b"r"
            assert (
                made.decide(Who(user.encode(), b"", cohort.encode(), b""), key, bucket(key, SALT))
                == made.fixed
            )


def murmur3(data: bytes) -> int:
    """MurmurHash3 x86 32-bit with seed 0, by its description."""
    h = 0
    blocks = len(data) // 4
    for at in range(0, blocks * 4, 4):
        k = int.from_bytes(data[at : at + 4], "little") * 0xCC9E2D51 & 0xFFFFFFFF
        h ^= ((k << 15 | k >> 17) & 0xFFFFFFFF) * 0x1B873593 & 0xFFFFFFFF
        h = ((h << 13 | h >> 19) & 0xFFFFFFFF) * 5 + 0xE6546B64 & 0xFFFFFFFF
    if tail := data[blocks * 4 :]:
        k = int.from_bytes(tail, "little") * 0xCC9E2D51 & 0xFFFFFFFF
        h ^= ((k << 15 | k >> 17) & 0xFFFFFFFF) * 0x1B873593 & 0xFFFFFFFF
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ h >> 16


class TestHash:
    @pytest.mark.parametrize(
        ("text", "digest"),
        [
            (b"", 0), (b"hello", 0x248BFA47), (b"hello, world", 0x149BBB7F),
            (b"The quick brown fox jumps over the lazy dog", 0x2E4FF723),
        ],
    )  # fmt: skip
    def test_published_vectors(self, text, digest):
        assert mmh3.mmh3_32_uintdigest(text) == murmur3(text) == digest

    @given(st.binary(max_size=40), st.sampled_from([b"exposure", b"hybrid_v1"]))
    def test_buckets_are_of_that_hash(self, key, salt):
        assert bucket(key, salt) == murmur3(salt + b":" + key) * 10_000 >> 32
