"""A source that answers after its request was answered: remembered, accounted for, holding on to nobody."""

import asyncio
import gc
import weakref
from dataclasses import replace

import pytest
from harness import reply, until
from recommending import GET, Recommended, hanging, many, offering, stage
from test_coalescing import Slow

from proxy.clock import monotonic
from proxy.core.cache import CacheSettings
from proxy.core.policy import Toggles
from proxy.dataplane.fetch import Fetch
from proxy.dataplane.recommend import Recommend
from proxy.dataplane.source_call import SourceCall

GOOD = offering(*many("g", 20))
PREWARM = Toggles(cache_mode="prewarm")


class Asker:
    """Asks one source, as a request does, and notes that it is told."""

    def __init__(self, rig, target=b"/candidates?user_id=7&k=4"):
        self.told = 0
        bound = rig.plane._bound["films"].choices.fixed
        self.fetch = Fetch(self, "cf", bound.sources["cf"], target, bound)
        self.fetch.begin(monotonic(), 0)

    def source_lines(self):
        return b""

    def source_over(self, now):
        self.told += 1


async def test_it_is_remembered_and_counts_once():
    cf = Slow()
    async with stage(cf, GOOD, toggles=PREWARM) as rig:
        asker = Asker(rig)
        await until(lambda: cf.heard, "the source to hear")
        asker.fetch.leave(monotonic())
        assert (asker.fetch.over, asker.fetch.failed, asker.fetch.items) == (True, True, None)
        assert asker.fetch.cache == "miss"
        assert rig.counters.upstreams["cf"].inflight == 1
        cf.go.set()
        await until(lambda: rig.quiet, "the answer")
        assert asker.told == 0
        assert rig.outcomes("cf") == {"success": 1}
        assert rig.failures("cf") == (1, 0)
        assert rig.counters.cache["miss"] == 1
        again = Asker(rig)
        assert (again.told, again.fetch.cache, len(again.fetch.items.items)) == (1, "hit", 20)
        assert len(rig.cf.requests) == 1


async def test_it_holds_nobody_meanwhile():
    cf = Slow()
    async with stage(cf, GOOD) as rig:
        asker = Asker(rig)
        await until(lambda: cf.heard, "the source to hear")
        asker.fetch.leave(monotonic())
        gone = weakref.ref(asker)
        gc.disable()
        try:
            del asker
            assert gone() is None
        finally:
            gc.enable()
        cf.go.set()
        await until(lambda: rig.quiet, "the answer")


async def test_who_asks_the_same_before_it_comes_waits_for_it():
    cf = Slow()
    async with stage(cf, GOOD) as rig:
        late = Asker(rig)
        await until(lambda: cf.heard, "the source to hear")
        late.fetch.leave(monotonic())
        other = Asker(rig)
        cf.go.set()
        await until(lambda: other.told, "the answer")
        assert other.fetch.items.items
        assert (late.told, cf.heard) == (0, 1)


async def test_one_that_never_comes_ends_by_its_upstreams_time():
    async with stage(hanging, GOOD, sources={"cf": {"timeout_ms": 60}}) as rig:
        asker = Asker(rig)
        await rig.cf.until_requests(1)
        asker.fetch.leave(monotonic())
        await until(lambda: rig.quiet, "the timeout")
        assert rig.outcomes("cf") == {"timeout": 1}
        assert rig.failures("cf") == (1, 1)
        assert not rig.plane._memory.calls


async def test_what_was_not_sent_yet_is_not_sent_for_nobody():
    async with stage(hanging, GOOD, sources={"cf": {"max_inflight": 1}}) as rig:
        first, second = Asker(rig), Asker(rig, b"/candidates?user_id=8&k=4")
        await rig.cf.until_requests(1)
        assert rig.counters.upstreams["cf"].queued == 1
        second.fetch.leave(monotonic())
        assert rig.counters.upstreams["cf"].queued == 0
        assert rig.outcomes("cf") == {"aborted": 1}
        first.fetch.give_up(monotonic())
        assert rig.outcomes("cf") == {"aborted": 2}
        assert rig.quiet


async def test_what_is_too_old_stands_in_for_what_is_late():
    cf = Slow()
    cache = CacheSettings(candidates_ttl_s=10.0, stale_s=10.0)
    async with stage(cf, GOOD, toggles=PREWARM, cache=cache) as rig:
        cf.go.set()
        known = Asker(rig)
        await until(lambda: known.told, "the answer")
        cf.go.clear()
        for entry in rig.plane._memory.cache._entries.values():
            entry.at -= 10
        late = Asker(rig)
        await until(lambda: cf.heard == 2, "the source to hear")
        late.fetch.leave(monotonic())
        assert (late.fetch.cache, late.fetch.failed) == ("stale", True)
        assert late.fetch.items == known.fetch.items
        cf.go.set()
        await until(lambda: rig.quiet, "the answer")
        assert Asker(rig).fetch.cache == "hit"


class TestClientsThatLeave:
    @pytest.mark.parametrize(("mode", "ends"), [("cold", "aborted"), ("prewarm", "success")])
    async def test_the_call_goes_on_where_its_answer_will_be_read(self, mode, ends):
        cf = Slow()
        async with stage(cf, GOOD, toggles=Toggles(cache_mode=mode)) as rig:
            wire = await rig.client()
            wire.send(GET % (4, b"", b""))
            await until(lambda: cf.heard and rig.outcomes("content"), "both sources to hear")
            wire.reset()
            await until(lambda: rig.counters.connections == 0, "the end of the client")
            cf.go.set()
            await until(lambda: rig.quiet, "rest")
            assert rig.outcomes("cf") == {ends: 1}
            assert rig.slots == (0, 0)
            assert rig.counters.cell("films", "none").status[4] == 1
            if mode == "prewarm":
                assert (await rig.recommend()).metadata["cache"] == "hit"

    async def test_but_not_where_others_wait_for_its_slot(self):
        """Or the slots would be taken by nobody's calls just when they are scarce."""
        cf = Slow()
        full = {"cf": {"max_inflight": 1}}
        async with stage(cf, GOOD, toggles=PREWARM, sources=full) as rig:
            gone, waits = await rig.client(), await rig.client()
            gone.send(GET % (4, b"", b""))
            await until(lambda: cf.heard, "the source to hear")
            waits.send(GET % (3, b"", b""))
            await until(lambda: rig.counters.upstreams["cf"].queued, "the queue")
            gone.reset()
            await until(lambda: rig.outcomes("cf") == {"aborted": 1}, "the slot")
            cf.go.set()
            Recommended(await waits.response(), 3)


async def test_a_thousand_requests_of_every_fate_leave_nothing():
    """Answered, shared, aborted, late, hit, stale, met by a reload: no call, task, slot or deadline stays."""
    state = {"n": 0}

    async def moody(wire):
        while True:
            await wire.request()
            state["n"] += 1
            mood = state["n"] % 4
            if mood == 0:
                wire.send(reply(b"{}", status=b"500 Oh"))
            elif mood == 1:
                await hanging(wire)
            else:
                await offering(*many("m", 3))(wire)

    cache = CacheSettings(max_bytes=40_000, candidates_ttl_s=0.02, stale_s=0.02)
    few = {"timeout_ms": 30, "max_inflight": 20, "max_queue": 5}
    async with stage(moody, moody, toggles=PREWARM, sources={"cf": few, "content": few}, cache=cache) as rig:
        for round_ in range(20):
            clients = [await rig.client() for _ in range(25)]
            for n, wire in enumerate(clients):
                wire.send(GET % (5, b"&n=%d" % (n % 9), b"") * 2)
            askers = [Asker(rig, b"/candidates?n=%d" % n) for n in range(5)]
            for asker in askers:
                asker.fetch.leave(monotonic())
            for wire in clients[::5]:
                wire.reset()
            if round_ % 3 == 0:
                mode = ("prewarm", "warm_only", "cold")[round_ % 9 // 3]
                there = replace(rig.policy.upstreams["cf"], candidates_path=f"/v{round_}")
                upstreams = {**rig.policy.upstreams, "cf": there}
                toggles = Toggles(cache_mode=mode)
                rig.plane.apply(replace(rig.policy, toggles=toggles, upstreams=upstreams))
            for n, wire in enumerate(clients):
                if n % 5:
                    for _ in range(2):
                        Recommended(await wire.response(), 5)
                    wire.close()
        await until(lambda: rig.quiet and rig.counters.connections == 0, "rest")
        assert not rig.plane._memory.calls
        del wire, asker
        askers.clear()
        gc.collect()
        left = [found for found in gc.get_objects() if type(found) in {Fetch, Recommend, SourceCall}]
        assert not left
        assert not [lane for lane in rig.plane.ticker._lanes.values() if lane]
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("connect")]
        calls = sum(sum(cell.outcomes.values()) for cell in rig.counters.upstreams.values())
        assert calls <= 20 * 25 * 4 + 100
