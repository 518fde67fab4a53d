"""Hedging by deadline: the answer goes out with what has arrived, and who is late is left alone."""

import asyncio
import gc

import pytest
from harness import Script, Wire, until
from recommending import GET, Recommended, at_path, film, hanging, many, offering, offers, stage

from proxy.core.breaker import BreakerSettings
from proxy.core.policy import Toggles
from proxy.dataplane.fetch import Fetch
from proxy.dataplane.recommend import Recommend

GOOD = offering(*many("c", 4))
ROUTE = {"deadline_ms": 60}
PATH = {"content": {"neighbours_path": "/neighbours"}}


def held(answer: bytes) -> tuple[Script, asyncio.Event]:
    """Answers each request when the event is set."""
    released = asyncio.Event()

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            await released.wait()
            wire.send(answer)

    return script, released


async def test_what_has_arrived_is_the_answer_and_who_is_late_has_failed():
    """Unfilled slots count, the late source degrades (facts 2.18); the user waits for the deadline."""
    async with stage(hanging, offering(*many("c", 2)), route=ROUTE) as rig:
        got = await rig.recommend(4)
        assert (got.ids[:2], got.sources[2:]) == (["c0", "c1"], ["popularity"] * 2)
        assert (got.level, got.degraded, got.metadata["coverage"]) == ("D", True, 0.5)
        assert 55 <= got.timings["cf"] <= got.timings["total"] < 600
        assert rig.slots == (4, 2)
        assert rig.outcomes("content") == {"success": 1}


async def test_a_late_answer_is_accounted_as_what_it_was():
    """Its call is not cut off: the connection is kept, and the breaker hears of a success."""
    script, released = held(offers(*many("a", 4)))
    async with stage(script, GOOD, route=ROUTE) as rig:
        got = await rig.recommend(4)
        assert (set(got.sources), got.degraded) == ({"content"}, True)
        assert (rig.outcomes("cf"), rig.quiet) == ({}, False)
        released.set()
        await until(lambda: rig.quiet, "the late answer")
        assert rig.outcomes("cf") == {"success": 1}
        assert rig.failures("cf") == (1, 0)
        assert (await rig.recommend(4)).ids[0] == "a0"
        assert len(rig.cf.wires) == 1


async def test_a_late_call_ends_by_its_own_timeout():
    async with stage(hanging, GOOD, route=ROUTE, sources={"cf": {"timeout_ms": 120}}) as rig:
        got = await rig.recommend(4)
        assert got.timings["total"] < 115
        await until(lambda: rig.quiet, "the timeout")
        assert rig.outcomes("cf") == {"timeout": 1}
        assert rig.failures("cf") == (1, 1)


async def test_a_late_call_holds_neither_request_nor_client():
    patient = {"cf": {"timeout_ms": 60_000}}  # looking through all objects of the whole suite takes its time
    async with stage(hanging, GOOD, route=ROUTE, sources=patient) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", b""))
        Recommended(await wire.response(), 4)
        gc.collect()
        found = [type(it) for it in gc.get_objects() if type(it) in {Recommend, Fetch}]
        assert found == [Fetch]
        wire.close()
        await until(lambda: not rig.counters.connections, "the end of the client")
        assert (rig.outcomes("cf"), rig.quiet) == ({}, False)
        await rig.plane.drain()  # waits for clients, not for what nobody waits for


async def test_everybody_late_is_popularity_in_time():
    async with stage(hanging, hanging, route=ROUTE) as rig:
        got = await rig.recommend(5)
        assert (got.sources, got.level, got.degraded) == (["popularity"] * 5, "D", True)
        assert got.timings["total"] < 600
        assert rig.slots == (5, 0)


async def test_control_that_is_late_is_popularity_and_judged_by_nobody():
    toggles = Toggles(exposure_percent=0)
    async with stage(GOOD, GOOD, control=hanging, route=ROUTE, toggles=toggles) as rig:
        got = await rig.recommend(3)
        assert (got.sources, got.level) == (["popularity"] * 3, "D")
        assert rig.slots == (0, 0)


@pytest.mark.parametrize("route", [{}, {"deadline_ms": 5_000}], ids=["none", "a longer one"])
async def test_without_a_deadline_the_timeouts_of_the_sources_end_it(route):
    async with stage(hanging, GOOD, route=route, sources={"cf": {"timeout_ms": 60}}) as rig:
        got = await rig.recommend(4)
        assert (set(got.sources), got.degraded) == ({"content"}, True)
        assert rig.outcomes("cf") == {"timeout": 1}
        assert rig.quiet


class TestSecondRound:
    """It has what the first has left of the time."""

    async def test_late_neighbours_leave_the_first_round(self):
        async def silent(wire: Wire) -> None:
            await wire.request()
            wire.send(offers(film("x", 1)))
            await hanging(wire)

        settings = {"content": {**PATH["content"], "timeout_ms": 90}, "cf": {"timeout_ms": 60}}
        async with stage(offering(), silent, route=ROUTE, sources=settings) as rig:
            got = await rig.recommend(3)
            assert got.sources == ["content", "popularity", "popularity"]
            assert (got.level, got.degraded) == ("D", True)
            assert got.timings["total"] < 600
            await until(lambda: rig.quiet, "its own timeout")
            assert rig.outcomes("content") == {"success": 1, "timeout": 1}

    async def test_without_a_deadline_of_the_route_it_is_the_longest_timeout(self):
        """Nobody waits longer for two rounds than for one."""

        async def silent(wire: Wire) -> None:
            await wire.request()
            wire.send(offers(film("x", 1)))
            await hanging(wire)

        settings = {"content": {**PATH["content"], "timeout_ms": 50}, "cf": {"timeout_ms": 80}}
        async with stage(hanging, silent, sources=settings) as rig:
            got = await rig.recommend(3)
            assert 75 <= got.timings["total"] < 600
            assert len(rig.content.requests) <= 2

    async def test_after_the_deadline_nobody_is_asked(self):
        async with stage(hanging, at_path(b"/neighbours", offers()), route=ROUTE, sources=PATH) as rig:
            assert (await rig.recommend(3)).level == "D"
            assert len(rig.content.requests) == 1


async def test_a_client_that_leaves_before_the_deadline_ends_its_calls():
    async with stage(hanging, hanging, route={"deadline_ms": 1_000}) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", b""))
        await rig.content.until_requests(1)
        wire.reset()
        await until(lambda: rig.quiet, "rest")
        assert rig.outcomes("cf") == rig.outcomes("content") == {"aborted": 1}
        assert not rig.plane.ticker.lane(1.0)


async def test_late_answers_never_reach_a_later_request_of_the_same_connection():
    """Pipelined: the next answer is the next request's own, whenever the late ones arrive."""
    script, released = held(offers(*many("late", 4)))
    async with stage(script, GOOD, route=ROUTE) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", b"X-Request-Id: r1\r\n") + GET % (2, b"", b"X-Request-Id: r2\r\n"))
        first = Recommended(await wire.response(), 4)
        released.set()
        second = Recommended(await wire.response(), 2)
        assert (first.answer.get("x-request-id"), second.answer.get("x-request-id")) == (b"r1", b"r2")
        assert set(first.sources) == {"content"}
        await until(lambda: rig.quiet, "rest")
        wire.send(GET % (3, b"", b"X-Request-Id: r3\r\n"))
        assert Recommended(await wire.response(), 3).answer.get("x-request-id") == b"r3"
        assert not wire.data[wire.at :]


async def test_calls_that_are_late_again_and_again_open_the_breaker():
    """Left alone, they still fail by their own timeout: who is always late is cut off."""
    breaker = BreakerSettings(consecutive_failures=2, cooldown_s=60)
    async with stage(
        hanging, GOOD, route={"deadline_ms": 20}, sources={"cf": {"timeout_ms": 60, "breaker": breaker}}
    ) as rig:
        await rig.recommend(4)
        await rig.recommend(3)
        await until(lambda: rig.plane.breakers["cf"].state == "open", "the breaker")
        got = await rig.recommend(4)
        assert (got.timings["cf"], got.degraded) == (0, True)
