"""The popularity list and the toggles document."""

import json
from pathlib import Path

import pytest

from proxy.core.experiment import HYBRID_V1
from proxy.core.toggles import Rule, Scope
from proxy.settings import load


def problems_of_toggles(folder, document):
    folder.toggles = document
    return folder.problems()


def test_kill_switch_flags_and_version_are_read(folder):
    folder.toggles = {
        "metadata": {
            "version": 7,
            "environment": "test",
            "updated_by": "me",
            "updated_at": "now",
            "reason": "why",
        },
        "toggles": {"kill_switch": True},
        "rules": [],
        "flags": {"billing": False},
    }
    toggles = folder.load().toggles
    assert (toggles.version, toggles.kill_switch, toggles.flags) == (7, True, {"billing": False})


@pytest.mark.parametrize(
    ("document", "place", "words"),
    [
        ([], "", "should be an object"),
        ({"toggls": {}}, "toggls", "did you mean 'toggles'?"),
        ({"toggles": {"kill_switch": "true"}}, "toggles.kill_switch", "true or false"),
        ({"toggles": {"kill_swich": True}}, "toggles.kill_swich", "did you mean 'kill_switch'?"),
        ({"toggles": {"alpha_override": 1.5}}, "toggles.alpha_override", "from 0 to 1 or null"),
        ({"toggles": []}, "toggles", "should be an object"),
        ({"rules": [{"scope": {}}]}, "rules[0].toggles", "would do nothing"),
        (
            {"rules": [{"scope": {"cohort": ["hevy"]}, "toggles": {"disable_cf": True}}]},
            "rules[0].scope.cohort[0]",
            "there is no cohort 'hevy'",
        ),
        ({"flags": {"billing": 0}}, "flags.billing", "true or false"),
        ({"flags": {"x": True}}, "flags.x", "no route has this flag"),
        ({"metadata": {"version": True}}, "metadata.version", "whole number"),
        ({"metadata": {"version": 0}}, "metadata.version", "1 or more"),
        ({"metadata": {"reason": 1}}, "metadata.reason", "text"),
        ({"metadata": {"resaon": ""}}, "metadata.resaon", "did you mean 'reason'?"),
    ],
)
def test_faults_in_the_toggles_document(folder, document, place, words):
    found = problems_of_toggles(folder, document)
    assert list(found) == [place]
    assert words in found[place]


def test_every_toggle_and_rule_is_read(folder):
    folder.toggles = {
        "toggles": {
            "exposure_percent": 12.5,
            "policy_mode": "bucket_gate",
            "cohort_scope": ["cold"],
        },
        "rules": [{"scope": {"region": ["eu", "asia"]}, "toggles": {"disable_cf": True}}],
    }
    toggles = folder.load().policy().toggles
    assert (toggles.exposure_percent, toggles.policy_mode, toggles.cohort_scope) == (
        12.5, "bucket_gate", ("cold",),
    )  # fmt: skip
    assert toggles.rules == (Rule(scope=Scope(region=("asia", "eu")), toggles={"disable_cf": True}),)


def test_a_document_full_of_faults_does_not_drown_the_others(folder):
    folder.toggles = {"toggles": {f"x{n}": 1 for n in range(1000)}}
    assert folder.problems()[""] == "980 more problems ()"


class TestExperiment:
    ARM = '[[experiment.arms]]\nname = "%s"\npercent = %s\npolicy_mode = "%s"\n'

    def test_by_its_name_it_is_hybrid_v1(self, folder):
        folder.add('[experiment]\nname = "hybrid_v1"\n')
        experiment = folder.load().policy().experiment
        assert (experiment.name, experiment.arms, experiment.salted) == (
            "hybrid_v1", HYBRID_V1, b"hybrid_v1",
        )  # fmt: skip

    def test_arms_can_be_others(self, folder):
        folder.add('[experiment]\nname = "x"\nsalt = "s"\n')
        folder.add(self.ARM % ("a", 33.33, "collab_only") + self.ARM % ("b", 66.67, "content_only"))
        experiment = folder.load().experiment
        assert [(arm.name, arm.percent, arm.policy_mode) for arm in experiment.arms] == [
            ("a", 33.33, "collab_only"), ("b", 66.67, "content_only"),
        ]  # fmt: skip
        assert experiment.salted == b"s"

    @pytest.mark.parametrize(
        ("text", "place", "words"),
        [
            ('name = "a b"', "experiment.name", "is no name"),
            ('name = "x"\nsalt = "exposure"', "experiment.salt", "is that of exposure"),
            ("arms = []", "experiment.arms", "100 percent"),
            (ARM % ("a", 99, "collab_only"), "experiment.arms", "100 percent"),
            (ARM % ("none", 100, "collab_only"), "experiment.arms[0].name", "of no arm"),
            (ARM % ("a", 60, "collab_only") + ARM % ("a", 40, "content_only"), "experiment.arms[1].name",
             "name of arms[0]"),
            (ARM % ("a", 33.333, "collab_only") + ARM % ("b", 66.667, "content_only"),
             "experiment.arms[0].percent", "finer than 0.01"),
            (ARM % ("a", 100, "collab"), "experiment.arms[0].policy_mode", "'collab_only'"),
        ],
    )  # fmt: skip
    def test_faults(self, folder, text, place, words):
        folder.add(f"[experiment]\n{text}\n")
        found = folder.problems()
        assert place in found
        assert words in found[place]


def test_flags_of_a_route_with_another_fault_are_known(folder):
    folder.swap('flag = "billing"', 'flag = "billing"\ntotal_ms = -1')
    assert list(folder.problems()) == ["routes[1].total_ms"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"id": ""}, "[1].id"),
        ({"id": "a"}, "[1].id"),
        ({"title": ""}, "[1].title"),
        ({"year": "1999"}, "[1].year"),
        ({"genres": "Drama"}, "[1].genres"),
        ({"score": None}, "[1].score"),
    ],
)
def test_a_bad_film_is_told_with_its_index(folder, change, place):
    folder.films[1] |= change
    assert list(folder.problems()) == [place]


def test_a_film_without_a_field_is_told(folder):
    del folder.films[0]["providers"]
    assert folder.problems() == {"[0].providers": "is missing ()"}


def test_films_may_carry_more_than_is_needed(folder):
    folder.films[0]["poster"] = "a.jpg"
    assert len(folder.load().popularity) == 2


@pytest.mark.parametrize("films", [[], {}, "x"])
def test_an_empty_list_cannot_answer_anybody(folder, films):
    folder.films = films
    assert "at least one film" in folder.problems()[""]


def test_a_list_full_of_faults_does_not_drown_the_others(folder):
    folder.films = [{"id": str(index)} for index in range(1000)]
    assert folder.problems()[""] == "4980 more problems ()"


def test_the_shipped_settings_are_in_order():
    settings = load(Path(__file__).parents[2] / "config" / "fusebox.toml", {})
    assert {route.name: route.kind for route in settings.routes} == {
        "recommendations": "recommend",
        "payment": "forward",
        "email": "forward",
        "content": "forward",
    }
    assert [settings.upstreams[name].urls for name in ("cf", "content", "payment", "email")] == [
        (f"http://127.0.0.1:{port}",) for port in (9101, 9102, 9103, 9104)
    ]
    assert len(settings.popularity) > 200, "k_max items whatever the filters exclude"


def test_the_shipped_toggles_name_every_flag():
    config = Path(__file__).parents[2] / "config"
    flags = {route.flag for route in load(config / "fusebox.toml", {}).routes if route.flag}
    assert json.loads((config / "runtime_toggles.json").read_text("utf-8"))["flags"].keys() == flags
