"""The status value."""

from dataclasses import replace

import pytest
from auditing import Direct

from proxy.control import BreakerControl, KillSwitch, Numbers, Reload, StatusBoard, ToggleControl
from proxy.control.toggle_plans import patch
from proxy.core.policy import Policy, Route, Shadow, Sources, Toggles, Upstream
from proxy.storage.kill_file import KillFile
from proxy.storage.memory import MemoryStore
from proxy.storage.toggles_file import TogglesFile
from proxy.telemetry.counters import Counters


class Plane:
    def __init__(self):
        self.draining = False
        self.breakers = {}
        self.policy = Policy(
            routes=(
                Route(name="pay", path="/pay/", upstream="pay", flag="billing"),
                Route(name="rec", path="/rec", kind="recommend", sources=Sources(cf="cf", content="pay")),
            ),
            upstreams={
                "cf": Upstream(url=["http://a", "http://b"]),
                "pay": Upstream(url="http://c", max_inflight=3),
            },
            toggles=Toggles(flags={"billing": False}, version=4),
        )

    def apply(self, policy):
        self.policy = policy

    async def settled(self):
        pass


class Rig:
    def __init__(self, directory):
        self.now = 100.0
        self.plane = Plane()
        self.counters = Counters()
        numbers = Numbers()
        self.kill = KillSwitch(self.plane, KillFile(directory / "kill.json"), numbers=numbers)
        self.toggles = ToggleControl(
            self.plane,
            self.kill,
            file=TogglesFile(directory / "toggles.json"),
            journal=Direct(MemoryStore()),
            trail=None,
            numbers=numbers,
        )
        self.toggles.restore()
        self.board = StatusBoard(
            self.plane,
            self.counters,
            kill=self.kill,
            toggles=self.toggles,
            breakers=BreakerControl(self.plane),
            troubles=lambda: ["the store is gone"],
            monotonic=lambda: self.now,
        )


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


def test_what_keeps_no_traffic_away_is_told(rig):
    assert rig.board.read().troubles == ("the store is gone",)


async def test_toggles_are_told_with_whose_they_are_and_what_returns(rig):
    wanted = patch({"exposure_percent": 50, "experiment_freeze": True}, ttl_s=60)
    await rig.toggles.carry_out(rig.toggles.plan(wanted), reason="slow", by="ann")
    told = rig.board.read().toggles
    assert (told.version, told.by, told.reason, told.baseline, told.frozen) == (5, "ann", "slow", None, "")
    assert told.changed == {"exposure_percent": 50, "experiment_freeze": True}
    assert told.reverts[0].names == ("experiment_freeze", "exposure_percent")


def test_routes_say_whom_they_ask_and_whether_their_flag_is_on(rig):
    pay, rec = rig.board.read().routes
    assert (pay.upstreams, pay.flag, pay.on) == (("pay",), "billing", False)
    assert (rec.upstreams, rec.flag, rec.on) == (("cf", "pay"), "", True)


def test_shadows_say_how_far_they_agree(rig):
    assert rig.board.read().shadows == {}
    pay, rec = rig.plane.policy.routes
    shadow = Shadow(percent=2.5, toggles={"policy_mode": "collab_only"})
    rig.plane.policy = replace(rig.plane.policy, routes=(pay, replace(rec, shadow=shadow)))
    told = rig.board.read().shadows["rec"]
    assert (told.percent, told.to, told.compared, told.overlap, told.shadow_ms) == (2.5, "", 0, None, None)
    cell = rig.counters.shadow("rec")
    cell.results["same"], cell.results["other_items"], cell.results["skipped_busy"] = 1, 3, 7
    cell.agreed(1.0, 1.0)
    cell.agreed(0.5, 0.4)
    cell.real_seconds, cell.seconds = 0.4, 0.2
    told = rig.board.read().shadows["rec"]
    assert (told.compared, told.same, told.overlap, told.rank_agreement) == (4, 1, 0.75, 0.7)
    assert (told.real_ms, told.shadow_ms) == (100.0, 50.0)
    assert told.results == {"same": 1, "other_items": 3, "skipped_busy": 7}


def test_upstreams_say_what_is_under_way_also_before_their_first_call(rig):
    cell = rig.counters.upstream("pay")
    cell.inflight, cell.queued = 2, 1
    rig.counters.connections = 9
    status = rig.board.read()
    assert status.connections == 9
    assert (status.upstreams["pay"].inflight, status.upstreams["pay"].queued) == (2, 1)
    assert status.upstreams["pay"].max_inflight == 3
    assert status.upstreams["cf"].inflight == 0
    assert status.upstreams["cf"].urls == ("http://a", "http://b")


def test_times_count_from_the_start_and_from_the_policy(rig):
    rig.now = 160.0
    assert rig.board.read().uptime_s == 60.0
    assert rig.board.policy_age_s() == 60.0
    rig.plane.apply(replace(rig.plane.policy, routes=()))
    assert rig.board.policy_age_s() == 0.0
    rig.now = 161.0
    status = rig.board.read()
    assert (status.uptime_s, status.policy_age_s) == (61.0, 1.0)


def test_drain_version_and_the_last_reload_are_shown(rig):
    assert rig.board.read().reload is None
    rig.plane.draining = True
    rig.board.reload = Reload(ok=False, at="now", problems=("x",))
    status = rig.board.read()
    assert status.draining
    assert status.policy_version == 4
    assert status.reload.problems == ("x",)
