"""What sources said stands in for asking them: when it may, for how long, and what is never kept."""

import asyncio
from dataclasses import replace

import orjson
import pytest
from harness import Wire, answering, reply, until
from recommending import film, hanging, many, offering, offers, stage

from proxy.core.breaker import BreakerSettings
from proxy.core.cache import CacheSettings
from proxy.core.candidates import Fields
from proxy.core.policy import Toggles
from proxy.core.toggles import Rule, Scope

CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))
BROKEN = answering(reply(b"{}", status=b"500 Oops"))
PREWARM = Toggles(cache_mode="prewarm")
WARM_ONLY = Toggles(cache_mode="warm_only")
TTL_S, STALE_S = 100.0, 50.0
CACHE = CacheSettings(max_bytes=4_000_000, candidates_ttl_s=TTL_S, stale_s=STALE_S)


def caching(cf=CF, content=CONTENT, *, toggles=PREWARM, cache=CACHE, **more):
    return stage(cf, content, toggles=toggles, cache=cache, **more)


def asked(rig):
    return len(rig.cf.requests), len(rig.content.requests)


def results(rig):
    return {name: n for name, n in rig.counters.cache.items() if n}


def entries(rig):
    return len(rig.plane._memory.cache)


def age(rig, seconds):
    """So much time passes for what is in the cache."""
    for entry in rig.plane._memory.cache._entries.values():
        entry.at -= seconds


def under(rig, toggles, **more):
    rig.plane.apply(replace(rig.plane.policy, toggles=toggles, **more))


async def test_what_was_asked_once_is_a_hit_the_next_time():
    async with caching() as rig:
        first, second = await rig.recommend(), await rig.recommend()
        assert (first.metadata["cache"], second.metadata["cache"]) == ("miss", "hit")
        assert second.items == first.items
        assert not second.degraded
        assert asked(rig) == (1, 1)
        assert second.timings["cf"] == 0
        assert results(rig) == {"miss": 2, "hit": 2}
        assert rig.slots == (8, 8)
        assert rig.outcomes("cf") == {"success": 1}


async def test_cold_reads_nothing_and_fills_the_cache_all_the_same():
    async with caching(toggles=Toggles()) as rig:
        for n in (1, 2):
            assert (await rig.recommend()).metadata["cache"] == "bypass"
            assert asked(rig) == (n, n)
        assert results(rig) == {"bypass": 4}
        under(rig, PREWARM)
        assert (await rig.recommend()).metadata["cache"] == "hit"
        assert asked(rig) == (2, 2)


async def test_warm_only_asks_nobody():
    """A miss is a full popular answer, by decision, and so not judged; a hit is an answer like all."""
    async with caching() as rig:
        known = await rig.recommend()
        under(rig, WARM_ONLY)
        before = rig.slots
        missed = await rig.recommend(5)
        assert missed.sources == ["popularity"] * 5
        assert (missed.metadata["cache"], missed.level, missed.degraded) == ("miss", "D", True)
        assert rig.slots == before
        found = await rig.recommend()
        assert found.items == known.items
        assert (found.metadata["cache"], found.level, found.degraded) == ("hit", "A", False)
        assert asked(rig) == (1, 1)
        assert sum(rig.outcomes("cf").values()) == 1


async def test_half_a_hit_is_a_miss_and_asks_for_the_other_half():
    async with caching(toggles=Toggles(cache_mode="prewarm", policy_mode="collab_only")) as rig:
        await rig.recommend()
        under(rig, PREWARM)
        got = await rig.recommend()
        assert got.metadata["cache"] == "miss"
        assert asked(rig) == (1, 1)
        assert results(rig) == {"miss": 2, "hit": 1}


async def test_a_rule_may_have_a_mode_of_its_own():
    rule = Rule(Scope(region=("south",)), {"cache_mode": "warm_only"})
    async with caching(toggles=Toggles(rules=(rule,))) as rig:
        south = await rig.recommend(fields=b"X-Region: south\r\n")
        assert (south.metadata["cache"], south.level, asked(rig)) == ("miss", "D", (0, 0))
        assert (await rig.recommend()).metadata["cache"] == "bypass"
        south = await rig.recommend(fields=b"X-Region: south\r\n")
        assert (south.metadata["cache"], south.level, asked(rig)) == ("hit", "A", (1, 1))


async def test_control_is_cached_as_well():
    toggles = Toggles(cache_mode="prewarm", exposure_percent=0)
    async with caching(control=offering(*many("ctl", 20)), toggles=toggles) as rig:
        for expected in ("miss", "hit"):
            got = await rig.recommend()
            assert (got.metadata["cache"], set(got.sources)) == (expected, {"control"})
        assert len(rig.control.requests) == 1


@pytest.mark.parametrize("toggles", [PREWARM, WARM_ONLY], ids=["prewarm", "warm_only"])
async def test_without_a_cache_there_is_none_to_read(toggles):
    async with caching(toggles=toggles, cache=CacheSettings(max_bytes=0)) as rig:
        for n in (1, 2):
            got = await rig.recommend()
            assert got.metadata["cache"] == "bypass"
            assert asked(rig) == ((n, n) if toggles is PREWARM else (0, 0))
            assert got.level == ("A" if toggles is PREWARM else "D")


class TestAge:
    async def test_past_its_ttl_the_source_is_asked_again(self):
        async with caching() as rig:
            await rig.recommend()
            age(rig, TTL_S - 5)
            assert (await rig.recommend()).metadata["cache"] == "hit"
            age(rig, 5)
            got = await rig.recommend()
            assert (got.metadata["cache"], got.degraded, asked(rig)) == ("miss", False, (2, 2))
            assert (await rig.recommend()).metadata["cache"] == "hit"

    @pytest.mark.parametrize(
        ("cf", "settings", "outcome"),
        [
            (BROKEN, {}, "error"),
            (hanging, {"timeout_ms": 30}, "timeout"),
            (answering(b"", then=Wire.reset), {}, "reset"),
            (answering(b"junk\r\n\r\n"), {}, "invalid"),
            (answering(reply(b"<html>")), {}, "invalid"),
            (answering(reply(b'{"items":[],"error":"no model"}')), {}, "invalid"),
            (answering(reply(b"{}", status=b"429 Slow Down")), {}, "success"),
        ],
        ids=["error", "late", "reset", "junk", "no JSON", "error beside nothing", "429"],
    )
    async def test_in_place_of_a_source_that_fails_it_is_better_than_nothing(self, cf, settings, outcome):
        """And the source has failed all the same (facts 2.18, 2.20)."""
        async with caching(sources={"cf": settings}) as rig:
            known = await rig.recommend()
            age(rig, TTL_S)
            rig.cf.scripts = [cf]
            for wire in rig.cf.wires:
                wire.close()
            got = await rig.recommend()
            assert got.items == known.items
            assert (got.metadata["cache"], got.degraded, got.level) == ("stale", True, "A")
            assert rig.outcomes("cf") == {"success": 1 + (outcome == "success")} | (
                {} if outcome == "success" else {outcome: 1}
            )
            assert rig.failures("cf") == (2, int(outcome != "success"))
            assert results(rig) == {"miss": 3, "stale": 1}
            age(rig, STALE_S)
            assert "cf" not in (await rig.recommend()).sources

    async def test_in_place_of_one_that_its_breaker_cuts_off(self):
        breaker = BreakerSettings(consecutive_failures=1, cooldown_s=60)
        async with caching(sources={"cf": {"breaker": breaker}}) as rig:
            known = await rig.recommend()
            age(rig, TTL_S)
            rig.plane.breakers["cf"].open(asyncio.get_running_loop().time(), "maintenance")
            got = await rig.recommend()
            assert got.items == known.items
            assert got.metadata["cache"] == "stale"
            assert rig.outcomes("cf") == {"success": 1, "breaker_open": 1}

    async def test_where_the_source_may_not_be_asked(self):
        """It is not the source that failed."""
        async with caching() as rig:
            known = await rig.recommend()
            age(rig, TTL_S)
            under(rig, WARM_ONLY)
            got = await rig.recommend()
            assert got.items == known.items
            assert (got.metadata["cache"], got.degraded) == ("stale", True)
            assert asked(rig) == (1, 1)
            age(rig, STALE_S)
            assert (await rig.recommend()).metadata["cache"] == "miss"
            assert entries(rig) == 0

    async def test_never_where_the_mode_is_cold(self):
        async with caching(toggles=Toggles()) as rig:
            await rig.recommend()
            age(rig, TTL_S)
            rig.cf.scripts = [BROKEN]
            rig.cf.wires[0].close()
            assert set((await rig.recommend()).sources) == {"content"}

    async def test_another_ttl_holds_for_what_is_there(self):
        async with caching() as rig:
            await rig.recommend()
            age(rig, 10)
            under(rig, PREWARM, cache=replace(CACHE, candidates_ttl_s=5.0))
            assert (await rig.recommend()).metadata["cache"] == "miss"


class TestKept:
    """Only what a source itself has to say to this user."""

    @pytest.mark.parametrize(
        "answer",
        [
            reply(b"{}", status=b"500 Oops"),
            reply(orjson.dumps({"items": many("a", 4)}), status=b"404 No"),
            reply(orjson.dumps({"items": many("a", 4)}), status=b"201 Created"),
            reply(b'{"items":[],"error":"no model"}'),
            reply(b'{"items":[{"id":1}]}'),
            offers(),
            reply(orjson.dumps({"items": many("a", 4)}), b"Cache-Control: private, No-Store"),
        ],
        ids=["500", "404", "201", "error beside nothing", "invalid", "nothing", "no-store"],
    )
    async def test_anything_else_is_not(self, answer):
        """The answer that the user got was filled from content and popularity; of that nothing is kept."""
        async with caching(answering(answer)) as rig:
            await rig.recommend()
            assert entries(rig) == 1  # content's
            got = await rig.recommend()
            assert got.metadata["cache"] == "miss"
            assert asked(rig) == (2, 1)

    async def test_a_source_that_knows_a_user_no_more_is_believed(self):
        """404 and 410 end what is kept; nothing of it stands in."""
        async with caching() as rig:
            await rig.recommend()
            age(rig, TTL_S)
            rig.cf.scripts = [answering(reply(b"{}", status=b"410 Gone"))]
            rig.cf.wires[0].close()
            for _ in range(2):
                assert set((await rig.recommend()).sources) == {"content"}

    async def test_an_answer_over_its_share_is_not(self):
        async with caching(cache=replace(CACHE, max_bytes=20_000)) as rig:
            await rig.recommend()
            assert entries(rig) == 0

    async def test_no_more_than_the_bound(self):
        """A thousand users; the oldest have made room."""
        async with caching(cache=replace(CACHE, max_bytes=200_000)) as rig:
            wire = await rig.client()
            for user in range(300):
                wire.send(b"GET /recommendations?user_id=%d&k=2 HTTP/1.1\r\nHost: x\r\n\r\n" % user)
                assert (await wire.response()).status == 200
            cache = rig.plane._memory.cache
            assert 150_000 < cache.bytes <= 200_000
            evicted = 600 - entries(rig)
            await until(lambda: rig.counters.cache_evictions == evicted, "the figures")
            assert (rig.counters.cache_bytes, rig.counters.cache_entries) == (cache.bytes, 600 - evicted)
            wire.send(b"GET /recommendations?user_id=0&k=2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert orjson.loads((await wire.response()).body)["metadata"]["cache"] == "miss"


class TestKey:
    """Two requests share an answer when, and only when, the source hears the same of both."""

    async def metadata(self, rig, target, fields=b""):
        answer = await rig.ask(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (target, fields))
        return orjson.loads(answer.body)["metadata"]["cache"]

    async def test_user_k_and_every_filter_belong_to_it(self):
        async with caching() as rig:
            targets = [
                b"user_id=7&k=4", b"user_id=8&k=4", b"user_id=7&k=5", b"user_id=7&k=4&genres=drama",
                b"user_id=7&k=4&genres=comedy", b"user_id=7&k=4&x=1", b"k=4",
            ]  # fmt: skip
            for expected in ("miss", "hit"):
                for target in targets:
                    assert await self.metadata(rig, b"/recommendations?" + target) == expected, target

    async def test_no_user_is_spelled_so_that_he_gets_what_is_anothers(self):
        """Whatever characters ids hold, and wherever they are read from."""
        users = [
            b"7", b"7&k=4", b"7%26k%3D4", b"7%2526k%253D4", b"7#", b"7?", b"7;8", b"%37%00", b"%F0%9F%98%80",
            b"%ff", b"%C3%BF", b"7%20", b"7+", b"7%2B", b"7%0A",
        ]  # fmt: skip
        async with caching() as rig:
            seen = set()
            for user in users:
                await rig.ask(b"GET /recommendations?k=4 HTTP/1.1\r\nHost: x\r\nX-User-Id: %b\r\n\r\n" % user)
                new = {request.target for request in rig.cf.requests} - seen
                assert new, user
                seen |= new
            assert len(seen) == len(users)
            assert results(rig) == {"miss": 2 * len(users)}

    async def test_one_user_is_one_however_he_is_told(self):
        async with caching() as rig:
            targets = [b"/recommendations?user_id=a%62c&k=4", b"/recommendations?user_id=abc&k=4"]
            assert [await self.metadata(rig, target) for target in targets] == ["miss", "hit"]
            assert await self.metadata(rig, b"/recommendations?k=4", b"X-User-Id: abc\r\n") == "hit"

    async def test_nothing_else_of_the_client_reaches_a_source(self):
        async with caching(trusted_proxies=("127.0.0.0/8",)) as rig:
            fields = (
                b"Cookie: a=b\r\nAuthorization: Basic eA==\r\nAccept-Language: de\r\nX-Region: south\r\n"
                b"X-Cohort: heavy\r\nX-Client: tv\r\nUser-Agent: me\r\nX-Forwarded-For: 1.2.3.4\r\n"
                b"Accept: text/x\r\n"
            )
            await rig.recommend(fields=fields)
            (request,) = rig.cf.requests
            assert {name for name, _ in request.fields} == {
                "host", "accept", "via", "x-request-id", "traceparent",
            }  # fmt: skip
            assert request.get("accept") == b"application/json"

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"candidates_path": "/v2"}, "miss"),
            ({"fields": Fields(title="name")}, "miss"),
            ({"timeout_ms": 700, "max_inflight": 7}, "hit"),
        ],
    )
    async def test_another_place_is_asked_anew(self, change, expected):
        async with caching(toggles=Toggles(cache_mode="prewarm", policy_mode="collab_only")) as rig:
            await rig.recommend()
            before = rig.plane.policy
            upstreams = {**before.upstreams, "cf": replace(before.upstreams["cf"], **change)}
            under(rig, before.toggles, upstreams=upstreams)
            assert (await rig.recommend()).metadata["cache"] == expected
            under(rig, before.toggles, upstreams=before.upstreams)
            assert (await rig.recommend()).metadata["cache"] == "hit"

    async def test_another_url_is_another_place(self):
        async with caching(toggles=Toggles(cache_mode="prewarm", policy_mode="collab_only")) as rig:
            await rig.recommend()
            before = rig.plane.policy
            upstreams = {**before.upstreams, "cf": replace(before.upstreams["cf"], url=rig.content.url)}
            under(rig, before.toggles, upstreams=upstreams)
            got = await rig.recommend()
            assert (got.metadata["cache"], got.ids[0]) == ("miss", "co0")


async def test_a_reload_that_takes_the_cache_away_and_brings_it_back():
    async with caching() as rig:
        await rig.recommend()
        under(rig, PREWARM, cache=replace(CACHE, max_bytes=0))
        assert (await rig.recommend()).metadata["cache"] == "bypass"
        under(rig, PREWARM, cache=CACHE)
        assert (await rig.recommend()).metadata["cache"] == "miss"
        assert (await rig.recommend()).metadata["cache"] == "hit"


async def test_killed_reads_no_cache():
    async with caching() as rig:
        await rig.recommend()
        under(rig, replace(PREWARM, kill_switch=True))
        got = await rig.recommend()
        assert (got.metadata["cache"], set(got.sources)) == ("bypass", {"popularity"})


async def test_a_hit_is_the_answer_that_asking_would_give():
    """Filters, blending, display fields: all of it is done anew with what is kept."""
    cf = offering(film("a", 3, year=1950, providers=["hulu"]), film("b", 2, genres=["war"]))
    async with caching(cf, offering(film("b", 9, genres=["war"]), film("c", 1))) as rig:
        for query in (b"", b"&year_min=1990", b"&genres=war", b"&providers=hulu"):
            once, again = await rig.recommend(4, query), await rig.recommend(4, query)
            assert (once.metadata["cache"], again.metadata["cache"]) == ("miss", "hit")
            assert again.items == once.items
            assert again.metadata | {"cache": "miss"} == once.metadata
