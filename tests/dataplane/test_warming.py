"""The warm list: asked for in the background, gently, and judged by nobody."""

import logging
from dataclasses import replace

import orjson
import pytest
from harness import answering, reply, until
from recommending import ROUTE, hanging, many, offering, stage
from test_coalescing import Slow

from proxy.clock import monotonic
from proxy.core.cache import CacheSettings, WarmList
from proxy.core.policy import Identity, Toggles
from proxy.core.toggles import Rule, Scope

GOOD = offering(*many("g", 20))
BROKEN = answering(reply(b"{}", status=b"500 Oops"))
PREWARM = Toggles(cache_mode="prewarm")
FAST = CacheSettings(warm_per_s=100_000.0)


@pytest.fixture
def listed(tmp_path):
    """Writes the list, and gives what a policy says of it."""

    def write(*queries, raw=None, read_at=1.0):
        path = tmp_path / "warm.json"
        path.write_bytes(orjson.dumps(queries) if raw is None else raw)
        return WarmList(file=str(path), read_at=read_at)

    return write


def warming(warm, cf=GOOD, content=GOOD, *, toggles=PREWARM, cache=FAST, **more):
    return stage(cf, content, toggles=toggles, cache=cache, warm=warm, **more)


async def warm(rig, calls):
    """Until so many calls for the list are over."""
    await until(lambda: sum(rig.counters.warm.values()) >= calls, "the list")
    await until(lambda: not rig.plane._warming._passes, "its end")
    return rig.counters.warm


def users(count):
    return [f"user_id={user}&k=4" for user in range(count)]


async def test_who_is_on_the_list_is_a_hit_from_the_first_request_on(listed):
    async with warming(listed("user_id=7&k=4", "k=4&user_id=7&genres=drama")) as rig:
        assert await warm(rig, 4) == {"asked": 4, "had": 0, "failed": 0}
        assert rig.counters.warm_left == 0
        for query in (b"", b"&genres=drama"):
            assert (await rig.recommend(4, query)).metadata["cache"] == "hit"
        assert len(rig.cf.requests) == len(rig.content.requests) == 2


async def test_nobody_is_judged_by_it(listed):
    """It has columns of its own, and says so to the sources; no breaker learns from it."""
    async with warming(listed(*users(5)), BROKEN) as rig:
        assert (await warm(rig, 10))["failed"] == 5
        assert rig.outcomes("cf") == rig.outcomes("content") == {}
        assert rig.failures("cf") == (0, 0)
        assert not any(rig.counters.cache.values())
        assert rig.counters.slots_asked == 0
        aside = rig.counters.aside("warm")
        assert (aside.upstream("cf").outcomes["error"], aside.cache["miss"]) == (5, 10)
        assert {request.get("x-fusebox-warm") for request in rig.cf.requests} == {b"1"}
        assert len({request.get("x-request-id") for request in rig.cf.requests}) == 5


async def test_what_is_there_already_is_not_asked_for_again(listed):
    async with warming(listed(*users(3))) as rig:
        await warm(rig, 6)
        rig.plane.apply(replace(rig.plane.policy, warm=listed(*users(4), read_at=2.0)))
        assert await warm(rig, 14) == {"asked": 8, "had": 6, "failed": 0}
        assert len(rig.cf.requests) == 4


@pytest.mark.parametrize("mode", ["cold", "warm_only"])
async def test_it_is_asked_for_when_somebody_reads_through_the_cache(listed, mode):
    """Not before, and again each time that this begins."""
    async with warming(listed(*users(3)), toggles=Toggles(cache_mode=mode)) as rig:
        rig.plane._warming.tick(monotonic())
        assert not rig.plane._warming._passes
        rig.plane.apply(replace(rig.plane.policy, toggles=PREWARM))
        await warm(rig, 6)
        rig.plane.apply(replace(rig.plane.policy, toggles=replace(PREWARM, version=2)))
        for toggles in (Toggles(cache_mode=mode), PREWARM):
            rig.plane.apply(replace(rig.plane.policy, toggles=toggles))
        assert await warm(rig, 12) == {"asked": 6, "had": 6, "failed": 0}


async def test_a_rule_may_be_what_reads_through(listed):
    rule = Rule(Scope(client=("tv",)), {"cache_mode": "prewarm"})
    async with warming(listed(*users(1)), toggles=Toggles(rules=(rule,))) as rig:
        await until(lambda: rig.plane._warming._passes or rig.counters.warm_left == 0, "the list")
        assert rig.cf.requests == []  # the list says nothing of clients: by it nobody is on tv


async def test_only_what_the_decision_asks_of_this_user(listed):
    toggles = Toggles(cache_mode="prewarm", exposure_percent=50, disable_content=True)
    async with warming(listed(*users(40)), toggles=toggles, control=GOOD) as rig:
        await warm(rig, 40)
        asked = [len(source.requests) for source in (rig.cf, rig.content, rig.control)]
        assert asked[1] == 0
        assert asked[0] + asked[2] == 40
        assert min(asked[0], asked[2]) > 5
        for user in range(40):
            answer = await rig.ask(b"GET /recommendations?user_id=%d&k=4 HTTP/1.1\r\nHost: x\r\n\r\n" % user)
            assert orjson.loads(answer.body)["metadata"]["cache"] == "hit"


async def test_users_are_found_where_the_settings_say(listed):
    identity = Identity(user=("query:uid",))
    async with warming(listed("uid=9&k=4"), identity=identity) as rig:
        await warm(rig, 2)
        assert {request.target for request in rig.cf.requests} == {b"/candidates?user_id=9&k=4&uid=9"}
        answer = await rig.ask(b"GET /recommendations?uid=9&k=4 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert orjson.loads(answer.body)["metadata"]["cache"] == "hit"


async def test_a_query_that_one_route_does_not_take_is_for_another(listed):
    routes = (ROUTE, replace(ROUTE, name="long", path="/long", k_max=100))
    async with warming(listed("user_id=7&k=50")) as rig:
        rig.plane.apply(replace(rig.plane.policy, routes=routes))
        assert await warm(rig, 2) == {"asked": 2, "had": 0, "failed": 0}


class TestGently:
    def passes(self, rig, now, ticks, seconds=0.05):
        """Let the warming alone have its time."""
        for _ in range(ticks):
            now += seconds
            rig.plane._warming.tick(now)
        return now

    async def begun(self, rig):
        await until(lambda: rig.plane._warming._passes, "the list to be read")

    async def test_no_more_than_so_many_a_second(self, listed):
        cf = Slow()
        cf.go.set()
        cache = CacheSettings(warm_per_s=10.0)
        async with warming(listed(*users(500)), cf, cache=cache) as rig:
            await self.begun(rig)
            began = monotonic()
            await until(lambda: sum(rig.counters.warm.values()) >= 8, "a few")
            seconds = monotonic() - began
            assert sum(rig.counters.warm.values()) <= 10 * seconds + 3
            assert 0 < rig.counters.warm_left <= 1_500

    async def test_no_more_than_a_few_at_once(self, listed):
        cf = Slow()
        async with warming(listed(*users(30)), cf, toggles=replace(PREWARM, disable_content=True)) as rig:
            await until(lambda: cf.heard == 8, "the first")
            self.passes(rig, monotonic(), 50)
            assert rig.counters.upstreams["cf"].inflight == 8
            cf.go.set()
            await warm(rig, 30)

    async def test_not_where_the_breaker_is_open_while_others_go_on(self, listed):
        async with warming(listed(*users(3))) as rig:
            breaker = rig.plane.breakers["cf"]
            breaker.open(monotonic(), "maintenance")
            await until(lambda: rig.counters.warm["asked"] == 3, "the other source")
            assert rig.cf.requests == []
            breaker.close(monotonic(), "over")
            await warm(rig, 6)
            assert len(rig.cf.requests) == 3

    async def test_not_where_half_the_slots_are_taken(self, listed):
        cf = Slow()
        async with warming(
            listed(*users(3)), cf, sources={"cf": {"max_inflight": 1}}, toggles=Toggles()
        ) as rig:
            wire = await rig.client()
            wire.send(b"GET /recommendations?user_id=z HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: cf.heard, "a request")
            rig.plane.apply(replace(rig.plane.policy, toggles=PREWARM))
            await until(lambda: rig.counters.warm["asked"] == 3, "the other source")
            assert cf.heard == 1
            cf.go.set()
            await warm(rig, 6)

    async def test_not_while_killed(self, listed):
        async with warming(listed(*users(3)), toggles=replace(PREWARM, kill_switch=True)) as rig:
            await self.begun(rig)
            self.passes(rig, monotonic(), 20)
            assert rig.cf.requests == []
            rig.plane.apply(replace(rig.plane.policy, toggles=PREWARM))
            await warm(rig, 6)

    async def test_a_real_request_waits_for_no_call_of_the_list(self, listed):
        cf = Slow()
        async with warming(listed("user_id=7&k=4"), cf) as rig:
            await until(lambda: cf.heard == 1, "the list's")
            wire = await rig.client()
            wire.send(b"GET /recommendations?user_id=7&k=4 HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: cf.heard == 2, "the request's")
            cf.go.set()
            assert (await wire.response()).status == 200
            assert rig.failures("cf") == (1, 0)


class TestTrouble:
    @pytest.mark.parametrize("raw", [b"", b"{}", b"[7]", b'["a b"]', b'["user_id=1",'])
    async def test_a_list_that_cannot_be_used_is_told_and_harms_nobody(self, listed, raw, caplog):
        async with warming(listed(raw=raw)) as rig:
            await until(lambda: rig.counters.warm_unreadable, "the trouble")
            assert not (await rig.recommend()).degraded
            assert "the warm list cannot be used" in caplog.text
            rig.complaints.clear()
            rig.plane.apply(replace(rig.plane.policy, warm=listed(*users(1), read_at=2.0)))
            await warm(rig, 2)
            assert rig.counters.warm_unreadable == 0

    async def test_one_that_is_gone(self, listed, tmp_path):
        gone = WarmList(file=str(tmp_path / "nowhere.json"), read_at=1.0)
        async with warming(gone) as rig:
            await until(lambda: rig.counters.warm_unreadable, "the trouble")
            assert "No such file" in rig.complaints[0]
            rig.complaints.clear()

    async def test_an_empty_one_is_done(self, listed, caplog):
        caplog.set_level(logging.INFO)
        async with warming(listed()) as rig:
            await until(lambda: not rig.plane._warming._unread, "the reading")
            assert not (await rig.recommend()).degraded

    async def test_a_reload_meanwhile_begins_anew(self, listed):
        cf = Slow()
        async with warming(listed(*users(50)), cf) as rig:
            await until(lambda: cf.heard, "the first")
            rig.plane.apply(replace(rig.plane.policy, warm=listed(*users(2), read_at=2.0)))
            cf.go.set()
            await until(lambda: not rig.plane._warming._running, "the first list's calls")
            await warm(rig, 4)
            assert (await rig.recommend()).metadata["cache"] == "miss"

    async def test_a_route_that_is_gone_ends_its_part(self, listed):
        async with warming(listed(*users(5)), hanging, sources={"cf": {"timeout_ms": 50}}) as rig:
            await until(lambda: rig.plane._warming._passes, "the list to be read")
            rig.plane.apply(replace(rig.plane.policy, routes=(replace(ROUTE, name="other"),)))
            await until(lambda: not rig.plane._warming._passes, "the end")
            await until(lambda: not rig.plane._warming._running, "the last call")

    async def test_the_end_of_the_plane_ends_it(self, listed):
        async with warming(listed(*users(5)), hanging) as rig:
            await rig.cf.until_requests(5)
            rig.plane.close()
            assert not rig.plane._memory.calls
            assert rig.counters.upstreams["cf"].inflight == 0
