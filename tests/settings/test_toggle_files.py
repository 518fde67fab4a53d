"""Schema, example, rollback profile and specification say what the catalogue says."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import example as also
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from proxy.core.toggles import BASELINES, CATALOGUE
from proxy.core.toggles_document import read_document
from proxy.settings import load
from proxy.settings.toggle_files import example, main, rendered, schema

PROJECT = Path(__file__).parents[2]
VALID = Draft202012Validator(schema()).is_valid


@pytest.mark.parametrize("path", rendered())
def test_what_is_there_is_what_the_catalogue_makes(path):
    assert (PROJECT / path).read_text(encoding="utf-8") == rendered()[path], "run `make generated`"


def test_the_command_writes_all_of_it(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "docs").mkdir()
    main(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} == set(rendered())


def test_the_schema_is_one():
    Draft202012Validator.check_schema(schema())


def test_the_example_names_every_toggle_and_the_shipped_settings_take_it(tmp_path):
    assert list(example()["toggles"]) == [toggle.name for toggle in CATALOGUE]
    assert VALID(example())
    for name in ("fusebox.toml", "popularity.json"):
        (tmp_path / name).write_bytes((PROJECT / "config" / name).read_bytes())
    (tmp_path / "runtime_toggles.json").write_text(json.dumps(example()))
    assert len(load(tmp_path / "fusebox.toml", {}).toggles.rules) == 1


def test_the_shipped_toggles_and_every_baseline_fit_the_schema():
    assert VALID(json.loads((PROJECT / "config" / "runtime_toggles.json").read_text()))
    assert all(VALID({"toggles": dict(sets)}) for sets in BASELINES.values())


values = st.one_of(
    st.sampled_from([None, True, False, 0, 1, 0.5, 100, 100.5, -1, "A", "D", "E", "cold", "collab_only"]),
    st.sampled_from(["content_only", "bucket_gate", [], ["eu"], ["cold"], ["cold", "cold"], [""], ["a\n"]]),
)
names = st.sampled_from([*(toggle.name for toggle in CATALOGUE), "kill_swich"])
toggles = st.dictionaries(names, values, max_size=5)
scopes = st.dictionaries(st.sampled_from(["region", "cohort", "client", "x"]), values, max_size=2)
rules = st.fixed_dictionaries({}, optional={"scope": scopes, "toggles": toggles, "x": st.just(1)})
metadata = st.dictionaries(st.sampled_from(["version", "reason", "x"]), values.filter(lambda it: it != 1.0))
documents = st.fixed_dictionaries(
    {}, optional={"toggles": toggles, "rules": st.lists(rules, max_size=1), "metadata": metadata}
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
@also({"toggles": {"region_scope": ["a\n"]}})
@also({"toggles": {"disable_cf": True, "disable_content": True}})
@also({"toggles": {"disable_cf": True, "disable_content": True, "candidate_fallback_level": "D"}})
@also({"rules": [{"toggles": {"policy_mode": "collab_only", "disable_cf": True}}]})
def test_the_schema_refuses_what_the_check_refuses(document):
    """Of one rule: what it makes of the document around it only the check can tell."""
    _, faults = read_document(document, ())
    alone = [fault for fault in faults if not (document.get("toggles") and fault.place[:1] == ("rules",))]
    if VALID(document):
        assert not alone
    else:
        assert faults


def test_what_only_the_check_can_tell_fits_the_schema():
    for document in (
        {"toggles": {"exposure_percent": 0.001}},
        {"toggles": {"disable_cf": True}, "rules": [{"toggles": {"policy_mode": "collab_only"}}]},
        {"flags": {"nobody asks for it": True}},
    ):
        assert VALID(document)
        assert read_document(document, ())[1]
