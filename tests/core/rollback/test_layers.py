"""Layers: what a patch makes of the toggles, whom it is for, and that it never opens what is closed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.decide import Decider
from proxy.core.decision import NOTHING_LAID, Laid, ServingMode, killed_by
from proxy.core.experiment import Experiment
from proxy.core.identity import Who
from proxy.core.policy import Policy, Route, Sources
from proxy.core.rollback.layers import NO_PATCH, RECOVERED, Covers, Patch, laid_over, settled
from proxy.core.scopes import Scopes
from proxy.core.toggles import BASELINES, BY_NAME, STAGES, Rule, Scope, Toggles
from proxy.core.toggles_document import contradictions

CACHE_ORDER = BY_NAME["cache_mode"].choices
EU = Scope(region=("eu",))
CUMULATIVE = [{}, STAGES["1"], STAGES["1"] | STAGES["2"], STAGES["1"] | STAGES["2"] | STAGES["3"]]

MODES = st.none() | st.sampled_from(BY_NAME["policy_mode"].choices)
TOGGLES = st.builds(
    Toggles,
    alpha_override=st.none() | st.floats(0, 1),
    policy_mode=MODES,
    disable_cf=st.booleans(),
    disable_content=st.booleans(),
    candidate_fallback_level=st.sampled_from("ABCD"),
    exposure_percent=st.sampled_from([0.0, 30.0, 100.0]),
    cache_mode=st.sampled_from(CACHE_ORDER),
    experiment_freeze=st.booleans(),
    region_scope=st.sampled_from([(), ("eu",)]),
    rules=st.sampled_from([(), (Rule(Scope(cohort=("heavy",)), {"disable_cf": False}),)]),
)  # fmt: skip
PATCHES = st.builds(
    Patch,
    stage=st.sampled_from(["1", "2", "3"]),
    toggles=st.sampled_from([*CUMULATIVE, BASELINES["degraded"], STAGES["emergency"], BASELINES["normal"]])
    | st.fixed_dictionaries(
        {},
        optional={
            "policy_mode": MODES,
            "disable_cf": st.booleans(),
            "disable_content": st.booleans(),
            "candidate_fallback_level": st.sampled_from("ABCD"),
            "exposure_percent": st.sampled_from([0, 50, 75, 100]),
            "cache_mode": st.sampled_from(CACHE_ORDER),
            "experiment_freeze": st.booleans(),
            "alpha_override": st.none() | st.floats(0, 1),
        },
    ),
    scope=st.sampled_from([Scope(), EU, Scope(cohort=("heavy",)), Scope(region=("eu",), cohort=("cold",))]),
    low=st.sampled_from([0, 500]),
    high=st.sampled_from([5_000, 10_000]),
    exact=st.just(False),
)
LAYERS = st.lists(PATCHES, max_size=3).map(tuple)
EXPERIMENTS = st.sampled_from([Experiment(), Experiment(name="hybrid_v1")])
SOURCES = st.builds(
    Sources,
    cf=st.sampled_from(["", "cf"]),
    content=st.sampled_from(["", "co"]),
    control=st.sampled_from(["", "ct"]),
)
WHO = st.builds(
    Who,
    st.sampled_from([b"", b"7", b"ann"]),
    st.sampled_from([b"", b"eu", b"us"]),
    st.sampled_from([b"", b"cold", b"heavy"]),
    st.just(b""),
)
BUCKET = st.sampled_from([0, 499, 500, 2_999, 3_000, 4_999, 5_000, 9_999])


BOTH = Sources(cf="cf", content="co")
ANN = Who(b"ann", b"", b"", b"")


def decider(toggles, layers=(), experiment=None, sources=BOTH, **more):
    route = Route(name="films", path="/", kind="recommend", sources=sources, alpha=0.6)
    return Decider(
        route, toggles, experiment or Experiment(), Scopes.of(toggles, None), layers=layers, **more
    )


def decided(made, who, bucket, laid=NOTHING_LAID):
    """As the data plane does it."""
    if laid is NOTHING_LAID and made.fixed is not None:
        return made.fixed
    return made.decide(who, who.user, bucket, laid)


@given(TOGGLES, LAYERS, EXPERIMENTS, SOURCES, WHO, BUCKET, st.booleans())
def test_under_any_layers_an_answer_is_never_looser_than_without(
    toggles, layers, experiment, sources, who, bucket, paged
):
    plain, layered = (decider(toggles, over, experiment, sources, seen=(b"7",)) for over in ((), layers))
    laid = Laid(mode=ServingMode.of(decided(decider(Toggles(), (), experiment, sources), who, bucket)))
    laid = laid if paged else NOTHING_LAID
    before, after = decided(plain, who, bucket, laid), decided(layered, who, bucket, laid)
    if not after.stage:
        assert replace(after, recovered=False) == before
        return
    assert before.exposed or not after.exposed or after.killed
    if after.killed or not after.exposed:
        return
    own = plain.effective(plain.place(who, bucket))
    assert after.level >= before.level
    assert not (own.disable_cf and "cf" in after.sources)
    assert not (own.disable_content and "content" in after.sources)
    assert before.sources or not after.sources
    assert before.expands or not after.expands or not before.sources
    if after.sources:
        assert CACHE_ORDER.index(after.cache_mode) >= CACHE_ORDER.index(before.cache_mode)
    if own.policy_mode in {"content_only", "collab_only"} and not paged and len(after.sources) > 1:
        assert before.sources == after.sources


@given(TOGGLES, LAYERS, WHO, BUCKET)
def test_a_patch_does_what_it_says(toggles, layers, who, bucket):
    """What is decided under it obeys each of its toggles."""
    made = decider(toggles, layers, sources=Sources(cf="cf", content="co", control="ct"))
    decision = decided(made, who, bucket)
    at = made.place(who, bucket)
    if at[2] < 0:
        assert not decision.stage
        return
    over = Covers(layers).patches[at[2]]
    patch = over.toggles
    assert decision.stage == over.stage
    assert decision.killed == bool(patch.get("kill_switch"))
    if decision.killed:
        return
    assert not decision.exposed or bucket < patch.get("exposure_percent", 100) * 100
    if decision.exposed:
        assert not (patch.get("disable_cf") and "cf" in decision.sources)
        assert not (patch.get("disable_content") and "content" in decision.sources)
        assert decision.level >= patch.get("candidate_fallback_level", "A")


@given(TOGGLES, PATCHES)
def test_two_hands_never_make_a_contradiction(toggles, patch):
    for exact in (False, True):
        assert not list(contradictions(laid_over(toggles, patch._replace(exact=exact))))


def test_what_an_operator_and_a_stage_disable_together_is_level_d():
    """Nobody is left to ask, and the answer is full all the same."""
    found = laid_over(Toggles(disable_content=True, policy_mode="collab_only"), Patch("2", CUMULATIVE[2]))
    assert (found.candidate_fallback_level, found.policy_mode) == ("D", None)
    decision = decider(Toggles(disable_content=True), (Patch("2", CUMULATIVE[2]),)).fixed
    assert decision is None  # stage 1's exposure tells users apart
    decision = decider(Toggles(disable_content=True), (Patch("2", STAGES["2"]),)).fixed
    assert (decision.policy, decision.level, decision.sources) == ("popularity", "D", ())
    assert decision.side == "decided"


def test_who_is_left_answers_where_the_mode_would_ask_whom_nobody_may():
    assert settled(Toggles(disable_cf=True, policy_mode="collab_only")).policy_mode == "content_only"
    assert settled(Toggles(disable_content=True, policy_mode="content_only")).policy_mode == "collab_only"


@pytest.mark.parametrize(
    ("name", "operators", "stages", "holds"),
    [
        ("exposure_percent", 50.0, 75, 50.0), ("exposure_percent", 100.0, 75, 75),
        ("candidate_fallback_level", "D", "C", "D"), ("candidate_fallback_level", "A", "C", "C"),
        ("disable_cf", True, False, True), ("disable_cf", False, True, True),
        ("cache_mode", "cold", "prewarm", "prewarm"), ("cache_mode", "warm_only", "prewarm", "warm_only"),
        ("cache_mode", "prewarm", "cold", "prewarm"),
        ("policy_mode", "collab_only", "content_only", "collab_only"),
        ("policy_mode", "bucket_gate", "content_only", "content_only"),
        ("policy_mode", None, "content_only", "content_only"), ("policy_mode", None, "bucket_gate", None),
        ("experiment_freeze", True, False, True), ("experiment_freeze", False, True, True),
        ("alpha_override", 0.9, 0.1, 0.9), ("alpha_override", None, 0.1, None),
        ("kill_switch", True, False, True),
    ],
)  # fmt: skip
def test_of_each_toggle_the_stricter_one_holds(name, operators, stages, holds):
    assert getattr(laid_over(Toggles(**{name: operators}), Patch("1", {name: stages})), name) == holds


def test_an_override_sets_toggles_as_they_are_but_for_a_kill():
    patch = Patch("normal", BASELINES["normal"], exact=True)
    found = laid_over(
        Toggles(disable_cf=True, exposure_percent=5.0, kill_switch=True, region_scope=("eu",)), patch
    )
    assert (found.disable_cf, found.exposure_percent) == (False, 100)
    assert (found.kill_switch, found.region_scope) == (True, ("eu",))


def test_the_first_patch_that_fits_counts_and_a_kill_goes_before_all():
    wide, narrow = Patch("1", STAGES["1"]), Patch("2", STAGES["2"], scope=EU)
    kill = Patch("emergency", STAGES["emergency"], scope=EU, low=9_000)
    covers = Covers((wide, narrow, kill))
    assert [covers.patches[covers.at(b"eu", b"", b"", bucket)].stage for bucket in (8_999, 9_000)] == [
        "1", "emergency",
    ]  # fmt: skip
    assert covers.patches[covers.at(b"us", b"", b"", 9_000)].stage == "1"
    assert Covers((narrow,)).at(b"us", b"", b"", 1) == NO_PATCH
    assert Covers((narrow,)).at(b"", b"", b"", 1) == NO_PATCH


def test_who_is_let_out_by_bucket_has_recovered_and_nobody_else():
    """In the scope, below the step, and under no other patch."""
    scoped, rest = Patch("2", STAGES["2"], scope=EU, low=500), Patch("1", STAGES["1"], low=500, high=600)
    assert Covers((scoped, rest)).at(b"eu", b"", b"", 499) == RECOVERED
    assert Covers((scoped,)).at(b"us", b"", b"", 499) == NO_PATCH
    assert Covers((scoped, Patch("1", {}, high=500))).at(b"eu", b"", b"", 499) == 1
    made = decider(Toggles(), (scoped,))
    ann = Who(b"ann", b"eu", b"", b"")
    assert [made.decide(ann, b"ann", bucket).side for bucket in (499, 500)] == ["recovered", "staged"]
    assert made.decide(ann._replace(region=b"us"), b"ann", 499).side == "exposed"


def test_a_share_that_cannot_be_moved_gets_level_d_instead():
    """The second patch of a load shift."""
    moved = (
        Patch("2", STAGES["2"], high=2_000),
        Patch("2", STAGES["2"] | {"candidate_fallback_level": "D"}, low=2_000),
    )
    made = decider(Toggles(), moved)
    ann = Who(b"ann", b"", b"", b"")
    assert [made.decide(ann, b"ann", bucket).sources for bucket in (1_999, 2_000)] == [("content",), ()]


def test_a_kill_for_everybody_is_a_kill_and_a_scoped_one_kills_whom_it_is_for():
    emergency = STAGES["emergency"]
    policy = Policy(
        routes=(), upstreams={}, layers=(Patch("1", STAGES["1"], scope=EU), Patch("emergency", emergency))
    )
    assert killed_by(policy).stage == "emergency"
    scoped = Patch("emergency", emergency, scope=EU)
    assert killed_by(replace(policy, layers=(scoped,))) is None
    assert killed_by(replace(policy, layers=(Patch("emergency", emergency, low=100),))) is None
    made = decider(Toggles(), (scoped,))
    ann, bob = (Who(b"ann", region, b"", b"") for region in (b"eu", b"us"))
    dead = made.decide(ann, b"ann", 0)
    assert (dead.killed, dead.sources, dead.stage, dead.side) == (True, (), "emergency", "decided")
    over = Laid((("candidate_fallback_level", "A"), ("exposure_percent", 100)), "override")
    assert made.decide(ann, b"ann", 0, over).killed
    assert made.decide(bob, b"bob", 0).side == "exposed"
    assert decider(Toggles(), (Patch("emergency", emergency),)).fixed.killed


def test_signed_overrides_lie_over_a_stage():
    made = decider(Toggles(), (Patch("2", STAGES["2"]),))
    ann = Who(b"ann", b"", b"", b"")
    back = Laid(
        (("candidate_fallback_level", "A"), ("disable_cf", False), ("policy_mode", "collab_only")), "override"
    )
    decision = made.decide(ann, b"ann", 0, back)
    assert (decision.sources, decision.side, decision.stage) == (("cf",), "override", "2")


def test_a_page_takes_over_a_mode_that_a_stage_has_narrowed():
    """Also where the source that it leaves out is not disabled."""
    narrow = Patch("2", {"policy_mode": "content_only", "exposure_percent": 0})
    laid = Laid(mode=ServingMode(True, "none", "hybrid_default", 0.6, "A"))
    decision = decider(Toggles(), (narrow,)).decide(ANN, b"ann", 0, laid)
    assert (decision.exposed, decision.sources) == (True, ("content",))


def test_a_stage_that_freezes_lets_nobody_new_into_the_experiment():
    """Known users keep their arm; the others get its control, and are not noted."""
    freeze = Patch("3", {"experiment_freeze": True})
    made = decider(Toggles(), (freeze,), Experiment(name="hybrid_v1"), seen=(b"ann",))
    plain = decider(Toggles(), (), Experiment(name="hybrid_v1"), seen=(b"ann",))
    known, unknown = (made.decide(ANN._replace(user=user), user, 0) for user in (b"ann", b"new"))
    assert replace(known, stage="", enrols=True) == plain.decide(ANN, b"ann", 0)
    assert (unknown.arm, unknown.reason, unknown.enrols) == ("control", "experiment_freeze", False)


def test_without_layers_one_decision_for_all_is_found_as_before():
    assert decider(Toggles()).fixed == decider(Toggles(), ()).fixed is not None
    under = decider(Toggles(), (Patch("2", STAGES["2"]),)).fixed
    assert (under.stage, under.sources) == ("2", ("content",))
    assert decider(Toggles(), (Patch("2", STAGES["2"], scope=EU),)).fixed is None
