"""Where cache, shared calls, rounds, queues and reloads meet: requests end, in time and once."""

import asyncio
from dataclasses import replace

from harness import Wire, reply, until
from recommending import GET, Recommended, hanging, many, offering, offers, stage
from rig import UPSTREAM
from test_coalescing import Slow, crowd

from proxy.core.cache import CacheSettings
from proxy.core.candidates import Fields
from proxy.core.toggles import Toggles

GOOD = offering(*many("g", 20))
BROKEN = reply(b"{}", status=b"500 Oops")


async def test_waiting_for_a_slot_takes_nothing_of_a_calls_deadline():
    """Both are as long as each other; the source, once reached, never says a word."""
    times = {"max_inflight": 1, "timeout_ms": 200, "queue_timeout_ms": 200}
    go = asyncio.Event()

    async def once(wire: Wire) -> None:
        await wire.request()
        await go.wait()
        wire.send(offers(*many("s", 20)))
        await wire.request()
        await asyncio.Event().wait()

    async with stage(once, GOOD, sources={"cf": times}) as rig:
        one, other = await rig.client(), await rig.client()
        one.send(GET % (4, b"", b""))
        await rig.cf.until_requests(1)
        other.send(GET % (5, b"", b""))
        await until(lambda: rig.counters.upstreams["cf"].queued == 1, "it to wait")
        go.set()
        assert not Recommended(await one.response(), 4).degraded
        assert Recommended(await other.response(), 5).degraded
        assert rig.outcomes("cf") == {"success": 1, "timeout": 1}
        assert rig.quiet


async def test_a_call_repeated_on_a_new_connection_keeps_its_deadline():
    """It is that of the whole call; without one of its own a request relies on it."""
    go = asyncio.Event()

    async def forgetful(wire: Wire) -> None:
        await wire.request()
        wire.send(offers(*many("g", 20)))
        await wire.request()
        await go.wait()
        wire.reset()

    async with stage(forgetful, GOOD) as rig:
        rig.cf.scripts = [forgetful, hanging]
        await rig.recommend()
        lane = rig.plane.ticker.lane(UPSTREAM.timeout_ms / 1000)
        wire = await rig.client()
        wire.send(GET % (4, b"", b""))
        await rig.cf.until_requests(2)
        await until(lambda: len(lane) == 1, "the other source")
        before = dict(lane.entries)
        go.set()
        await rig.cf.until_requests(3)
        assert lane.entries == before
        assert rig.outcomes("cf") == {"success": 1}


async def test_a_stale_answer_is_read_as_it_was_written():
    """The names of its fields are changed by a reload while the source is asked again."""
    cf = Slow()
    toggles = Toggles(version=1, cache_mode="prewarm")
    async with stage(
        cf, GOOD, toggles=toggles, cache=CacheSettings(candidates_ttl_s=1e-9, stale_s=100.0)
    ) as rig:
        cf.go.set()
        await rig.recommend()
        cf.go.clear()
        cf.answer = BROKEN
        heard = cf.heard
        wire = await rig.client()
        wire.send(GET % (4, b"", b""))
        await until(lambda: cf.heard > heard, "the source to hear")
        ups = dict(rig.policy.upstreams)
        ups["cf"] = replace(ups["cf"], fields=Fields(items="list", id="number"))
        rig.plane.apply(replace(rig.policy, upstreams=ups))
        cf.go.set()
        answer = Recommended(await wire.response(), 4)
        assert answer.metadata["cache"] == "stale"
        assert "s0" in answer.ids
        assert rig.outcomes("cf") == {"success": 1, "error": 1}


async def test_neighbours_taken_away_by_a_reload_are_not_asked():
    cf = Slow(offers(*many("c", 1)))
    content = offering()
    async with stage(cf, content, sources={"content": {"neighbours_path": "/n"}}) as rig:
        (wire,) = await crowd(rig, cf, 1)
        ups = dict(rig.policy.upstreams)
        ups["content"] = replace(ups["content"], neighbours_path="")
        rig.plane.apply(replace(rig.policy, upstreams=ups))
        cf.go.set()
        Recommended(await wire.response(), 4)
        assert len(rig.content.requests) == 1


async def test_who_is_caught_by_a_kill_between_rounds_says_nothing_about_the_recommender():
    """What popularity fills since then it fills by decision (facts 2.18)."""
    cf = Slow(offers(*many("c", 1)))
    async with stage(cf, offering(), sources={"content": {"neighbours_path": "/n"}}) as rig:
        (wire,) = await crowd(rig, cf, 1)
        rig.plane.apply(replace(rig.policy, toggles=Toggles(version=2, kill_switch=True)))
        cf.go.set()
        answer = Recommended(await wire.response(), 4)
        assert (answer.level, answer.metadata["coverage"]) == ("D", 0.25)
        assert len(rig.content.requests) == 1
        assert rig.slots == (0, 0)
