"""Layers before the data plane: the operator's policy is seen without them, and never loses one."""

from dataclasses import replace

import pytest

from proxy.control import KillSwitch
from proxy.control.flaps import FlapGuard
from proxy.control.layering import Layering, opens
from proxy.core.policy import Policy
from proxy.core.rollback.layers import Patch
from proxy.core.toggles import Scope, Toggles
from proxy.storage.kill_file import KillFile

STAGE = (Patch("2", {"disable_cf": True}),)


class Plane:
    def __init__(self):
        self.policy = Policy(routes=(), upstreams={})
        self.refuses = False

    def apply(self, policy):
        if self.refuses:
            raise ValueError("no")
        self.policy = policy

    async def settled(self):
        pass


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def layering(plane):
    return Layering(FlapGuard(plane))


def test_a_layer_is_in_force_at_once_and_the_operator_sees_none(plane, layering):
    layering.lay(STAGE)
    assert plane.policy.layers == STAGE
    assert layering.policy.layers == ()
    assert layering.layers == STAGE


def test_a_change_of_toggles_neither_loses_a_layer_nor_keeps_it_when_it_is_off(plane, layering):
    layering.lay(STAGE)
    layering.apply(replace(layering.policy, toggles=Toggles(version=7)))
    assert (plane.policy.toggles.version, plane.policy.layers) == (7, STAGE)
    layering.lay(())
    assert (plane.policy.toggles.version, plane.policy.layers) == (7, ())
    layering.apply(layering.policy)
    assert plane.policy.layers == ()


async def test_the_kill_switch_moves_above_layers_and_leaves_them(plane, layering, tmp_path):
    kill = KillSwitch(layering, KillFile(tmp_path / "kill.json"))
    layering.lay(STAGE)
    await kill.set(True, reason="fire", by="me")
    assert (plane.policy.toggles.kill_switch, plane.policy.layers) == (True, STAGE)
    layering.lay(())
    assert plane.policy.toggles.kill_switch
    await kill.set(False, reason="out", by="me")
    assert (plane.policy.toggles.kill_switch, plane.policy.layers) == (False, ())


def test_who_lets_users_back_in_by_the_flap_budget_keeps_the_layers(plane):
    flaps = FlapGuard(plane)
    Layering(flaps).lay(STAGE)
    flaps.due()
    assert plane.policy.layers == STAGE


def test_what_the_data_plane_refuses_changes_nothing(plane, layering):
    layering.lay(STAGE)
    plane.refuses = True
    for change in (lambda: layering.lay(()), lambda: layering.apply(replace(layering.policy, warm=None))):
        before = layering.policy
        with pytest.raises(ValueError, match="no"):
            change()
        assert (layering.layers, plane.policy.layers) == (STAGE, STAGE)
        assert layering.policy is before


def test_the_same_layers_again_are_no_change(plane, layering):
    layering.lay(STAGE)
    before = plane.policy
    layering.lay(tuple(STAGE))
    assert plane.policy is before


def test_a_preview_sees_a_policy_under_the_layers_in_force_or_under_others(layering):
    layering.lay(STAGE)
    assert layering.over(layering.policy).layers == STAGE
    assert layering.over(layering.policy, ()).layers == ()


def stage(name, **how):
    return Patch(name, {}, **how)


EU, US = Scope(region=("eu",)), Scope(region=("us",))


@pytest.mark.parametrize(
    ("before", "after", "does"),
    [
        ([], [stage("1")], False),
        ([stage("1")], [], True),
        ([stage("1")], [stage("2")], False),
        ([stage("2")], [stage("1")], True),
        ([stage("1")], [stage("2", high=1_000), stage("2", low=1_000)], False),
        ([stage("1")], [stage("2", high=1_000), stage("2", low=1_001)], True),
        ([stage("2")], [stage("2", low=100)], True),
        ([stage("2", low=100)], [stage("2")], False),
        ([stage("1", scope=EU)], [stage("1")], False),
        ([stage("1")], [stage("1", scope=EU)], True),
        ([stage("2", scope=EU)], [stage("1"), stage("3", scope=US)], True),
        ([stage("1"), stage("2", scope=EU)], [stage("1"), stage("2", scope=EU), stage("2", scope=US)], False),
        ([stage("2")], [stage("degraded", exact=True)], True),
        ([stage("degraded", exact=True)], [stage("3")], True),
        ([stage("degraded", exact=True)], [stage("degraded", exact=True)], False),
        ([stage("2", low=10_000)], [], False),
    ],
)
def test_what_leaves_somebody_under_less_opens(before, after, does):
    assert opens(tuple(before), tuple(after)) == does
