"""The recommend route under toggles: whom it asks, what its answers and counters say."""

import logging
from dataclasses import replace
from itertools import product

import orjson
import pytest
from harness import Wire, answering, reply, turn
from recommending import FILMS, GET, film, hanging, many, offering, stage

from proxy.core.experiment import Experiment
from proxy.core.policy import Sources, Toggles
from proxy.core.routing import SALT, bucket
from proxy.core.toggles import Rule, Scope

CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))
CONTROL = offering(*many("ctl", 20))
HYBRID = Experiment(name="hybrid_v1")
BROKEN = answering(reply(b"{}", status=b"500 Oops"))
LABELS = ("arm", "exposed", "policy", "alpha", "level")


def said(got):
    """What the answer says of its decision."""
    return tuple(got.metadata[name] for name in LABELS)


def asked(rig):
    return len(rig.cf.requests), len(rig.content.requests)


@pytest.mark.parametrize(
    ("toggles", "labels", "calls", "source"),
    [
        ({}, ("none", True, "hybrid_default", 0.6, "A"), (1, 1), "cf"),
        ({"policy_mode": "content_only"}, ("none", True, "content_only", 0.0, "A"), (0, 1), "content"),
        ({"policy_mode": "collab_only"}, ("none", True, "collab_only", 1.0, "A"), (1, 0), "cf"),
        ({"disable_cf": True}, ("none", True, "content_only", 0.0, "A"), (0, 1), "content"),
        ({"disable_content": True}, ("none", True, "collab_only", 1.0, "A"), (1, 0), "cf"),
        ({"alpha_override": 0.25}, ("none", True, "hybrid_default", 0.25, "A"), (1, 1), "content"),
        ({"policy_mode": "bucket_gate"}, ("none", True, "bucket_gate", 0.6, "A"), (1, 1), "cf"),
        ({"candidate_fallback_level": "B"}, ("none", True, "content_only", 0.0, "B"), (0, 1), "content"),
        ({"candidate_fallback_level": "C"}, ("none", True, "content_only", 0.0, "C"), (0, 1), "content"),
    ],
)
async def test_toggles_say_whom_to_ask(toggles, labels, calls, source):
    async with stage(CF, CONTENT, toggles=Toggles(version=3, **toggles)) as rig:
        got = await rig.recommend(4)
        assert said(got) == labels
        assert asked(rig) == calls
        assert (got.sources[0], got.degraded, got.metadata["toggles_version"]) == (source, False, 3)
        assert rig.slots == (4, 4)
        assert rig.counters.levels == {labels[-1]: 1}


@pytest.mark.parametrize(
    "toggles", [{"candidate_fallback_level": "D"}, {"disable_cf": True, "disable_content": True}]
)
async def test_popularity_by_decision_asks_nobody_and_is_not_judged(toggles):
    """Facts 2.18."""
    async with stage(CF, CONTENT, toggles=Toggles(**toggles)) as rig:
        got = await rig.recommend(4)
        assert said(got) == ("none", True, "popularity", 0.0, "D")
        assert got.ids == [film.id for film in FILMS[:4]]
        assert rig.cf.wires == rig.content.wires == []
        assert (rig.slots, rig.counters.levels) == ((0, 0), {"D": 1})


class TestExposure:
    async def test_control_is_asked_for_who_is_not_exposed(self):
        async with stage(CF, CONTENT, control=CONTROL, toggles=Toggles(exposure_percent=0)) as rig:
            got = await rig.recommend(4)
            assert said(got) == ("control", False, "control", 0.0, "A")
            assert got.sources == ["control"] * 4
            assert (asked(rig), len(rig.control.requests)) == ((0, 0), 1)
            assert rig.control.requests[0].target == b"/candidates?user_id=7&k=4"
            assert set(got.timings) == {"total", "control"}
            assert rig.slots == (0, 0)
            assert rig.counters.cell("films", "control").status[2] == 1
            assert sum(rig.counters.cell("films", "none").status) == 0

    @pytest.mark.parametrize("script", [BROKEN, hanging, None], ids=["broken", "late", "none"])
    async def test_without_it_popularity_answers(self, script):
        sources = {"control": {"timeout_ms": 50}}
        async with stage(
            CF, CONTENT, control=script, sources=sources, toggles=Toggles(exposure_percent=0)
        ) as rig:
            got = await rig.recommend(4)
            assert said(got) == ("control", False, "control", 0.0, "D")
            assert got.sources == ["popularity"] * 4
            assert rig.slots == (0, 0)

    async def test_everybody_is_served_and_the_same_users_the_same_way(self):
        """A share is exposed, nobody is refused, and asking again changes nothing (facts 2.8, 2.12)."""
        async with stage(CF, CONTENT, toggles=Toggles(exposure_percent=40)) as rig:
            wire = await rig.client()
            seen = []
            for user in [*range(60), *range(60)]:
                wire.send(b"GET /recommendations?user_id=%d&k=2 HTTP/1.1\r\nHost: x\r\n\r\n" % user)
                answer = await wire.response()
                assert answer.status == 200
                document = orjson.loads(answer.body)
                seen.append(document["metadata"]["exposed"])
                assert document["metadata"]["exposed"] == (bucket(b"%d" % user, SALT) < 4000)
            assert seen[:60] == seen[60:]
            assert rig.counters.cell("films", "none").status[2] == 2 * sum(seen[:60])
            assert rig.counters.cell("films", "control").status[2] == 120 - 2 * sum(seen[:60])
            assert 0 < sum(seen[:60]) < 60

    async def test_a_bad_query_is_refused_under_the_arm(self):
        async with stage(CF, CONTENT, toggles=Toggles(exposure_percent=0)) as rig:
            answer = await rig.ask(b"GET /recommendations?k=0&user_id=7 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer.status == 400
            assert b";arm=control;" in answer.get("x-fusebox-decision")
            assert rig.counters.cell("films", "control").status[4] == 1

    async def test_requests_without_a_user_are_counted(self):
        async with stage(CF, CONTENT, toggles=Toggles(exposure_percent=50)) as rig:
            await rig.recommend(2)
            assert rig.counters.unsticky == 0
            exposed = set()
            for n in range(20):
                answer = await rig.ask(
                    b"GET /recommendations?k=2 HTTP/1.1\r\nHost: x\r\nX-Request-Id: r%d\r\n\r\n" % n
                )
                metadata = orjson.loads(answer.body)["metadata"]
                assert metadata["exposed"] == (bucket(b"r%d" % n, SALT) < 5000)
                exposed.add(metadata["exposed"])
            assert (rig.counters.unsticky, exposed) == (20, {True, False})


class TestArms:
    async def test_each_arm_is_served_and_counted(self):
        async with stage(CF, CONTENT, experiment=HYBRID) as rig:
            wire = await rig.client()
            served = {}
            for user in range(40):
                wire.send(
                    b"GET /recommendations?user_id=%d&k=2 HTTP/1.1\r\nHost: x\r\nX-Cohort: heavy\r\n\r\n"
                    % user
                )
                answer = await wire.response()
                metadata = orjson.loads(answer.body)["metadata"]
                served.setdefault(metadata["arm"], []).append((metadata["policy"], metadata["alpha"]))
                assert b";arm=%b;" % metadata["arm"].encode() in answer.get("x-fusebox-decision")
            assert {arm: set(said) for arm, said in served.items()} == {
                "control": {("content_only", 0.0)},
                "treatment_a": {("bucket_gate", 0.8)},
                "treatment_b": {("collab_only", 1.0)},
            }
            for arm, said in served.items():
                assert rig.counters.cell("films", arm).status[2] == len(said)

    async def test_without_a_user_the_request_draws(self):
        async with stage(CF, CONTENT, experiment=HYBRID) as rig:
            arms = set()
            for n in range(30):
                answer = await rig.ask(
                    b"GET /recommendations?k=2 HTTP/1.1\r\nHost: x\r\nX-Request-Id: r%d\r\n\r\n" % n
                )
                arms.add(orjson.loads(answer.body)["metadata"]["arm"])
            assert arms == {"control", "treatment_a", "treatment_b"}


class TestScopes:
    RULES = (
        Rule(scope=Scope(region=("eu",), client=("tv", "web")), toggles={"candidate_fallback_level": "D"}),
        Rule(scope=Scope(cohort=("cold",)), toggles={"policy_mode": "content_only"}),
    )

    @pytest.mark.parametrize(
        ("fields", "policy"),
        [
            (b"X-Region: eu\r\nX-Client: web\r\nX-Cohort: cold\r\n", "popularity"),
            (b"X-Region: eu\r\nX-Client: phone\r\n", "hybrid_default"),
            (b"X-Region: us\r\nX-Client: tv\r\nX-Cohort: cold\r\n", "content_only"),
            (b"", "hybrid_default"),
        ],
    )
    async def test_the_first_rule_that_fits_counts(self, fields, policy):
        async with stage(CF, CONTENT, toggles=Toggles(rules=self.RULES)) as rig:
            assert (await rig.recommend(2, b"", fields)).metadata["policy"] == policy

    async def test_a_kill_ignores_them_and_asks_for_nothing_that_decides(self):
        toggles = Toggles(rules=self.RULES, region_scope=("mars",), kill_switch=True, exposure_percent=0)
        async with stage(CF, CONTENT, control=CONTROL, toggles=toggles) as rig:
            got = await rig.recommend(2)
            assert said(got) == ("none", True, "kill_switch", 0.0, "D")
            assert rig.cf.wires == rig.content.wires == rig.control.wires == []
            await rig.ask(b"GET /recommendations?k=2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert rig.counters.unsticky == 0

    async def test_the_access_log_says_why(self, caplog):
        caplog.set_level(logging.INFO, "fusebox.access")
        async with stage(CF, CONTENT, toggles=Toggles(rules=self.RULES), access_log_sample=1.0) as rig:
            await rig.recommend(2, b"", b"X-Cohort: cold\r\n")
            await rig.recommend(2)
            rig.plane.apply(replace(rig.policy, toggles=Toggles(version=2, kill_switch=True)))
            await rig.recommend(2)
        lines = [record for record in caplog.records if record.name == "fusebox.access"]
        assert [(it.arm, it.policy, it.decided_by) for it in lines] == [
            ("none", "content_only", "policy_mode"),
            ("none", "hybrid_default", "default"),
            ("none", "kill_switch", "kill_switch"),
        ]
        assert [getattr(it, "rule", None) for it in lines] == ["rules[1]", None, None]


async def test_a_change_is_effective_with_the_next_request_and_what_runs_ends_as_it_began():
    release = []

    async def slow(wire: Wire) -> None:
        await wire.request()
        while not release:
            await turn()
        wire.send(reply(orjson.dumps({"items": [film("a", 1), film("b", 0)]})))

    async with stage(slow, slow) as rig:
        wire = await rig.client()
        wire.send(GET % (2, b"", b""))
        await rig.cf.until_requests(1)
        rig.plane.apply(replace(rig.policy, toggles=Toggles(version=8, candidate_fallback_level="D")))
        got = await rig.recommend(2)
        assert (got.metadata["policy"], got.metadata["toggles_version"]) == ("popularity", 8)
        release.append(True)
        document = orjson.loads((await wire.response()).body)["metadata"]
        assert (document["policy"], document["level"], document["toggles_version"]) == (
            "hybrid_default",
            "A",
            1,
        )
        assert rig.slots == (2, 2)


async def test_fewer_than_k_only_where_the_catalogue_has_fewer():
    async with stage(CF, CONTENT, route={"sources": Sources(cf="cf", content="content")}) as rig:
        for level, percent in product("AD", (0, 100)):
            toggles = Toggles(candidate_fallback_level=level, exposure_percent=percent, disable_cf=True)
            rig.plane.apply(replace(rig.policy, toggles=toggles, popularity=FILMS[:3]))
            answer = await rig.ask(GET % (5, b"", b""))
            found = [item["id"] for item in orjson.loads(answer.body)["items"]]
            assert len(found) == len(set(found)) == (5 if level == "A" and percent else 3)
