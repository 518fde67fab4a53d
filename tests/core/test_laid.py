"""What is laid over the toggles for one request: an override, or the serving mode of a first page."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.decide import MAX_LAID, Decider
from proxy.core.decision import Laid, ServingMode
from proxy.core.experiment import Experiment
from proxy.core.identity import Who
from proxy.core.policy import Route, Sources
from proxy.core.scopes import Scopes
from proxy.core.toggles import BY_NAME, DEFAULTS, Rule, Scope, Toggles

RULE = Rule(Scope(cohort=("heavy",)), {"alpha_override": 0.9, "disable_cf": False})
TOGGLES = st.builds(
    Toggles,
    alpha_override=st.none() | st.floats(0, 1),
    policy_mode=st.none() | st.sampled_from(BY_NAME["policy_mode"].choices),
    disable_cf=st.booleans(),
    disable_content=st.booleans(),
    candidate_fallback_level=st.sampled_from("ABCD"),
    exposure_percent=st.sampled_from([0.0, 30.0, 100.0]),
    cache_mode=st.sampled_from(BY_NAME["cache_mode"].choices),
    region_scope=st.sampled_from([(), ("eu",)]),
    rules=st.sampled_from(
        [(), (Rule(Scope(cohort=("heavy",)), {"alpha_override": 0.9, "disable_cf": False}),)]
    ),
)
EXPERIMENTS = st.sampled_from([Experiment(), Experiment(name="hybrid_v1"), Experiment(name="x", salt="y")])
SOURCES = st.builds(
    Sources,
    cf=st.sampled_from(["", "cf"]),
    content=st.sampled_from(["", "co"]),
    control=st.sampled_from(["", "ct"]),
)
WHO = st.builds(
    Who,
    st.sampled_from([b"", b"7", b"8", b"ann"]),
    st.sampled_from([b"", b"eu", b"us"]),
    st.sampled_from([b"", b"cold", b"heavy"]),
    st.just(b""),
)
BUCKET = st.integers(0, 9_999)


HELD = {None: ((0, 10_000),)}
"""The flap budget keeps everybody in control."""


def decider(toggles, experiment, sources, **more):
    route = Route(name="films", path="/", kind="recommend", sources=sources, alpha=0.6)
    return Decider(route, toggles, experiment, Scopes.of(toggles, None), **more)


def same(one, other):
    """But for what the cache is asked, which is of the present."""
    return replace(one, reason="", cache_mode="cold") == replace(other, reason="", cache_mode="cold")


@given(TOGGLES, EXPERIMENTS, SOURCES, WHO, BUCKET)
def test_laying_nothing_over_them_changes_nothing(toggles, experiment, sources, who, bucket):
    made = decider(toggles, experiment, sources)
    plain = made.decide(who, who.user, bucket)
    assert made.decide(who, who.user, bucket, Laid(aside="override")) == replace(plain, aside="override")


@given(TOGGLES, EXPERIMENTS, SOURCES, WHO, BUCKET)
def test_what_is_laid_over_is_decided_as_if_it_were_in_force(toggles, experiment, sources, who, bucket):
    """For everybody: without scope and rules an override is the document that says the same."""
    over = (("candidate_fallback_level", "A"), ("disable_cf", False), ("policy_mode", "bucket_gate"))
    plain = replace(toggles, region_scope=(), rules=())
    one = decider(plain, experiment, sources).decide(who, who.user, bucket, Laid(over))
    assert one == decider(replace(plain, **dict(over)), experiment, sources).decide(who, who.user, bucket)


@given(TOGGLES, EXPERIMENTS, SOURCES, WHO, BUCKET)
def test_a_further_page_is_decided_as_the_first_when_nothing_changes(
    toggles, experiment, sources, who, bucket
):
    made = decider(toggles, experiment, sources)
    first = made.decide(who, who.user, bucket)
    assert same(made.decide(who, who.user, bucket, Laid(mode=ServingMode.of(first))), first)


@given(TOGGLES, TOGGLES, EXPERIMENTS, EXPERIMENTS, SOURCES, WHO, WHO, BUCKET, BUCKET, st.booleans())
def test_whatever_changes_a_page_stays_in_its_mode_and_safety_wins(
    before, after, experiment, other, sources, who, then, bucket, later, held
):
    first = decider(before, experiment, sources).decide(who, who.user, bucket)
    mode = ServingMode.of(first)
    more = {"seen": (), "held": HELD} if held else {}
    made = decider(replace(after, experiment_freeze=held), other, sources, **more)
    page = made.decide(then, then.user, later, Laid(mode=mode))
    in_force = made.effective(made.place(then, later))
    assert page.exposed == first.exposed
    if not first.exposed:
        assert same(replace(page, rule=first.rule), first)
        return
    assert not (in_force.disable_cf and "cf" in page.sources)
    assert not (in_force.disable_content and "content" in page.sources)
    assert page.level >= max(first.level, in_force.candidate_fallback_level)
    stricter = (
        in_force.disable_cf
        or in_force.disable_content
        or in_force.candidate_fallback_level > first.level
        or in_force.cache_mode == "warm_only"
    )
    if not stricter:
        assert same(replace(page, rule=first.rule), first)
    assert first.expands or not page.expands
    if page.sources:
        assert page.cache_mode == in_force.cache_mode
    if ServingMode.of(page)[2:5] != mode[2:5]:
        assert page.arm == "none"


@given(TOGGLES, WHO, BUCKET)
def test_who_began_killed_goes_on_with_popularity(toggles, who, bucket):
    killed = decider(Toggles(kill_switch=True), Experiment(), Sources(cf="cf")).fixed
    page = decider(toggles, Experiment(), Sources(cf="cf")).decide(
        who, who.user, bucket, Laid(mode=ServingMode.of(killed))
    )
    assert (page.sources, page.level, page.exposed) == ((), "D", True)


def test_a_source_that_is_gone_is_not_asked():
    both, one = Sources(cf="cf", content="co"), Sources(content="co")
    who = Who(b"7", b"", b"", b"")
    mode = ServingMode.of(decider(DEFAULTS, Experiment(), both).decide(who, b"7", 0))
    page = decider(DEFAULTS, Experiment(), one).decide(who, b"7", 0, Laid(mode=mode))
    assert (page.sources, page.policy) == (("content",), "content_only")


def test_tables_kept_are_bounded():
    made = decider(DEFAULTS, Experiment(), Sources(cf="cf", content="co"))
    who = Who(b"7", b"", b"", b"")
    for number in range(3 * MAX_LAID):
        alpha = number / 1000
        assert made.decide(who, b"7", 0, Laid((("alpha_override", alpha),))).alpha == alpha
        assert len(made._laid) <= MAX_LAID
