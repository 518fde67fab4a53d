"""The second round over sockets: where slots stay open, content is asked for neighbours (levels B and C)."""

import asyncio
from dataclasses import replace

import pytest
from harness import Wire, answering, reply, until
from recommending import GET, Recommended, at_path, film, hanging, many, offering, offers, stage

from proxy.core.breaker import BreakerSettings
from proxy.core.candidates import Fields
from proxy.core.policy import Sources, Toggles

PATH = {"content": {"neighbours_path": "/neighbours"}}
CF = offering(film("a", 3), film("b", 2))
NEAR = at_path(b"/neighbours", offers(*many("n", 9)))
BROKEN = reply(b"{}", status=b"500 Oh")


def targets(source):
    return [request.target for request in source.requests]


async def test_open_slots_are_filled_by_neighbours_of_what_was_offered():
    async with stage(CF, NEAR, sources=PATH) as rig:
        got = await rig.recommend(5)
        assert got.ids == ["a", "b", "n0", "n1", "n2"]
        assert got.sources == ["cf", "cf", "content", "content", "content"]
        assert (got.level, got.degraded, got.metadata["coverage"]) == ("B", False, 1.0)
        assert targets(rig.content) == [
            b"/candidates?user_id=7&k=5", b"/neighbours?user_id=7&k=5&seeds=a,b"
        ]  # fmt: skip
        assert len(rig.cf.requests) == 1
        assert rig.content.requests[1].get("x-request-id") == got.answer.get("x-request-id")
        assert got.answer.get("server-timing").count(b"content;dur=") == 2
        assert rig.outcomes("content") == {"success": 2}
        assert (rig.slots, rig.counters.levels) == ((5, 5), {"B": 1})
        assert rig.quiet


async def test_a_full_answer_asks_nobody_twice():
    async with stage(CF, NEAR, sources=PATH) as rig:
        assert (await rig.recommend(2)).level == "A"
        assert targets(rig.content) == [b"/candidates?user_id=7&k=2"]


async def test_without_a_path_there_is_no_second_round():
    async with stage(CF, NEAR) as rig:
        got = await rig.recommend(4)
        assert (got.level, got.metadata["coverage"]) == ("D", 0.5)
        assert targets(rig.content) == [b"/candidates?user_id=7&k=4"]


async def test_what_neighbours_offer_is_pruned_by_year_then_by_genres_never_by_provider():
    """Facts 1, level C; what the filters let pass comes before, under level B."""
    near = offers(
        film("comedy", 9, genres=["comedy"], providers=["hbo"]),
        film("old", 8, year=1950, providers=["hbo"]),
        film("elsewhere", 7, providers=["hulu"]),
        film("fits", 6, providers=["hbo"]),
    )
    async with stage(CF, at_path(b"/neighbours", near), sources=PATH) as rig:
        query = b"&genres=drama&year_min=1990&providers=hbo&lang=de"
        got = await rig.recommend(6, query)
        assert got.ids[:5] == ["a", "b", "fits", "old", "comedy"]
        assert got.sources == ["cf", "cf", "content", "pruned", "pruned", "popularity"]
        assert (got.level, got.degraded, got.metadata["coverage"]) == ("D", True, 5 / 6)
        assert targets(rig.content)[1] == b"/neighbours?user_id=7&k=6&providers=hbo&lang=de&seeds=a,b"
        got = await rig.recommend(5, query)
        assert (got.level, got.degraded, got.metadata["coverage"]) == ("C", False, 1.0)
        assert rig.counters.levels == {"D": 1, "C": 1}


async def test_items_that_break_the_filters_are_seeds_all_the_same():
    async with stage(CF, NEAR, sources=PATH) as rig:
        got = await rig.recommend(3, b"&year_min=2010")
        assert targets(rig.content)[1].endswith(b"&seeds=a,b")
        assert (got.ids, got.level) == (["a", "b", "n0"], "C")


async def test_a_user_without_candidates_is_seed_enough():
    async with stage(offering(), NEAR, sources=PATH) as rig:
        got = await rig.recommend(3)
        assert (got.ids, got.level) == (["n0", "n1", "n2"], "B")
        assert targets(rig.content)[1] == b"/neighbours?user_id=7&k=3&seeds="


@pytest.mark.parametrize(
    ("toggles", "asked", "level"),
    [
        ({"policy_mode": "collab_only"}, [b"/neighbours"], "B"),
        ({"policy_mode": "content_only"}, [b"/candidates", b"/neighbours"], "B"),
        ({"disable_cf": True}, [b"/candidates", b"/neighbours"], "B"),
        ({"candidate_fallback_level": "B"}, [b"/candidates", b"/neighbours"], "B"),
        ({"candidate_fallback_level": "C"}, [b"/candidates", b"/neighbours"], "C"),
        ({"disable_content": True}, [], "D"),
        ({"candidate_fallback_level": "D"}, [], "D"),
        ({"kill_switch": True}, [], "D"),
        ({"exposure_percent": 0}, [], "D"),
    ],
)
async def test_toggles_say_whether_there_is_one(toggles, asked, level):
    async with stage(CF, NEAR, control=CF, sources=PATH, toggles=Toggles(**toggles)) as rig:
        got = await rig.recommend(4)
        assert [target.partition(b"?")[0] for target in targets(rig.content)] == asked
        assert got.level == level


async def test_control_is_neither_expanded_nor_pruned():
    """Facts 2.8: popularity that passes the filters is the better control."""
    async with stage(CF, NEAR, control=CF, sources=PATH, toggles=Toggles(exposure_percent=0)) as rig:
        got = await rig.recommend(3, b"&year_min=2000")
        assert got.sources == ["popularity"] * 3
        assert rig.content.wires == []


@pytest.mark.parametrize(
    "near",
    [BROKEN, reply(b'{"items": [], "error": "no index"}'), reply(b"<html>"), reply(b"{}", status=b"404 No")],
)
async def test_a_second_round_that_fails_leaves_the_first(near):
    """A failed source, so degraded; C and D fill as without it."""
    async with stage(CF, at_path(b"/neighbours", near), sources=PATH) as rig:
        got = await rig.recommend(3)
        assert got.sources == ["cf", "cf", "popularity"]
        assert (got.level, got.degraded) == ("D", True)
        got = await rig.recommend(2, b"&year_min=2010")
        assert (got.sources, got.level, got.degraded) == (["pruned"] * 2, "C", True)


async def test_content_that_has_just_failed_is_not_asked_again():
    async with stage(CF, answering(BROKEN), sources=PATH) as rig:
        got = await rig.recommend(3)
        assert (got.level, got.degraded) == ("D", True)
        assert targets(rig.content) == [b"/candidates?user_id=7&k=3"]


async def test_a_breaker_that_opened_meanwhile_is_a_failure_of_the_source():
    """Nothing is sent; the answer goes out at once (facts 2.18)."""
    breaker = {"breaker": BreakerSettings(consecutive_failures=1, cooldown_s=60)}
    toggles = Toggles(policy_mode="collab_only")
    near = at_path(b"/neighbours", BROKEN)
    async with stage(CF, near, sources={"content": PATH["content"] | breaker}, toggles=toggles) as rig:
        for _ in range(2):
            got = await rig.recommend(3)
            assert (got.level, got.degraded) == ("D", True)
        assert rig.outcomes("content") == {"error": 1, "breaker_open": 1}
        assert rig.slots == (6, 4)


async def test_a_breaker_held_open_by_hand_is_not_judged():
    async with stage(CF, NEAR, sources=PATH, toggles=Toggles(policy_mode="collab_only")) as rig:
        rig.plane.breakers["content"].open(asyncio.get_running_loop().time(), "maintenance")
        assert (await rig.recommend(3)).level == "D"
        assert rig.slots == (0, 0)


async def test_its_answer_is_read_by_the_upstreams_own_names():
    body = b'[{"movie": 7, "rank": 1, "name": "Seven", "year": 1999, "genres": []}]'
    fields = {"items": "", "id": "movie", "score": "rank", "title": "name", "number_ids": True}
    settings = {"content": PATH["content"] | {"fields": Fields(**fields)}}
    async with stage(CF, at_path(b"/neighbours", reply(body), reply(b"[]")), sources=settings) as rig:
        got = await rig.recommend(3)
        assert (got.ids, got.level) == (["a", "b", "7"], "B")
        assert got.items[2]["title"] == "Seven"


async def test_nobody_is_asked_after_a_kill():
    """Though the request began before it: a kill contacts no upstream (facts 2.9)."""
    release = []

    async def slow(wire: Wire) -> None:
        await wire.request()
        await until(lambda: release, "the release")
        wire.send(offers(film("a", 1)))

    async with stage(slow, NEAR, sources=PATH) as rig:
        wire = await rig.client()
        wire.send(GET % (3, b"", b""))
        await rig.cf.until_requests(1)
        rig.plane.apply(replace(rig.policy, toggles=Toggles(version=2, kill_switch=True)))
        release.append(True)
        got = Recommended(await wire.response(), 3)
        assert (got.sources, got.level) == (["cf", "popularity", "popularity"], "D")
        assert len(rig.content.requests) == 1


async def test_a_reload_gives_and_takes_the_path():
    async with stage(CF, NEAR) as rig:
        assert (await rig.recommend(3)).level == "D"
        content = replace(rig.policy.upstreams["content"], neighbours_path="/neighbours")
        rig.plane.apply(replace(rig.policy, upstreams={**rig.policy.upstreams, "content": content}))
        assert (await rig.recommend(3)).level == "B"
        rig.plane.apply(rig.policy)
        assert (await rig.recommend(3)).level == "D"


async def test_a_route_without_content_has_no_second_round():
    async with stage(CF, NEAR, sources=PATH, route={"sources": Sources(cf="cf")}) as rig:
        assert (await rig.recommend(3)).level == "D"
        assert rig.content.wires == []


async def test_a_client_that_leaves_in_it_is_neutral():
    async def silent(wire: Wire) -> None:
        await wire.request()
        wire.send(offers())
        await hanging(wire)

    async with stage(CF, silent, sources=PATH) as rig:
        wire = await rig.client()
        wire.send(GET % (3, b"", b""))
        await rig.content.until_requests(2)
        wire.reset()
        await until(lambda: rig.quiet, "rest")
        assert rig.outcomes("content") == {"success": 1, "aborted": 1}
        assert rig.slots == (0, 0)
