"""Second round and deadline where sources are remembered: late answers are kept, neighbours as well."""

import asyncio
from dataclasses import replace

from harness import Wire, until
from recommending import at_path, film, hanging, many, offering, offers, stage

from proxy.core.policy import Toggles

PREWARM = Toggles(cache_mode="prewarm")
WARM_ONLY = Toggles(cache_mode="warm_only")
PATH = {"content": {"neighbours_path": "/neighbours"}}
ROUTE = {"deadline_ms": 60}
CF = offering(film("a", 3), film("b", 2))
NEAR = at_path(b"/neighbours", offers(*many("n", 9)))
GOOD = offering(*many("c", 4))


def under(rig, toggles):
    rig.plane.apply(replace(rig.plane.policy, toggles=toggles))


async def test_a_late_answer_is_the_next_requests_hit():
    """Also under `cold`, which writes and never reads (facts 2.15)."""
    for mode in ("prewarm", "cold"):
        released = asyncio.Event()

        async def slow(wire: Wire, released: asyncio.Event = released) -> None:
            await wire.request()
            await released.wait()
            wire.send(offers(*many("late", 4)))

        async with stage(slow, GOOD, route=ROUTE, toggles=Toggles(cache_mode=mode)) as rig:
            got = await rig.recommend(4)
            assert (set(got.sources), got.degraded) == ({"content"}, True)
            released.set()
            await until(lambda: rig.quiet, "the late answer")
            under(rig, PREWARM)
            got = await rig.recommend(4)
            assert ("late0" in got.ids, got.degraded, got.metadata["cache"]) == (True, False, "hit")
            assert len(rig.cf.requests) == 1


async def test_late_neighbours_are_kept_as_well():
    released = asyncio.Event()

    async def slow(wire: Wire) -> None:
        while True:
            request = await wire.request()
            if request.target.startswith(b"/neighbours"):
                await released.wait()
            wire.send(offers(*many("n", 4)) if request.target.startswith(b"/neighbours") else offers())

    async with stage(CF, slow, route=ROUTE, sources=PATH, toggles=PREWARM) as rig:
        got = await rig.recommend(4)
        assert (got.level, got.degraded) == ("D", True)
        released.set()
        await until(lambda: rig.quiet, "the late answer")
        got = await rig.recommend(4)
        assert (got.ids, got.level, got.degraded) == (["a", "b", "n0", "n1"], "B", False)
        assert len([it for it in rig.content.requests if it.target.startswith(b"/neighbours")]) == 1


async def test_neighbours_are_asked_for_once_and_answer_alone_when_the_cache_has_to():
    async with stage(CF, NEAR, sources=PATH, toggles=PREWARM) as rig:
        first, second = await rig.recommend(5), await rig.recommend(5)
        assert (first.level, second.level) == ("B", "B")
        assert second.items == first.items
        assert second.metadata["cache"] == "miss"  # content has nothing itself, and that is not kept
        assert [it.target.partition(b"?")[0] for it in rig.content.requests] == [
            b"/candidates", b"/neighbours", b"/candidates"
        ]  # fmt: skip
        asked = len(rig.cf.requests), len(rig.content.requests)
        under(rig, WARM_ONLY)
        third = await rig.recommend(5)
        assert (third.ids, third.level) == (first.ids, "B")
        assert (len(rig.cf.requests), len(rig.content.requests)) == asked


async def test_of_an_empty_cache_alone_there_is_popularity_by_decision():
    """Facts 2.15 and 2.18: a miss is level D, and nobody is judged by it."""
    async with stage(CF, NEAR, sources=PATH, toggles=WARM_ONLY) as rig:
        got = await rig.recommend(5)
        assert (got.level, set(got.sources)) == ("D", {"popularity"})
        assert rig.slots == (0, 0)
        assert rig.cf.wires == rig.content.wires == []


async def test_filters_are_relaxed_for_what_is_remembered_too():
    """What fills is never kept as personal: only what the sources said is."""
    near = at_path(b"/neighbours", offers(film("old", 2, year=1950), film("comedy", 1, genres=["comedy"])))
    async with stage(CF, near, sources=PATH, toggles=PREWARM) as rig:
        query = b"&genres=drama&year_min=1990"
        first = await rig.recommend(6, query)
        assert first.sources == ["cf", "cf", "pruned", "pruned", "popularity", "popularity"]
        under(rig, WARM_ONLY)
        assert (await rig.recommend(6, query)).items == first.items
        assert (await rig.recommend(6)).level == "D"  # another question


async def test_what_hangs_is_done_without_and_what_is_remembered_stands_in():
    """Past its ttl, late and yet there: `stale`, and degraded since the source failed."""

    async def once(wire: Wire) -> None:
        await (hanging if rig.cf.requests else offering(*many("cf", 4)))(wire)

    async with stage(once, GOOD, route=ROUTE, toggles=PREWARM) as rig:
        fresh = await rig.recommend(4)
        for entry in rig.plane._memory.cache._entries.values():
            entry.at -= rig.plane.policy.cache.candidates_ttl_s
        for wire in rig.cf.wires:
            wire.close()
        got = await rig.recommend(4)
        assert got.ids == fresh.ids
        assert (got.metadata["cache"], got.degraded, got.level) == ("stale", True, "A")
        assert got.timings["total"] < 600
