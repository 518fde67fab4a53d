"""The catalogue, and documents checked against it."""

import dataclasses

import pytest

from proxy.core.toggles import BASELINES, BY_NAME, CATALOGUE, DEFAULTS, NORMAL, STAGES, Rule, Scope, Toggles
from proxy.core.toggles_document import MAX_COMBINATIONS, contradictions, read_document

SEED = [
    "alpha_override", "policy_mode", "disable_cf", "disable_content", "candidate_fallback_level",
    "kill_switch", "exposure_percent", "cache_mode", "experiment_freeze",
    "region_scope", "cohort_scope", "client_scope",
]  # fmt: skip


def faults(document, flags=()):
    """Place → message."""
    return {fault.place: fault.message for fault in read_document(document, flags)[1]}


def toggle_faults(**toggles):
    return {place[1:]: message for place, message in faults({"toggles": toggles}).items()}


class TestCatalogue:
    def test_it_has_the_twelve_in_their_order(self):
        assert [toggle.name for toggle in CATALOGUE] == SEED == list(BY_NAME)

    def test_the_policy_has_a_field_for_each(self):
        fields = {field.name for field in dataclasses.fields(Toggles)}
        assert fields == {*SEED, "version", "rules", "flags"}

    def test_every_default_is_as_it_may_be_and_changes_nothing(self):
        document = {"toggles": {toggle.name: toggle.default for toggle in CATALOGUE}}
        assert read_document(document, ()) == (DEFAULTS, [])

    def test_what_a_toggle_depends_on_outranks_it(self):
        for toggle in CATALOGUE:
            assert all(BY_NAME[name].priority < toggle.priority for name in toggle.depends), toggle.name

    def test_all_says_something(self):
        for toggle in CATALOGUE:
            assert all((toggle.does, toggle.safety, toggle.before, toggle.after)), toggle.name

    @pytest.mark.parametrize("name", BASELINES)
    def test_every_baseline_is_in_order_over_the_defaults(self, name):
        assert not faults({"toggles": dict(BASELINES[name])})

    def test_stages_are_in_order_as_they_add_up(self):
        together = {}
        for sets in STAGES.values():
            together |= sets
            assert not faults({"toggles": together})
        assert together["cache_mode"] == "prewarm"

    def test_normal_is_every_default(self):
        assert read_document({"toggles": dict(BASELINES[NORMAL])}, ()) == (DEFAULTS, [])
        assert set(BASELINES[NORMAL]) == set(SEED)


class TestValues:
    @pytest.mark.parametrize(
        ("name", "good", "bad"),
        [
            ("alpha_override", [None, 0, 1, 0.5], [-0.1, 1.1, "0.5", True, []]),
            ("policy_mode", [None, "bucket_gate", "content_only", "collab_only", "hybrid_default"],
             ["hybrid", 1, ["content_only"], {}]),
            ("disable_cf", [True, False], [None, 0, "true"]),
            ("disable_content", [True, False], [None, 1, "false"]),
            ("candidate_fallback_level", ["A", "B", "C", "D"], ["a", "E", None, 1]),
            ("kill_switch", [True, False], [None, 1]),
            ("exposure_percent", [0, 100, 0.01, 33.33, 99.99], [-1, 100.01, None, "50", True, 0.001, 33.333]),
            ("cache_mode", ["cold", "prewarm", "warm_only"], ["warm", None]),
            ("experiment_freeze", [True, False], [None, "no"]),
            ("region_scope", [[], ["eu"], ["eu", "EU"]],
             ["eu", None, [1], [""], ["a" * 257], ["a\n"], ["a", "a"]]),
            ("cohort_scope", [[], ["cold", "heavy"]], [["vip"], "cold"]),
            ("client_scope", [[], ["tv"], ["a" * 256]], [{}, ["\x7f"], ["x"] * 1001]),
        ],
    )  # fmt: skip
    def test_what_may_be_and_what_not(self, name, good, bad):
        for value in good:
            toggles, found = read_document({"toggles": {name: value}}, ())
            assert not found, value
            held = getattr(toggles, name)
            assert (list(held) if isinstance(value, list) else held) == value
        for value in bad:
            (place,) = toggle_faults(**{name: value})
            assert place[0] == name, value

    def test_every_hundredth_of_a_percent_can_be_said(self):
        assert not [n for n in range(10_001) if toggle_faults(exposure_percent=n / 100)]

    def test_every_reason_at_once(self):
        document = {
            "metadata": {"version": 0, "who": ""},
            "toggles": {
                "alpha_override": 2, "policy_mode": "collab_only", "disable_cf": True,
                "disable_content": True, "exposure_percnt": 5, "cohort_scope": ["cold", "vip"],
            },
            "rules": [3, {"scope": {"planet": []}, "toggles": {"kill_switch": True}, "x": 1}],
            "flags": {"f": "on"},
            "more": 1,
        }  # fmt: skip
        assert set(faults(document)) == {
            ("metadata", "version"), ("metadata", "who"), ("toggles", "alpha_override"),
            ("toggles", "policy_mode"), ("toggles", "candidate_fallback_level"),
            ("toggles", "exposure_percnt"),
            ("toggles", "cohort_scope", 1), ("rules", 0), ("rules", 1, "scope", "planet"),
            ("rules", 1, "toggles", "kill_switch"), ("rules", 1, "x"), ("flags", "f"), ("more",),
        }  # fmt: skip


class TestContradictions:
    @pytest.mark.parametrize(
        ("toggles", "places"),
        [
            ({"disable_cf": True, "policy_mode": "collab_only"}, ["policy_mode"]),
            ({"disable_content": True, "policy_mode": "content_only"}, ["policy_mode"]),
            ({"disable_cf": True, "disable_content": True}, ["candidate_fallback_level"]),
            ({"disable_cf": True, "disable_content": True, "candidate_fallback_level": "C"},
             ["candidate_fallback_level"]),
            ({"disable_cf": True, "disable_content": True, "candidate_fallback_level": "D"}, []),
            ({"disable_cf": True, "policy_mode": "content_only"}, []),
            ({"disable_cf": True, "policy_mode": "bucket_gate", "alpha_override": 0.3}, []),
        ],
    )  # fmt: skip
    def test_in_a_document(self, toggles, places):
        assert [place[0] for place in toggle_faults(**toggles)] == places
        assert [name for name, _ in contradictions(Toggles(**toggles))] == places

    def test_a_rule_against_the_document_around_it(self):
        rule = {"scope": {"region": ["eu"]}, "toggles": {"policy_mode": "collab_only"}}
        assert faults({"toggles": {"disable_cf": True}, "rules": [rule]}) == {
            ("rules", 0, "toggles"): "policy_mode collab_only asks cf alone, and disable_cf forbids that"
        }
        rule["toggles"]["disable_cf"] = False
        assert not faults({"toggles": {"disable_cf": True}, "rules": [rule]})

    def test_a_rule_over_the_defaults_outside_the_scope(self):
        """Inside the scope level D makes it right; outside nothing does."""
        rule = {"scope": {"client": ["tv"]}, "toggles": {"disable_cf": True, "disable_content": True}}
        document = {"toggles": {"candidate_fallback_level": "D"}, "rules": [rule]}
        assert not faults(document)
        document["toggles"]["region_scope"] = ["eu"]
        assert list(faults(document)) == [("rules", 0, "toggles")]

    def test_what_the_document_says_already_is_not_told_for_each_rule(self):
        rules = [{"scope": {"region": [f"r{n}"]}, "toggles": {"cache_mode": "cold"}} for n in range(9)]
        toggles = {"disable_cf": True, "disable_content": True}
        assert list(faults({"toggles": toggles, "rules": rules})) == [("toggles", "candidate_fallback_level")]


RULE = {"scope": {"region": ["b", "a"], "cohort": ["cold"]}, "toggles": {"disable_cf": True}}


class TestRules:
    def test_they_are_read(self):
        toggles, found = read_document({"rules": [RULE]}, ())
        assert not found
        assert toggles.rules == (
            Rule(scope=Scope(region=("a", "b"), cohort=("cold",)), toggles={"disable_cf": True}),
        )

    @pytest.mark.parametrize(
        "name", ["kill_switch", "experiment_freeze", "region_scope", "cohort_scope", "client_scope"]
    )
    def test_what_is_for_everybody_cannot_stand_in_one(self, name):
        rule = {"scope": {}, "toggles": {name: BY_NAME[name].default, "disable_cf": True}}
        assert list(faults({"rules": [rule]})) == [("rules", 0, "toggles", name)]

    def test_one_that_never_counts_is_told(self):
        again = {"scope": {"region": ["a", "b"], "cohort": ["cold"]}, "toggles": {"disable_content": True}}
        assert faults({"rules": [RULE, again]}) == {
            ("rules", 1, "scope"): "never counts: rules[0] comes first"
        }
        everybody = {"toggles": {"disable_content": True}}
        assert list(faults({"rules": [everybody, RULE]})) == [("rules", 1, "scope")]
        assert not faults({"rules": [RULE, everybody]})

    def test_scopes_that_name_too_much_are_refused(self):
        wide = {"region": [f"r{n}" for n in range(500)], "client": [f"c{n}" for n in range(500)]}
        message = faults({"rules": [{"scope": wide, "toggles": {"disable_cf": True}}]})["rules",]
        assert "250000 combinations" in message
        assert str(MAX_COMBINATIONS) in message

    def test_so_are_too_many(self):
        assert "10001" in faults({"rules": [RULE] * 10_001})["rules",]


@pytest.mark.parametrize("document", [None, [], 1, "x"])
def test_no_object_is_no_document(document):
    assert list(faults(document)) == [()]


def test_a_flag_that_no_route_has_is_told():
    assert faults({"flags": {"a": True, "b": False}}, {"a"}) == {("flags", "b"): "no route has this flag"}
