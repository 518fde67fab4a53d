"""Requests that ask a source the same at the same moment share one call."""

import asyncio
from dataclasses import replace

import orjson
import pytest
from harness import Wire, reply, until
from recommending import GET, ROUTE, Recommended, hanging, many, offering, offers, stage

from proxy.core.breaker import BreakerSettings
from proxy.dataplane.recommend import Recommend
from proxy.tasks import spawn

GOOD = offering(*many("g", 20))
BROKEN = reply(b"{}", status=b"500 Oops")


class Slow:
    """A source that answers when the test says so."""

    def __init__(self, answer=None):
        self.answer = answer or offers(*many("s", 20))
        self.go = asyncio.Event()
        self.heard = 0

    async def __call__(self, wire: Wire) -> None:
        while True:
            await wire.request()
            self.heard += 1
            await self.go.wait()
            wire.send(self.answer)


async def crowd(rig, source, count, request=GET % (4, b"", b"")):
    """So many clients that have asked and wait."""
    clients = [await rig.client() for _ in range(count)]
    for wire in clients:
        wire.send(request)

    def waiting():
        begun = (sum(cell.outcomes.values()) + cell.inflight for cell in rig.counters.upstreams.values())
        return rig.counters.coalesced + sum(begun)

    await until(lambda: waiting() >= 2 * count, "all of them to wait")
    await until(lambda: source.heard, "the source to hear")
    return clients


async def test_a_hundred_identical_requests_are_one_call():
    """To the source, the breaker, the slots in flight, the counters; each has an answer of its own."""
    cf, content = Slow(), Slow()
    async with stage(cf, content) as rig:
        clients = await crowd(rig, cf, 100)
        assert [cell.inflight for cell in rig.counters.upstreams.values()] == [1, 1]
        cf.go.set()
        content.go.set()
        answers = [Recommended(await wire.response(), 4) for wire in clients]
        assert len({answer.answer.get("x-request-id") for answer in answers}) == 100
        assert all(answer.items == answers[0].items and not answer.degraded for answer in answers)
        assert (len(rig.cf.requests), len(rig.content.requests)) == (1, 1)
        assert rig.outcomes("cf") == {"success": 1}
        assert rig.failures("cf") == (1, 0)
        assert rig.counters.coalesced == 198
        assert rig.slots == (400, 400)
        assert rig.counters.cell("films", "none").status[2] == 100
        assert rig.quiet
        assert not rig.plane._memory.calls


async def test_a_failure_is_shared_as_well():
    """Nobody tries again for himself: that would be a stampede at the worst moment."""
    cf = Slow(BROKEN)
    breaker = BreakerSettings(consecutive_failures=2)
    async with stage(cf, GOOD, sources={"cf": {"breaker": breaker}}) as rig:
        clients = await crowd(rig, cf, 30)
        cf.go.set()
        for wire in clients:
            assert Recommended(await wire.response(), 4).degraded
        assert rig.outcomes("cf") == {"error": 1}
        assert rig.plane.breakers["cf"].state == "closed"
        await rig.recommend()
        assert rig.plane.breakers["cf"].state == "open"
        assert rig.outcomes("cf") == {"error": 2}


async def test_whoever_asks_later_makes_a_call_of_his_own():
    async with stage(GOOD, GOOD) as rig:
        for n in (1, 2, 3):
            await rig.recommend()
            assert len(rig.cf.requests) == n
        assert rig.counters.coalesced == 0


async def test_another_question_is_another_call():
    cf = Slow()
    async with stage(cf, GOOD) as rig:
        requests = [GET % (k, query, b"") for k in (3, 4) for query in (b"", b"&genres=drama")]
        requests += [GET % (4, b"", b"X-User-Id: 8\r\n")]
        clients = []
        for request in requests:
            clients.append(await rig.client())
            clients[-1].send(request)
        await until(lambda: cf.heard == len(requests), "all of them")
        cf.go.set()
        for wire in clients:
            assert (await wire.response()).status == 200
        assert rig.counters.coalesced == 0


class TestLeaving:
    async def test_the_others_have_their_answer_when_the_first_goes(self):
        cf = Slow()
        async with stage(cf, GOOD) as rig:
            first, *others = await crowd(rig, cf, 5)
            first.reset()
            await until(lambda: rig.counters.connections == 4, "the end of the first")
            cf.go.set()
            for wire in others:
                assert not Recommended(await wire.response(), 4).degraded
            assert rig.outcomes("cf") == {"success": 1}
            assert rig.counters.cell("films", "none").status == [0, 0, 4, 0, 1, 0]

    async def test_the_call_ends_with_the_last_of_them(self):
        cf = Slow()
        async with stage(cf, GOOD) as rig:
            for left, wire in enumerate(reversed(await crowd(rig, cf, 5))):
                assert rig.outcomes("cf") == {}
                wire.reset()
                await until(lambda left=left: rig.counters.connections == 4 - left, "the end of one")
            await until(lambda: rig.quiet, "rest")
            assert rig.outcomes("cf") == {"aborted": 1}
            assert rig.failures("cf") == (0, 0)
            assert not rig.plane._memory.calls
            await until(lambda: rig.cf.wires[0].eof, "the end of the call upstream")

    async def test_who_comes_after_that_begins_anew(self):
        cf = Slow()
        async with stage(cf, GOOD) as rig:
            (only,) = await crowd(rig, cf, 1)
            only.reset()
            await until(lambda: rig.quiet, "rest")
            cf.go.set()
            assert not (await rig.recommend()).degraded
            assert rig.outcomes("cf") == {"aborted": 1, "success": 1}

    async def test_a_drain_waits_for_all_of_them(self):
        cf = Slow()
        async with stage(cf, GOOD) as rig:
            clients = await crowd(rig, cf, 3)
            draining = spawn(rig.plane.drain(), "drain")
            await until(lambda: rig.plane.draining, "the drain")
            cf.go.set()
            for wire in clients:
                assert Recommended(await wire.response(), 4)
            await draining

    async def test_what_is_cut_off_at_the_end_is_accounted_for(self):
        cf = Slow()
        async with stage(cf, GOOD) as rig:
            await crowd(rig, cf, 3)
            rig.plane.close()
            await until(lambda: rig.quiet, "rest")
            assert rig.outcomes("cf") == {"aborted": 1}


def two_routes(**second):
    """The route, and another one over the same sources."""
    return ROUTE, replace(ROUTE, name="others", path="/others", **second)


class TestUnlike:
    """Who would be served worse by the call under way makes one of his own."""

    async def ask_both(self, rig, cf, first, then):
        wires = []
        for heard, path in enumerate((first, then), 1):
            wire = await rig.client()
            wire.send((GET % (4, b"", b"")).replace(b"/recommendations", path))
            wires.append(wire)
            if heard == 1:
                await until(lambda: cf.heard, "the first")
        return wires

    @pytest.mark.parametrize(("priority", "calls"), [("critical", 2), ("normal", 1), ("low", 1)])
    async def test_by_importance(self, priority, calls):
        """A call of a lesser one may be shed from the queue."""
        cf = Slow()
        async with stage(cf, GOOD) as rig:
            rig.plane.apply(replace(rig.policy, routes=two_routes(priority=priority)))
            wires = await self.ask_both(rig, cf, b"/recommendations", b"/others")
            await until(lambda: rig.counters.coalesced + cf.heard >= 2, "both")
            cf.go.set()
            for wire in wires:
                assert (await wire.response()).status == 200
            assert cf.heard == calls

    @pytest.mark.parametrize(("first", "then", "calls"), [(b"/others", b"/recommendations", 2),
                                                          (b"/recommendations", b"/others", 1)])  # fmt: skip
    async def test_by_who_is_judged(self, first, then, calls):
        """What traffic set aside asks is hidden from the breaker, which has to learn of real traffic's."""
        cf = Slow()
        async with stage(cf, GOOD) as rig:
            rig.plane.apply(replace(rig.policy, routes=two_routes()))
            choices = rig.plane._bound["others"].choices
            choices.fixed = choices.fixed.under(
                replace(choices.fixed.decision, aside="drill"), choices.fixed.popular
            )
            wires = await self.ask_both(rig, cf, first, then)
            shared = (rig.counters, rig.counters.aside("drill"))
            await until(lambda: sum(it.coalesced for it in shared) + cf.heard >= 2, "both")
            cf.go.set()
            for wire in wires:
                assert (await wire.response()).status == 200
            assert cf.heard == calls
            assert rig.failures("cf") == (1, 0)

    async def test_by_time_each_waits_as_long_as_his_route_says(self):
        """The shorter one is answered without the source; the call goes on for the other."""
        cf = Slow()
        async with stage(cf, GOOD) as rig:
            rig.plane.apply(replace(rig.policy, routes=two_routes(total_ms=40)))
            long, short = await self.ask_both(rig, cf, b"/recommendations", b"/others")
            answer = orjson.loads((await short.response()).body)
            assert {item["source"] for item in answer["items"]} == {"content"}
            assert answer["metadata"]["degraded"]
            assert rig.outcomes("cf") == {}
            cf.go.set()
            assert not Recommended(await long.response(), 4).degraded
            assert cf.heard == 1
            assert rig.outcomes("cf") == {"success": 1}


async def test_a_fault_in_one_answer_is_not_the_others(monkeypatch):
    cf = Slow()
    async with stage(cf, GOOD) as rig:
        clients = await crowd(rig, cf, 20)
        await until(lambda: not rig.counters.upstreams["content"].inflight, "the other source")
        over, told = Recommend.source_over, []

        def faulty(self, now):
            told.append(self)
            if len(told) == 3:
                raise RuntimeError("a fault of ours")
            over(self, now)

        monkeypatch.setattr(Recommend, "source_over", faulty)
        cf.go.set()
        await until(lambda: len(told) == 20, "all of them told")
        monkeypatch.undo()
        await until(lambda: sum(wire.data != b"" for wire in clients) == 19, "the others' answers")
        (complaint,) = rig.complaints
        assert "a fault of ours" in complaint
        rig.complaints.clear()


async def test_answering_a_crowd_lets_others_have_their_turn(monkeypatch):
    """The loop looks at its sockets between a few answers."""
    cf = Slow()
    async with stage(cf, GOOD) as rig:
        clients = await crowd(rig, cf, 50)
        await until(lambda: rig.counters.cache["bypass"] == 50, "the other source, for all of them")
        over, turns = Recommend.source_over, []
        turn = 0

        def counted(self, now):
            turns.append(turn)
            over(self, now)

        def next_turn():
            nonlocal turn
            turn += 1
            if len(turns) < 50:
                asyncio.get_running_loop().call_soon(next_turn)

        monkeypatch.setattr(Recommend, "source_over", counted)
        cf.go.set()
        next_turn()
        for wire in clients:
            assert (await wire.response()).status == 200
        assert max(turns.count(one) for one in turns) <= 16


async def test_one_upstream_for_both_sources_is_asked_once():
    """The same question to the same place."""
    async with stage(GOOD, GOOD) as rig:
        route = replace(ROUTE, sources=replace(ROUTE.sources, content="cf"))
        rig.plane.apply(replace(rig.policy, routes=(route,)))
        got = await rig.recommend()
        assert set(got.sources) == {"hybrid"}
        assert len(rig.cf.requests) == 1


async def test_a_source_that_hangs_is_late_for_all():
    async with stage(hanging, GOOD, sources={"cf": {"timeout_ms": 40}}) as rig:
        clients = [await rig.client() for _ in range(5)]
        for wire in clients:
            wire.send(GET % (4, b"", b""))
        for wire in clients:
            assert Recommended(await wire.response(), 4).degraded
        assert rig.outcomes("cf") == {"timeout": 1}
        assert rig.failures("cf") == (1, 1)
