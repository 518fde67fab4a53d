"""The drill's criteria: what passes, and what each of them is failed by."""

from copy import deepcopy

import pytest

from proxy.core.drill import MODES, Answered, Tally, across, during

NORMAL, CONTENT, CF, POPULAR, AGAIN = MODES
K = 4


def answer(source="cf", *, arm="none", bucket=17, k=K):
    items = [
        {"id": f"f{n}", "rank": n, "title": f"F {n}", "year": 1990 + n, "genres": ["drama"], "score": 1 / n,
         "source": source}
        for n in range(1, k + 1)
    ]  # fmt: skip
    metadata = {"arm": arm, "bucket": bucket, "policy": "collab_only", "level": "A"}
    return {"items": items, "metadata": metadata}


def tally(*answers, mode=NORMAL):
    """Of (user, document) or ready ones."""
    made = Tally(mode, K)
    for one in answers:
        made.add(one if isinstance(one, Answered) else Answered(one[0], 200, one[1]))
    return made


def judged(criteria):
    return {it.name: (it.holds, it.seen) for it in criteria}


def test_every_mode_asks_for_something_that_can_be_overridden_and_does_not_kill():
    assert [mode.name for mode in MODES] == [
        "normal", "content only", "collaborative only", "emergency popularity", "normal again",
    ]  # fmt: skip
    assert not any("kill_switch" in mode.toggles for mode in MODES)
    assert NORMAL.toggles == AGAIN.toggles


def test_whole_answers_of_the_mode_pass():
    made = tally(("u", answer()), ("u", answer()), ("v", answer(bucket=3)), mode=CF)
    assert judged(made.criteria()) == {
        "fill": (True, "100 % of the slots"),
        "UI fields": (True, "100 % of the answers whole"),
        "assignment": (True, "0 % of 2 users inconsistent"),
        "made by": (True, "cf 100 %"),
    }
    report = made.report()
    assert (report.asked, report.answered, report.items) == (3, 3, {"cf": 12})
    assert (report.policies, report.levels, report.faults) == ({"collab_only": 3}, {"A": 3}, ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", ""), ("title", None), ("title", 7), ("year", "1999"), ("year", True), ("genres", "drama"),
        ("genres", [1]), ("score", None), ("score", float("nan")), ("score", "1"), ("rank", 2), ("id", 7),
        ("id", "f2"),
    ],
)  # fmt: skip
def test_a_ui_field_that_is_none_fails_and_is_named(field, value):
    """Of the first item; rank 2 and id f2 are those of the second."""
    document = answer()
    document["items"][0][field] = value
    made = tally(("u", document), ("v", answer()))
    assert judged(made.criteria())["UI fields"] == (False, "50 % of the answers whole")
    assert made.report().faults


@pytest.mark.parametrize("field", ["id", "rank", "title", "year", "genres", "score"])
def test_a_ui_field_that_is_missing_fails(field):
    document = answer()
    del document["items"][2][field]
    made = tally(("u", document))
    assert not judged(made.criteria())["UI fields"][0]
    assert f"a {field} is missing or none (1 times)" in made.report().faults


def test_too_few_items_and_the_same_item_twice_are_slots_left_open():
    twice = answer()
    twice["items"][1]["id"] = "f1"
    assert judged(tally(("u", answer(k=2))).criteria())["fill"] == (False, "50 % of the slots")
    assert judged(tally(("u", twice)).criteria())["fill"] == (False, "75 % of the slots")


@pytest.mark.parametrize("document", [None, [], {}, {"items": 3}, {"items": [3], "metadata": []}])
def test_what_is_no_answer_at_all_fails_without_an_accident(document):
    found = judged(tally(("u", document)).criteria())
    assert not found["fill"][0]
    assert not found["UI fields"][0]


def test_a_user_who_is_moved_fails():
    made = tally(("u", answer(arm="a")), ("u", answer(arm="b")), ("v", answer()))
    assert judged(made.criteria())["assignment"] == (False, "50 % of 2 users inconsistent")
    moved = tally(("u", answer(bucket=1)), ("u", answer(bucket=2)))
    assert not judged(moved.criteria())["assignment"][0]


@pytest.mark.parametrize(
    ("mode", "source", "holds"),
    [(CF, "cf", True), (CF, "content", False), (CF, "popularity", False), (CONTENT, "content", True),
     (CONTENT, "hybrid", False), (POPULAR, "popularity", True), (POPULAR, "cf", False)],
)  # fmt: skip
def test_a_full_answer_of_another_source_does_not_pass(mode, source, holds):
    """A broken source is rescued by popularity: full, and yet not what the mode is for."""
    assert judged(tally(("u", answer(source)), mode=mode).criteria())["made by"][0] is holds


def test_the_promised_coverage_is_enough():
    documents = [answer() for _ in range(10)]
    for at in range(2):
        documents[at]["items"][0]["source"] = "popularity"
    made = tally(*((f"u{at}", it) for at, it in enumerate(documents)), mode=CF)
    assert judged(made.criteria())["made by"] == (True, "cf 95 %, popularity 5 %")
    documents[2]["items"][0]["source"] = "popularity"
    made = tally(*((f"u{at}", it) for at, it in enumerate(documents)), mode=CF)
    assert not judged(made.criteria())["made by"][0]


class TestAcross:
    def modes(self, **changed):
        """One answer of one user in each mode; `changed` replaces some by the mode's place."""
        documents = {f"m{at}": answer(arm="none" if mode.made_by else "a") for at, mode in enumerate(MODES)}
        documents |= changed
        return [
            tally(("u", documents[f"m{at}"]) if documents[f"m{at}"] else Answered("u", 503), mode=mode)
            for at, mode in enumerate(MODES)
        ]

    def test_nobody_moved_and_everything_answered_passes(self):
        assert judged(across(self.modes())) == {
            "same bucket in every mode": (True, "0 % of 1 users inconsistent"),
            "same arm before and after": (True, "0 % of 1 users inconsistent"),
            "requests answered": (True, "5 of 5"),
            "request volume": (True, "varies by 0 % between modes"),
        }

    def test_another_bucket_in_another_mode_fails(self):
        found = judged(across(self.modes(m2=answer(bucket=9))))
        assert not found["same bucket in every mode"][0]
        assert found["same arm before and after"][0]

    def test_another_arm_after_all_is_over_fails(self):
        found = judged(across(self.modes(m4=answer(arm="b"))))
        assert not found["same arm before and after"][0]

    def test_a_request_without_answer_fails(self):
        found = judged(across(self.modes(m3=None)))
        assert found["requests answered"] == (False, "4 of 5")
        assert found["request volume"] == (False, "varies by 100 % between modes")

    def test_volume_may_vary_by_less_than_a_fifth(self):
        full = [tally(*[("u", answer())] * 10, mode=mode) for mode in MODES[:4]]
        less = [Answered("u", 0, fault="no answer")]
        for missing, holds in ((1, True), (2, False)):
            last = tally(*[("u", answer())] * (10 - missing), *less * missing, mode=AGAIN)
            assert judged(across([*full, last]))["request volume"][0] is holds

    def test_nothing_asked_proves_nothing(self):
        assert not any(it.holds for it in across([]))
        assert not any(it.holds for it in Tally(CF, K).criteria() if it.name != "made by")


def test_what_failed_is_told_by_the_most_frequent():
    made = tally(*[Answered("u", 503)] * 3, Answered("u", 0, fault="no answer within 5 s"))
    assert made.report().faults == ("answered 503 (3 times)", "no answer within 5 s (1 times)")
    assert deepcopy(made.report()) == made.report()


def test_while_a_rollback_goes_on_nobody_is_moved_or_left_without():
    """Arms may change under a stage; buckets, fill and volume may not."""
    before = tally(("u", answer(arm="a")), ("v", answer(arm="b", bucket=3)), mode=NORMAL)
    staged = tally(("u", answer(arm="none")), mode=CF)
    assert all(it.holds for it in during([before, staged]))
    moved = tally(("u", answer(bucket=4)), mode=CF)
    assert [it.name for it in during([before, moved]) if not it.holds] == ["same bucket"]
    short = tally(("u", answer(k=3)), mode=CF)
    failed = {it.name: it.seen for it in during([before, short]) if not it.holds}
    assert failed == {
        "fill": "75 % of the slots in collaborative only",
        "UI fields": "0 % of the answers whole in collaborative only",
    }
    lost = tally(("u", answer()), Answered("v", 503), mode=CF)
    failed = {it.name: it.seen for it in during([before, lost]) if not it.holds}
    assert failed["request volume"] == "varies by 50 % between states"
    assert failed["requests answered"] == "3 of 4"
    assert not any(it.holds for it in during([]))
