"""Layers on the wire: what a stage of a rollback does to requests, for whom, from when."""

from dataclasses import replace

import orjson
import pytest
from harness import until
from recommending import GET, hanging, many, offering, stage
from shadowing import results
from test_overrides import header
from test_paging import KEY, page
from test_warming import FAST, warm

from proxy.core.cache import WarmList
from proxy.core.experiment import Experiment
from proxy.core.policy import Shadow
from proxy.core.rollback.layers import Patch
from proxy.core.routing import SALT, bucket
from proxy.core.toggles import STAGES, Scope, Toggles

CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))
EU = Scope(region=("eu",))
REGION = b"X-Region: eu\r\n"
BUCKET = bucket(b"7", SALT)


def opened(*layers, cf=CF, **more):
    return stage(cf, CONTENT, **{"signing_key": KEY, "layers": layers} | more)


def lay(rig, *layers):
    rig.plane.apply(replace(rig.plane.policy, layers=layers))


def asked(rig):
    return len(rig.cf.requests), len(rig.content.requests)


async def test_a_stage_holds_from_the_next_request_until_it_is_taken_off():
    async with opened(toggles=Toggles(version=3)) as rig:
        before = await rig.recommend(4)
        assert (before.stage, before.metadata["toggles_version"]) == ("", 3)
        lay(rig, Patch("2", STAGES["2"]))
        under = await rig.recommend(4)
        assert (under.stage, under.metadata["toggles_version"]) == ("2", 3)
        assert under.metadata["policy"] == "content_only"
        assert asked(rig) == (1, 2)
        lay(rig)
        after = await rig.recommend(4)
        assert after.metadata == before.metadata
        assert after.stage == ""


async def test_whoever_no_patch_covers_is_served_as_before():
    async with opened(Patch("2", STAGES["2"], scope=EU)) as rig:
        for fields, calls in ((REGION, (0, 1)), (b"X-Region: us\r\n", (1, 2)), (b"", (2, 3))):
            got = await rig.recommend(4, fields=fields)
            assert asked(rig) == calls
            assert got.stage == ("2" if fields == REGION else "")


async def test_buckets_are_let_out_one_by_one():
    async with opened(Patch("2", STAGES["2"], low=BUCKET)) as rig:
        assert (await rig.recommend(4)).metadata["policy"] == "content_only"
        lay(rig, Patch("2", STAGES["2"], low=BUCKET + 1))
        got = await rig.recommend(4)
        assert (got.metadata["policy"], got.stage) == ("hybrid_default", "")


async def test_an_operator_and_a_stage_that_forbid_everybody_give_a_full_answer():
    async with opened(Patch("2", STAGES["2"]), toggles=Toggles(disable_content=True)) as rig:
        got = await rig.recommend(8)
        assert (got.level, got.sources, asked(rig)) == ("D", ["popularity"] * 8, (0, 0))
        over = await rig.recommend(4, fields=header(policy_mode=None), aside=True)
        assert over.level == "D"  # the contradiction is none of the override's


async def test_a_kill_by_a_stage_is_a_kill():
    async with opened(toggles=Toggles(version=3)) as rig:
        lay(rig, Patch("emergency", STAGES["emergency"]))
        assert rig.plane.killed
        got = await rig.recommend(4, fields=header(candidate_fallback_level="A"))
        assert (got.metadata["policy"], got.sources, asked(rig)) == (
            "kill_switch",
            ["popularity"] * 4,
            (0, 0),
        )
        assert got.stage == "emergency"
        lay(rig)
        assert not rig.plane.killed
        assert (await rig.recommend(4)).metadata["policy"] == "hybrid_default"


async def test_a_scoped_kill_contacts_nobody_for_whom_it_is_for():
    """No source, no copy, no override lifts it, and a page begun before goes on with popularity."""
    shadow = {"shadow": Shadow(percent=100, toggles={"policy_mode": "collab_only"})}
    async with opened(route=shadow) as rig:
        begun = await page(rig, fields=REGION)
        lay(rig, Patch("emergency", STAGES["emergency"], scope=EU))
        calls = asked(rig)
        got = await rig.recommend(4, fields=REGION)
        assert (got.metadata["policy"], got.stage) == ("kill_switch", "emergency")
        explain = REGION + header(candidate_fallback_level="A") + b"X-Fusebox-Explain: 1\r\n"
        over = await rig.recommend(4, fields=explain, aside=True)
        assert over.metadata["policy"] == "kill_switch"
        told = orjson.loads(over.answer.get("x-fusebox-explanation"))
        assert told["steps"] == [{"step": "kill_switch", "said": "on, by emergency: popularity answers"}]
        rest = await page(rig, begun.next, fields=REGION)
        assert rest.sources == {"popularity"}
        assert not set(rest.ids) & set(begun.ids)
        assert asked(rig) == calls
        assert not results(rig.counters, "films")
        assert rig.slots[0] == 4  # of the first page, before
        assert (await rig.recommend(4)).metadata["policy"] == "hybrid_default"


async def test_a_further_page_keeps_its_mode_and_a_stage_tightens_it():
    async with opened() as rig:
        begun = await page(rig)
        lay(rig, Patch("1", STAGES["1"] | {"exposure_percent": 0}))
        same = await page(rig, begun.next)
        assert same.mode == begun.mode
        assert b";stage=1" in same.answer.get("x-fusebox-decision")
        lay(rig, Patch("2", STAGES["2"]))
        tight = await page(rig, same.next)
        assert (tight.mode[1], tight.mode[2], tight.sources) == (True, "content_only", {"content"})
        assert not set(tight.ids) & {*begun.ids, *same.ids}


async def test_an_explanation_says_which_stage_lies_over_the_toggles():
    fields = header(alpha_override=0.5) + b"X-Fusebox-Explain: 1\r\n"

    async def told(rig):
        got = await rig.recommend(4, fields=fields, aside=True)
        found = orjson.loads(got.answer.get("x-fusebox-explanation"))
        return found["decision"], {it["step"]: it["said"] for it in found["steps"]}

    async with opened(Patch("2", STAGES["2"], low=BUCKET)) as rig:
        decision, steps = await told(rig)
        assert (decision["stage"], decision["sources"]) == ("2", ["content"])
        assert (steps["stage"], steps["policy_mode"]) == ("2 lies over them", '"content_only": decided')
        lay(rig, Patch("2", STAGES["2"], low=BUCKET + 1))
        decision, steps = await told(rig)
        assert "stage" not in decision
        assert steps["stage"] == f"let out of it again: bucket {BUCKET} has recovered"


async def test_a_stage_that_warms_the_cache_has_the_warm_list_asked_for(tmp_path):
    path = tmp_path / "warm.json"
    path.write_bytes(b'["user_id=7&k=4"]')
    async with opened(cache=FAST, warm=WarmList(file=str(path), read_at=1.0)) as rig:
        assert rig.counters.warm_left == 0
        lay(rig, Patch("1", {"cache_mode": "prewarm"}))
        assert await warm(rig, 2) == {"asked": 2, "had": 0, "failed": 0}
        assert (await rig.recommend(4)).metadata["cache"] == "hit"


async def test_a_second_plan_lies_over_the_stage():
    """Its toggles over those in force: what the stage disables stays so there too."""
    shadow = {"shadow": Shadow(percent=100, toggles={"alpha_override": 0.9})}
    async with opened(Patch("2", STAGES["2"]), route=shadow) as rig:
        await rig.recommend(4)
        await until(lambda: results(rig.counters, "films"), "the copy")
        assert results(rig.counters, "films") == {"skipped_same_plan": 1}
        assert asked(rig) == (0, 1)


async def test_under_a_stage_that_freezes_nobody_is_noted_as_seen():
    async with opened(experiment=Experiment(name="hybrid_v1")) as rig:
        lay(rig, Patch("3", {"experiment_freeze": True}))
        first = await rig.recommend(4)
        assert first.metadata["arm"] == (await rig.recommend(4)).metadata["arm"] == "control"
        assert b"7" not in rig.plane.remembering
        lay(rig)
        await rig.recommend(4)
        assert b"7" in rig.plane.remembering


@pytest.mark.parametrize("scope", [Scope(), EU])
async def test_a_request_under_way_ends_as_it_began(scope):
    async with opened(cf=hanging, route={"deadline_ms": 60}) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", REGION))
        await until(lambda: rig.cf.requests, "the call")
        lay(rig, Patch("2", STAGES["2"], scope=scope))
        answer = await wire.response()
        assert b"stage" not in answer.get("x-fusebox-decision")
