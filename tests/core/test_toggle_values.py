"""A toggles document as values by place: written, read, compared, matched."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.experiment import HYBRID_V1, Experiment
from proxy.core.policy import Policy, Route
from proxy.core.toggle_changes import World, changed
from proxy.core.toggle_values import (
    Damaged,
    Document,
    Reader,
    baseline_of,
    baseline_values,
    difference,
    laid,
    placed,
    read,
    told,
    values,
    written,
)
from proxy.core.toggles import BASELINES, DEFAULTS, Rule, Scope, Toggles
from proxy.core.toggles_document import contradictions

WORLD = World(Policy(routes=(), upstreams={}))
NAMES = st.sampled_from(["eu", "asia", "é", "tv"])
RULES = st.lists(
    st.builds(
        Rule,
        scope=NAMES.map(lambda name: Scope(region=(name,))),
        toggles=st.fixed_dictionaries({"exposure_percent": st.sampled_from([0, 12.5, 100])}),
    ),
    max_size=4,
    unique_by=lambda it: it.scope,
).map(tuple)
TOGGLES = st.builds(
    Toggles,
    alpha_override=st.none() | st.sampled_from([0, 0.25, 1.0]),
    policy_mode=st.sampled_from([None, "content_only", "collab_only", "bucket_gate"]),
    disable_cf=st.booleans(),
    disable_content=st.booleans(),
    candidate_fallback_level=st.sampled_from("ABCD"),
    exposure_percent=st.integers(0, 10_000).map(lambda it: it / 100),
    cache_mode=st.sampled_from(["cold", "warm_only"]),
    experiment_freeze=st.booleans(),
    kill_switch=st.booleans(),
    region_scope=st.lists(NAMES, unique=True).map(tuple),
    rules=RULES,
    flags=st.dictionaries(st.sampled_from(["billing", "mail"]), st.booleans()),
).filter(lambda it: not list(contradictions(it)))


@st.composite
def documents(draw):
    toggles = draw(TOGGLES)
    salt = draw(st.sampled_from(["", "again"]))
    frozen = Experiment(name="hybrid_v1", salt=salt) if toggles.experiment_freeze else None
    return Document(toggles=toggles, environment="test", experiment=frozen)


@given(documents())
def test_what_is_written_is_read_as_it_was(document):
    content = written(document, {"version": 7, "reason": "é"})
    assert read(content) == Document(
        toggles=Toggles(**{**{n: getattr(document.toggles, n) for n in Toggles.__slots__}, "version": 7}),
        environment="test",
        experiment=document.experiment,
    )
    assert written(document, {"version": 7, "reason": "é"}) == content


@given(st.lists(documents(), max_size=4))
@settings(deadline=None)
def test_one_reader_reads_many_as_each_by_itself_and_rules_that_stay_once(given):
    contents = [written(document, {}) for document in given]
    contents = [content for content in contents for _ in range(2)]
    reader = Reader()
    found = [reader.read(content) for content in contents]
    assert found == [read(content) for content in contents]
    for one, same in zip(found[::2], found[1::2], strict=True):
        assert same.toggles.rules is one.toggles.rules


@given(documents(), documents())
@settings(deadline=None)
def test_what_differs_laid_over_one_gives_the_other(one, other):
    """Which is what a revert does; and back again."""
    world = World(
        Policy(
            routes=tuple(Route(name=it, path=f"/{it}", flag=it) for it in ("billing", "mail")), upstreams={}
        )
    )
    for here, there in ((one, other), (other, one)):
        wanted = {place: after for place, (_, after) in difference(here, there).items()}
        made, faults = changed(here, wanted, world)
        assert faults == []
        assert difference(made, there) == {}
        assert made.experiment == there.experiment


@given(documents())
def test_values_laid_and_placed_again_are_the_same(document):
    assert placed(laid(values(document))) == values(document)


def test_a_flag_that_is_not_named_is_on():
    off, on, silent = (Document(toggles=Toggles(flags=it)) for it in ({"f": False}, {"f": True}, {}))
    assert difference(on, silent) == {}
    assert told(difference(off, silent)) == {"flags.f": {"before": False, "after": True}}


def rules(*regions):
    return tuple(Rule(Scope(region=(it,)), {"disable_cf": True}) for it in regions)


def test_of_rules_only_those_that_differ_are_told_and_of_many_their_number():
    def diff(before, after):
        return told(
            difference(Document(toggles=Toggles(rules=before)), Document(toggles=Toggles(rules=after)))
        )["rules"]

    one = diff(rules("a", "b", "c"), rules("a", "x", "y", "c"))
    assert [it["scope"]["region"] for it in one["before"]] == [["b"]]
    assert [it["scope"]["region"] for it in one["after"]] == [["x"], ["y"]]
    assert diff(rules("a"), rules("a", "a2"))["before"] == []
    assert diff((), rules(*map(str, range(500)))) == {"before": 0, "after": 500}


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_that_was_set_is_found_by_its_name(name):
    document, faults = changed(Document(toggles=DEFAULTS), baseline_values(name), WORLD)
    assert faults == []
    assert baseline_of(document.toggles) == name


def test_a_baseline_holds_whatever_else_is_set_beside_it_but_normal_is_only_normal():
    more = Toggles(
        exposure_percent=50,
        policy_mode="content_only",
        disable_cf=True,
        candidate_fallback_level="C",
        cache_mode="warm_only",
    )
    assert baseline_of(more) == "degraded"
    assert baseline_of(Toggles(exposure_percent=99)) is None
    assert baseline_of(Toggles(rules=rules("eu"))) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"metadata": {}, "flags": {}, "toggles": {}}',
        written(Document(toggles=DEFAULTS), {}).replace(b'"cold"', b'"cool"'),
        written(Document(toggles=DEFAULTS, experiment=Experiment(name="x")), {}).replace(
            b"bucket_gate", b"bucket"
        ),
    ],
)
def test_what_is_no_document_is_told(content):
    with pytest.raises(Damaged):
        read(content)


def test_the_frozen_experiment_stands_beside_the_document():
    document = Document(
        toggles=Toggles(experiment_freeze=True), experiment=Experiment(name="x", arms=HYBRID_V1)
    )
    raw = orjson.loads(written(document, {}))
    assert raw["experiment"]["arms"][0] == {"name": "control", "percent": 20, "policy_mode": "content_only"}
