"""Drills as control has them: one at a time, never beside what is real, nothing left when over."""

from dataclasses import replace

import pytest

from proxy.control.drills import DrillControl, DrillRefused
from proxy.core.override import Overrides, verify
from proxy.core.policy import Policy, Route, Sources
from proxy.core.rollback.exercises import NAMES, Clocks
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import FAILED, REQUESTS, Delta, Key, columns
from proxy.core.toggles import Toggles

KEY = b"k" * 32
ROUTE = Route(name="films", path="/", kind="recommend", sources=Sources(cf="cf", content="co"))
POLICY = Policy(routes=(ROUTE,), upstreams={}, signing_key=KEY, rollback=RollbackSettings())
CLOCKS = Clocks(lead_s=1, confirm_s=1, hold_s=2, recovery_step_s=1, limit_s=60)


class Target:
    def __init__(self):
        self.policy = POLICY
        self.drills = []
        self.settled_after = None

    def drill(self, drill):
        self.drills.append(drill)

    async def settled(self):
        self.settled_after = len(self.drills)

    @property
    def present(self):
        return self.drills[-1] if self.drills else None


class Rig:
    def __init__(self):
        self.now = 100.0
        self.earnest = ""
        self.target = Target()
        self.control = DrillControl(
            self.target,
            lambda: self.earnest,
            monotonic=lambda: self.now,
            wall=lambda: 1_700_000_000.0 + self.now,
        )

    async def start(self, name="error", clocks=CLOCKS):
        return await self.control.start(name, clocks, reason="monthly", by="ann")

    def pass_by(self, seconds):
        """The drill's requests come, and fail as its faults say."""
        until = self.now + seconds
        while self.now < until:
            self.now += 0.25
            drill = self.target.present
            counts = [0] * columns(len(POLICY.rollback.targets))
            counts[REQUESTS] = 10
            side = "drill"
            if drill is not None and drill.layers:
                side = "drill_recovered" if drill.layers[0].low else "drill_staged"
            counts[FAILED] = 10 if drill is not None and drill.faults else 0
            cells = {Key("films", "none", side): counts}
            self.control.feed(Delta(targets=POLICY.rollback.targets, cells=cells))
            self.control.tick()

    @property
    def shown(self):
        return self.control.status().drill


@pytest.fixture
async def rig():
    made = Rig()
    yield made
    made.control.stop()


async def test_a_drill_is_in_force_when_it_has_begun_and_its_requests_are_marked(rig):
    started = await rig.start()
    assert rig.target.settled_after == 1
    override = verify(KEY, started.override.encode(), Overrides(), 1_700_000_100.0).override
    assert override.drill == rig.target.present.id == started.drill.id
    assert (override.toggles, override.by, override.until) == ((), "ann", 1_700_000_161)
    assert rig.target.present.ends_at == 160.0
    assert started.override not in repr(started)


async def test_it_is_followed_until_it_is_over(rig):
    await rig.start()
    rig.pass_by(40)
    shown = rig.shown
    assert (shown.over, shown.state, shown.broken, shown.ends_in_s) == ("finished", "NORMAL", False, 0.0)
    assert [it.name for it in shown.criteria if not it.holds] == []
    assert [it.to for it in shown.moves][:3] == ["DEGRADED", "ROLLBACK_PENDING", "ROLLED_BACK"]
    assert rig.target.present is None
    faults = [bool(it and it.faults) for it in rig.target.drills]
    assert faults.count(True) >= 1  # not before the lead, and not after it was rolled back
    assert not faults[0]


@pytest.mark.parametrize("name", NAMES)
async def test_every_one_can_begin_and_no_second_beside_it(rig, name):
    await rig.start(name)
    with pytest.raises(DrillRefused, match=f"the drill {name} of ann is still running"):
        await rig.start()
    assert len(rig.target.drills) == 1


async def test_what_is_real_ends_it_at_once(rig):
    await rig.start()
    rig.pass_by(1.5)
    assert rig.target.present.faults
    rig.earnest = "the rollback is in DEGRADED"
    rig.control.tick()
    assert (rig.shown.over, rig.shown.why) == ("aborted", "the rollback is in DEGRADED")
    assert rig.target.present is None
    assert not next(it for it in rig.shown.criteria if it.name == "ended").holds
    with pytest.raises(DrillRefused, match="the rollback is in DEGRADED"):
        await rig.start()
    rig.earnest = ""
    await rig.start()


async def test_a_kill_ends_it_and_lets_none_begin(rig):
    await rig.start()
    rig.target.policy = replace(POLICY, toggles=Toggles(kill_switch=True))
    rig.control.tick()
    assert (rig.shown.over, rig.shown.why, rig.target.present) == ("aborted", "the kill switch is on", None)
    with pytest.raises(DrillRefused, match="kill switch"):
        await rig.start()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"overrides": Overrides(enabled=False)}, "overrides.enabled"),
        ({"signing_key": b""}, "signing key"),
        ({"routes": ()}, "recommends"),
        ({"rollback": RollbackSettings(triggers=())}, "no P1 trigger for error"),
    ],
)
async def test_what_it_cannot_do_without_is_named(rig, change, words):
    rig.target.policy = replace(POLICY, **change)
    with pytest.raises(DrillRefused, match=words):
        await rig.start()
    assert rig.target.drills == []


async def test_it_ends_before_its_requests_would_be_refused(rig):
    rig.target.policy = replace(POLICY, overrides=Overrides(max_ttl_s=20))
    started = await rig.start()
    assert (started.drill.ends_in_s, rig.target.present.ends_at) == (20.0, 120.0)


async def test_somebody_can_end_it_and_nothing_is_left_of_it(rig):
    assert (await rig.control.abort(reason="enough", by="bob")).drill is None
    await rig.start()
    rig.pass_by(2.5)
    found = await rig.control.abort(reason="enough", by="bob")
    assert (found.drill.over, found.drill.why) == ("aborted", "bob: enough")
    assert rig.target.present is None
    assert rig.target.settled_after == len(rig.target.drills)
    again = await rig.control.abort(reason="again", by="eve")
    assert again.drill.why == "bob: enough"


async def test_its_time_ends_it_whatever_it_waits_for(rig):
    await rig.start()
    rig.now += 60
    rig.control.tick()
    assert (rig.shown.over, rig.target.present) == ("out_of_time", None)
    before = rig.shown.for_s
    rig.now += 60
    assert rig.shown.for_s == before == 60


async def test_whoever_keeps_the_record_hears_once_of_each_that_is_over(rig):
    heard = []
    rig.control.heard = heard.append
    await rig.start()
    rig.pass_by(2.5)
    assert heard == []
    await rig.control.abort(reason="enough", by="bob")
    await rig.control.abort(reason="again", by="eve")
    assert [(it.name, it.over, it.why) for it in heard] == [("error", "aborted", "bob: enough")]


async def test_a_fault_of_ours_leaves_nothing_in_force(rig, monkeypatch):
    monkeypatch.setattr("proxy.control.drills.TICK_S", 0.0)
    await rig.start()
    monkeypatch.setattr(rig.control._begun.run, "step", lambda _: 1 / 0)
    await rig.control._running
    assert rig.shown.why.startswith("a fault of ours: ZeroDivisionError")
    assert rig.target.present is None


async def test_the_end_of_the_sidecar_is_its_end(rig):
    await rig.start()
    rig.control.stop()
    assert (rig.shown.over, rig.target.present) == ("aborted", None)
