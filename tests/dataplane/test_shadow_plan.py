"""Shadows of recommend routes: a second plan, or another recommender, compared with what users got."""

from dataclasses import replace

import orjson
import pytest
from harness import answering, reply, until
from recommending import GET, at_path, film, hanging, many, offering, offers, stage
from shadowing import results

from proxy.core.cache import CacheSettings
from proxy.core.experiment import Experiment
from proxy.core.policy import Shadow
from proxy.core.toggles import Rule, Scope, Toggles

CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))
OTHERS = offering(*many("new", 20))
BROKEN = answering(reply(b"{}", status=b"500 Oops"))


def plan(percent=100.0, **more):
    """Settings of a route with a shadow."""
    return {"shadow": Shadow(percent=percent, **more)}


async def until_results(rig, count):
    await until(lambda: sum(results(rig.counters, "films").values()) >= count, f"{count} results")
    return results(rig.counters, "films")


class TestSecondPlan:
    async def test_is_fetched_blended_and_composed_as_a_real_one(self):
        """Real: cf and content by 0.6; the plan: cf alone. Both have the best of cf."""
        async with stage(CF, CONTENT, route=plan(toggles={"policy_mode": "collab_only"})) as rig:
            got = await rig.recommend(20)
            assert got.metadata["policy"] == "hybrid_default"
            assert await until_results(rig, 1) == {"other_items": 1}
            real, copy = rig.cf.requests
            assert (real.get("x-fusebox-shadow"), copy.get("x-fusebox-shadow")) == (None, b"1")
            assert real.target == copy.target
            assert real.get("x-request-id") == copy.get("x-request-id")
            assert len(rig.content.requests) == 1
            alone = [f"cf{n}" for n in range(20)]
            shared = len(set(alone) & set(got.ids))
            cell = rig.counters.shadow("films")
            assert cell.overlap_sum == shared / 20
            assert 0 < shared < 20

    async def test_counts_for_nobody(self):
        """Slots, levels, arms, calls, breakers: all as if there had been one request."""
        async with stage(BROKEN, CONTENT, route=plan(toggles={"policy_mode": "collab_only"}),
                         toggles=Toggles(policy_mode="content_only")) as rig:  # fmt: skip
            got = await rig.recommend(4)
            assert await until_results(rig, 1) == {"other_items": 1}  # popularity stood in for cf there
            assert got.sources == ["content"] * 4
            assert (rig.slots, rig.counters.levels) == ((4, 4), {"A": 1})
            assert sum(rig.counters.cell("films", "none").status) == 1
            assert rig.outcomes("cf") == {}
            assert rig.outcomes("content") == {"success": 1}
            assert (rig.failures("cf"), rig.transitions) == ((0, 0), [])
            apart = rig.counters.aside("mirror")
            assert (apart.slots_asked, apart.slots_covered, apart.levels) == (4, 0, {"D": 1})
            assert apart.upstream("cf").outcomes["error"] == 1
            assert sum(apart.cell("films", "none").status) == 1

    async def test_asks_for_neighbours_as_a_real_one(self):
        """Level B of the plan is asked for apart, and that content may be is a difference by itself."""
        near = at_path(b"/neighbours", offers(*many("n", 9)), offers(*many("co", 20)))
        settings = {"content": {"neighbours_path": "/neighbours"}}
        shadow = plan(toggles={"policy_mode": "collab_only"})
        async with stage(offering(*many("cf", 2)), near, route=shadow, sources=settings) as rig:
            assert (await rig.recommend(4)).level == "A"
            assert await until_results(rig, 1) == {"other_items": 1}
            assert rig.counters.aside("mirror").levels == {"B": 1}
            assert rig.outcomes("content") == {"success": 1}
            (copy,) = [it for it in rig.content.requests if it.target.startswith(b"/neighbours")]
            assert copy.get("x-fusebox-shadow") == b"1"
        shadow = plan(toggles={"disable_content": True})
        only_cf = Toggles(policy_mode="collab_only")
        async with stage(CF, near, route=shadow, sources=settings, toggles=only_cf) as rig:
            await rig.recommend(4)
            assert await until_results(rig, 1) == {"same": 1}

    async def test_is_not_made_of_a_request_that_is_set_aside(self):
        """An override, a drill: not even a copy of it may be taken for traffic."""
        async with stage(CF, CONTENT, route=plan(toggles={"policy_mode": "collab_only"})) as rig:
            route = rig.plane._bound["films"]
            fixed = route.choices.fixed
            route.choices.fixed = route.under(replace(fixed.decision, aside="override"), fixed.popular)
            await rig.ask(GET % (4, b"", b""))
            route.choices.fixed = fixed
            await rig.recommend(4)
            assert await until_results(rig, 1) == {"same": 1}
            assert len(rig.cf.requests) == 3

    async def test_stands_over_what_rules_say(self):
        rules = (Rule(scope=Scope(region=("eu",)), toggles={"policy_mode": "content_only"}),)
        async with stage(CF, CONTENT, route=plan(toggles={"policy_mode": "collab_only"}),
                         toggles=Toggles(rules=rules)) as rig:  # fmt: skip
            await rig.recommend(4, fields=b"X-Region: eu\r\n")
            assert await until_results(rig, 1) == {"other_items": 1}
            assert (len(rig.cf.requests), len(rig.content.requests)) == (1, 1)

    async def test_exposes_who_is_not(self):
        async with stage(CF, CONTENT, route=plan(toggles={"exposure_percent": 100}),
                         toggles=Toggles(exposure_percent=0)) as rig:  # fmt: skip
            got = await rig.recommend(4)
            assert got.metadata["exposed"] is False
            assert await until_results(rig, 1) == {"other_items": 1}
            assert (len(rig.cf.requests), len(rig.content.requests)) == (1, 1)
            assert rig.slots == (0, 0)

    async def test_that_is_the_same_asks_nobody(self):
        """By the decision for this user: one arm of three is what the plan says."""
        async with stage(CF, CONTENT, route=plan(toggles={"policy_mode": "collab_only"}, max_inflight=99),
                         experiment=Experiment(name="hybrid_v1")) as rig:  # fmt: skip
            wire = await rig.client()
            arms = []
            for user in range(30):
                wire.send(b"GET /recommendations?user_id=%d&k=2 HTTP/1.1\r\nHost: x\r\n\r\n" % user)
                arms.append(orjson.loads((await wire.response()).body)["metadata"]["arm"])
            found = await until_results(rig, 30)
            assert found["skipped_same_plan"] == arms.count("treatment_b") > 0

    async def test_that_asks_nobody_is_compared(self):
        async with stage(CF, CONTENT, route=plan(toggles={"candidate_fallback_level": "D"})) as rig:
            await rig.recommend(4)
            assert await until_results(rig, 1) == {"other_items": 1}
            assert rig.counters.shadow("films").overlap_sum == 0

    async def test_with_the_same_items_agrees(self):
        """Only content has any, with cf weighed more or less."""
        async with stage(offering(), CONTENT, route=plan(toggles={"alpha_override": 0.1})) as rig:
            await rig.recommend(4)
            assert await until_results(rig, 1) == {"same": 1}

    async def test_that_hangs_is_given_up_and_leaves_nothing(self):
        async with stage(hanging, CONTENT, route=plan(toggles={"policy_mode": "collab_only"}, timeout_ms=40),
                         toggles=Toggles(policy_mode="content_only")) as rig:  # fmt: skip
            await rig.recommend(4)
            assert await until_results(rig, 1) == {"timeout": 1}
            (shadow,) = rig.plane._shadowing._routes.values()
            assert not shadow._running
            assert not any(pool.cell.inflight for pool in rig.plane._shadowing.pools.values())
            await until(lambda: all(wire.eof for wire in rig.cf.wires), "the end of its connection")

    async def test_is_off_when_one_of_its_sources_has_no_headroom(self):
        rules = (Rule(scope=Scope(region=("eu",)), toggles={"policy_mode": "content_only"}),)
        route = plan(toggles={"policy_mode": "collab_only"})
        sources = {"cf": {"max_inflight": 2}}
        async with stage(hanging, CONTENT, sources=sources, route=route, toggles=Toggles(rules=rules)) as rig:
            wire = await rig.client()
            wire.send(GET % (4, b"", b""))
            await rig.cf.until_requests(1)
            await rig.recommend(4, fields=b"X-Region: eu\r\n")
            assert await until_results(rig, 1) == {"skipped_no_headroom": 1}

    async def test_meets_no_cache_and_no_call_of_users(self):
        """Real ones fill the cache and read it; copies ask anew each time, and count no hit."""
        route = plan(toggles={"policy_mode": "collab_only"})
        warm = Toggles(cache_mode="prewarm")
        async with stage(CF, CONTENT, route=route, toggles=warm, cache=CacheSettings()) as rig:
            for n in range(1, 4):
                await rig.recommend(4)
                await until_results(rig, n)
            real = [it for it in rig.cf.requests if not it.get("x-fusebox-shadow")]
            assert (len(real), len(rig.cf.requests)) == (1, 4)
            hits = [counters.cache["hit"] for counters in (rig.counters, rig.counters.aside("mirror"))]
            assert (hits, rig.counters.aside("mirror").cache["bypass"]) == ([4, 0], 3)
            rig.plane.apply(replace(rig.policy, toggles=Toggles(cache_mode="warm_only")))
            await rig.recommend(4)
            assert (await until_results(rig, 4))["skipped_no_headroom"] == 1
            assert len(rig.cf.requests) == 4

    async def test_is_off_while_killed_and_goes_by_a_reload(self):
        route = plan(toggles={"policy_mode": "collab_only"})
        async with stage(CF, CONTENT, route=route, toggles=Toggles(kill_switch=True)) as rig:
            await rig.recommend(4)
            assert await until_results(rig, 1) == {"skipped_killed": 1}
            rig.plane.apply(replace(rig.policy, toggles=Toggles()))
            await rig.recommend(4)
            assert await until_results(rig, 2) == {"skipped_killed": 1, "same": 1}

    async def test_draws_gets_only(self):
        async with stage(CF, CONTENT, route=plan(toggles={"policy_mode": "collab_only"})) as rig:
            await rig.ask(b"HEAD /recommendations?user_id=7 HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD")
            bad = await rig.ask(b"GET /recommendations?user_id=7&k=0 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert bad.status == 400
            await rig.recommend(4)
            assert await until_results(rig, 1) == {"same": 1}
            assert len(rig.cf.requests) == 3


class TestAnotherRecommender:
    @pytest.mark.parametrize(
        ("ids", "result", "overlap"),
        [(["cf0", "cf1", "cf2", "cf3"], "same", 1.0), (["cf0", "x", "y", "z"], "other_items", 0.25)],
    )
    async def test_is_asked_the_same_and_compared_by_items(self, ids, result, overlap):
        """It answers a whole document, or candidates: the order of `items` is what counts."""
        new = answering(reply(orjson.dumps({"items": [film(key, 1.0) for key in ids]})))
        async with stage(CF, CONTENT, control=new, route=plan(upstream="control"),
                         toggles=Toggles(policy_mode="collab_only")) as rig:  # fmt: skip
            await rig.recommend(4, fields=b"Cookie: s=1\r\n")
            assert await until_results(rig, 1) == {result: 1}
            (copy,) = rig.control.requests
            assert copy.target == b"/recommendations?user_id=7&k=4"
            assert copy.get("cookie") is None
            assert rig.counters.shadow("films").overlap_sum == overlap
            assert rig.outcomes("control") == {}
