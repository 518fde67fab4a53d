"""The service behind previews: what it reads, and that it leaves others their turn."""

import asyncio
from dataclasses import replace

import pytest

from proxy.control import preview
from proxy.control.preview import Previews
from proxy.core.identity import Who
from proxy.core.inputs import Input, Recent
from proxy.core.policy import Policy, Route, Sources, Upstream
from proxy.core.toggles import Toggles
from proxy.tasks import spawn
from proxy.telemetry.counters import Counters


class Rig:
    """A policy in force, counters, and requests that came at times the test says."""

    def __init__(self, **toggles):
        self.now = 1_000.0
        self.look_s = 0.0  # what each look at the clock takes
        route = Route(name="films", path="/films", kind="recommend", sources=Sources(cf="cf", content="co"))
        self.policy = Policy(
            routes=(route,),
            upstreams={"cf": Upstream(url="http://a"), "co": Upstream(url="http://b")},
            toggles=Toggles(**toggles),
        )
        self.counters = Counters()
        self.recent = Recent()
        self.previews = Previews(self, self.counters, self.recent, monotonic=self.clock)
        self.previews.look()

    def clock(self):
        self.now += self.look_s
        return self.now

    def came(self, *users, at=None):
        at = self.now if at is None else at
        self.recent.add(
            Input("films", Who(user.encode(), b"", b"", b""), user.encode(), 1, 1, at) for user in users
        )

    def answered(self, name, calls, latency_s=0.1):
        cell = self.counters.upstream(name)
        cell.outcomes["success"] += calls
        cell.buckets[3] += calls
        cell.seconds += calls * latency_s

    def slot(self):
        self.now += 10.0
        self.previews.look()

    async def preview(self, **toggles):
        return await self.previews.preview(replace(self.policy, toggles=Toggles(**toggles)))


async def test_requests_are_decided_again_and_loads_compared_with_what_counters_showed():
    rig = Rig(policy_mode="collab_only")
    rig.came("u", "v", at=rig.now)
    rig.counters.upstream("co")
    rig.slot()
    rig.answered("co", 50)
    rig.slot()
    found = await rig.preview(policy_mode="content_only")
    assert (found.users, found.changed.users, found.span_s) == (2, 2, 20.0)
    cf, co = found.upstreams
    assert (cf.before_per_s, cf.after_per_s, cf.shown_per_s) == (0.1, 0.0, None)
    assert (co.before_per_s, co.after_per_s, co.shown_per_s, co.limit_per_s) == (0.0, 0.1, 5.0, 5120.0)
    assert (co.verdict, found.verdict) == ("fits", "fits")


async def test_how_much_the_cache_keeps_from_sources_is_seen():
    rig = Rig(cache_mode="prewarm")
    rig.came("u", "v")
    rig.counters.cache |= {"hit": 60, "miss": 30, "stale": 10, "bypass": 500}
    rig.slot()
    found = await rig.preview(cache_mode="cold")
    assert found.cache_missed == 0.4
    assert [(it.before_per_s, it.after_per_s) for it in found.upstreams] == [(0.08, 0.2)] * 2


async def test_what_is_older_than_ten_minutes_is_forgotten_without_being_asked_for():
    rig = Rig()
    rig.came("old")
    for _ in range(60):
        rig.slot()
    assert len(rig.recent) == 0
    assert (await rig.preview()).verdict == "unknown"


async def test_others_get_their_turn_after_each_millisecond(monkeypatch):
    monkeypatch.setattr(preview, "_REST", 0.0)
    rig = Rig()
    rig.came(*map(str, range(2_000)))
    rig.look_s = 0.0005
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = spawn(others(), "others")
    found = await rig.preview(disable_cf=True)
    running.cancel()
    assert (found.replayed, found.changed.users) == (2_000, 2_000)
    assert turns > 40


async def test_what_there_is_no_time_for_is_stood_for_by_the_rest(monkeypatch):
    """As with ten thousand rules: a part of the requests, over all the time; loads are those of all."""
    monkeypatch.setattr(preview, "_REST", 0.0)
    rig = Rig()
    for second in range(600):
        rig.came(*(f"{second}-{n}" for n in range(10)), at=rig.now - second)
    rig.look_s = 0.01
    found = await rig.preview(disable_cf=True)
    assert (found.requests, found.changed.users) == (6_000, found.replayed)
    assert 500 < found.replayed < 2_000
    cf = found.upstreams[0]
    assert cf.before_per_s == pytest.approx(10.0, rel=0.02)
    assert cf.busiest_before_per_s == pytest.approx(10.0, rel=0.4)
    assert found.span_s > 590


async def test_it_is_compared_with_what_would_be_in_force():
    """A flap budget holds back some of those whom the toggles let in."""
    rig = Rig(exposure_percent=0)
    rig.came("u", "v")

    def foreseen(policy):
        return replace(policy, held={None: ((0, 5_000),)})

    rig.previews = Previews(rig, rig.counters, rig.recent, foreseen=foreseen, monotonic=rig.clock)
    assert (await rig.preview()).exposed_after == 0


async def test_a_policy_applied_meanwhile_does_not_mix_in():
    rig = Rig()
    rig.came(*map(str, range(100)))
    rig.look_s = 0.001
    asked = spawn(rig.preview(disable_cf=True), "preview")
    await asyncio.sleep(0)
    rig.policy = replace(rig.policy, toggles=Toggles(kill_switch=True))
    found = await asked
    assert {move.before.policy for move in found.moves} == {"hybrid_default"}
