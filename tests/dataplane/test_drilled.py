"""A drill on the wire: faults and layers for its own requests, for nobody else, and only for its time."""

import asyncio
from dataclasses import replace

import orjson
import pytest
from harness import until
from recommending import GET, at_path, many, offering, offers, stage
from test_overrides import KEY, token
from test_paging import page

from proxy.clock import monotonic, wall
from proxy.core.override import Override, sign, verify
from proxy.core.policy import Overrides
from proxy.core.rollback.drills import Drill, Fault
from proxy.core.rollback.layers import Patch
from proxy.core.rollback.signals import FAILED, REQUESTS
from proxy.core.routing import SALT, bucket
from proxy.core.toggles import STAGES, Toggles

CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))


def drill(*faults, layers=(), seconds=600.0, name="d-1"):
    return Drill(id=name, ends_at=monotonic() + seconds, faults=faults, layers=layers)


def opened(*faults, layers=(), seconds=600.0, cf=CF, content=CONTENT, **more):
    on = drill(*faults, layers=layers, seconds=seconds)
    return stage(cf, content, **{"signing_key": KEY, "drill": on} | more)


def marked(name="d-1", **toggles):
    at = int(wall())
    made = Override("o-1", "ann", at, at + 600, tuple(sorted(toggles.items())), name)
    return b"X-Fusebox-Override: %b\r\n" % sign(KEY, made).encode()


def asked(rig):
    return len(rig.cf.requests), len(rig.content.requests)


def error(source, **more):
    return Fault(source=source, effect="error", **more)


async def drilled(rig, fields=None, k=4):
    return await rig.recommend(k, fields=fields or marked(), aside=True)


async def told(rig, fields=None):
    got = await drilled(rig, (fields or marked()) + b"X-Fusebox-Explain: 1\r\n")
    return got, {it["kind"]: it for it in orjson.loads(got.answer.get("x-fusebox-explanation"))["sources"]}


async def test_a_source_fails_without_being_asked():
    async with opened(error("cf")) as rig:
        got, sources = await told(rig)
        assert (got.sources, got.degraded, asked(rig)) == (["content"] * 4, True, (0, 1))
        assert (sources["cf"]["outcome"], sources["content"]["outcome"]) == ("injected", "answered")
        assert rig.outcomes("cf") == rig.outcomes("content") == {}
        assert (rig.failures("cf"), rig.slots) == ((0, 0), (0, 0))
        aside = rig.counters.aside("drill")
        assert sum(aside.cell("films", "none").status) == 1
        assert "override" not in rig.counters.asides


async def test_nobody_else_notices_a_drill():
    """Not real requests, not overrides, not those of another drill; and both are served side by side."""
    layers = (Patch("2", STAGES["2"]),)
    async with opened(error("cf"), error("content"), layers=layers) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", b"") + GET % (4, b"", marked()) + GET % (4, b"", b""))
        found = [await wire.response() for _ in range(3)]
        documents = [orjson.loads(it.body) for it in found]
        assert [it["metadata"]["degraded"] for it in documents] == [False, True, False]
        assert [b"stage=2" in it.get("x-fusebox-decision") for it in found] == [False, True, False]
        assert documents[0]["metadata"]["policy"] == documents[2]["metadata"]["policy"] == "hybrid_default"
        for fields in (b"X-Fusebox-Override: %b\r\n" % token(), marked("d-0")):
            other = await drilled(rig, fields)
            assert (other.degraded, other.stage) == (False, "")
        assert sum(rig.counters.aside("override").cell("films", "none").status) == 2
        assert asked(rig) == (4, 4)
        assert rig.outcomes("cf") == rig.outcomes("content") == {"success": 2}
        assert rig.slots == (8, 8)


async def test_a_drill_has_its_own_layers_in_place_of_the_real_ones():
    async with opened(layers=(Patch("1", STAGES["1"]),)) as rig:
        rig.plane.apply(replace(rig.plane.policy, layers=(Patch("2", STAGES["2"]),)))
        assert (await drilled(rig)).stage == "1"
        assert (await rig.recommend(4)).stage == "2"
        over = {"policy_mode": "collab_only", "cache_mode": "cold"}
        assert (await drilled(rig, marked(**over))).metadata["policy"] == "collab_only"


async def test_the_kill_switch_is_above_every_drill():
    async with opened(error("cf"), toggles=Toggles(kill_switch=True)) as rig:
        got = await rig.recommend(4, fields=marked())
        assert (got.metadata["policy"], asked(rig)) == ("kill_switch", (0, 0))


async def test_a_drilled_kill_kills_the_drill_alone():
    async with opened(layers=(Patch("emergency", STAGES["emergency"]),)) as rig:
        assert not rig.plane.killed
        assert (await drilled(rig)).metadata["policy"] == "kill_switch"
        assert asked(rig) == (0, 0)
        assert (await rig.recommend(4)).metadata["policy"] == "hybrid_default"


@pytest.mark.parametrize("seconds", [-1.0, 0.0])
async def test_when_its_time_is_over_nothing_is_left_of_it(seconds):
    """Whoever ordered it may be dead: the policy still has the drill, and nobody goes by it."""
    async with opened(error("cf"), layers=(Patch("2", STAGES["2"]),), seconds=seconds) as rig:
        got = await drilled(rig)
        assert (got.degraded, got.stage, asked(rig)) == (False, "", (1, 1))
        assert list(rig.counters.asides) == ["override"]


async def test_its_time_may_end_while_its_requests_are_served():
    async with opened(Fault(source="cf", effect="error"), seconds=600.0) as rig:
        rig.plane.apply(replace(rig.plane.policy, drill=drill(error("cf"), seconds=600.0)))
        faults = rig.plane._bound["films"].choices.drilled._bound.faults
        assert faults.hit("cf", monotonic()) is not None
        assert faults.hit("cf", monotonic() + 601.0) is None


async def test_a_share_of_few_requests_is_that_share():
    async with opened(error("cf", share=0.25)) as rig:
        found = [(await drilled(rig)).degraded for _ in range(8)]
        assert found == [False, False, False, True] * 2


async def test_a_source_that_offers_nothing_leaves_its_slots_open():
    """Coverage is lost and nothing has failed; who would be asked for neighbours offers none either."""
    near = at_path(b"/neighbours", offers(*many("n", 9)), offers(*many("co", 20)))
    nothing = Fault(source="cf", effect="empty"), Fault(source="content", effect="empty")
    settings = {"content": {"neighbours_path": "/neighbours"}}
    async with opened(*nothing, content=near, sources=settings) as rig:
        got, sources = await told(rig)
        assert (got.sources, got.metadata["coverage"]) == (["popularity"] * 4, 0.0)
        assert {it["outcome"] for it in sources.values()} == {"injected"}
        assert asked(rig) == (0, 0)


async def test_a_slow_source_is_asked_later_and_its_answer_counts():
    async with opened(Fault(source="cf", effect="delay", delay_ms=40)) as rig:
        got, sources = await told(rig)
        assert (got.degraded, asked(rig)) == (False, (1, 1))
        assert sources["cf"]["outcome"] == "answered"
        assert sources["cf"]["milliseconds"] >= 40 > sources["content"]["milliseconds"]


async def test_no_deadline_cuts_off_what_is_to_be_slow():
    """Else where sources have little time every drill of latency would be one of errors."""
    late = Fault(source="cf", effect="delay", delay_ms=80)
    for more in ({"sources": {"cf": {"timeout_ms": 40}}}, {"route": {"deadline_ms": 60}}):
        async with opened(late, **more) as rig:
            got, sources = await told(rig)
            assert (got.degraded, asked(rig)) == (False, (1, 1))
            assert sources["cf"]["milliseconds"] >= 80
            assert got.timings["total"] >= 80


async def test_a_source_that_hangs_behind_its_delay_has_its_own_deadline():
    async def silent(wire):
        await wire.request()
        await asyncio.Event().wait()

    slow = Fault(source="cf", effect="delay", delay_ms=30)
    for more in ({"sources": {"cf": {"timeout_ms": 40}}}, {"route": {"deadline_ms": 60}}):
        async with opened(slow, cf=silent, **more) as rig:
            got, sources = await told(rig)
            assert (got.sources, got.degraded) == (["content"] * 4, True)
            assert sources["cf"]["outcome"] in {"timeout", "late"}


async def test_a_kill_keeps_who_is_held_from_asking():
    async with opened(Fault(source="cf", effect="delay", delay_ms=60)) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", marked()))
        await until(lambda: rig.content.requests, "content")
        rig.plane.apply(replace(rig.plane.policy, toggles=Toggles(kill_switch=True), drill=None))
        assert (await wire.response()).status == 200
        assert asked(rig) == (0, 1)


async def test_who_leaves_while_a_source_is_held_leaves_nothing_behind():
    async with opened(Fault(source="cf", effect="delay", delay_ms=400)) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", marked()))
        await until(lambda: rig.content.requests, "content")
        wire.reset()
        await until(lambda: not rig.counters.connections, "the end")
        lanes = rig.plane.ticker._lanes
        assert not any(len(lane) for (_, of), lane in lanes.items() if of == "injected")
        assert asked(rig) == (0, 1)


async def test_further_pages_of_a_drill_are_of_the_drill():
    async with opened(error("cf")) as rig:
        begun = await page(rig, fields=marked())
        rest = await page(rig, begun.next, fields=marked())
        assert begun.sources == rest.sources == {"content"}
        assert not set(begun.ids) & set(rest.ids)
        assert len(rig.cf.requests) == 0


def test_what_drill_an_override_belongs_to_is_signed_with_it():
    at = int(wall())
    for name in ("", "d-1"):
        made = Override("o-1", "ann", at, at + 600, (), name)
        assert verify(KEY, sign(KEY, made).encode(), Overrides(), at).override == made


async def test_a_drill_counts_on_sides_of_its_own():
    """As its toggles say, under its stage, let out again, by decision: real traffic has other cells."""
    cases = [
        ((), "drill"),
        ((Patch("2", STAGES["2"]),), "drill_staged"),
        ((Patch("2", STAGES["2"], low=bucket(b"7", SALT) + 1),), "drill_recovered"),
        ((Patch("1", {"exposure_percent": 0}),), "drill_decided"),
        ((Patch("emergency", STAGES["emergency"]),), "drill_decided"),
    ]
    async with opened() as rig:
        rig.plane.books.take(monotonic())
        for layers, side in cases:
            rig.plane.apply(replace(rig.plane.policy, drill=drill(error("content"), layers=layers)))
            await drilled(rig)
            cells = rig.plane.books.take(monotonic()).cells
            assert {key.side for key in cells} == {side}
            (cell,) = cells.values()
            assert cell[REQUESTS] == 1
            assert cell[FAILED] == (side != "drill_decided")
