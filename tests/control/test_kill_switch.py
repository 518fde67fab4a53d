"""The kill switch: what takes effect when, and what a restart finds."""

import asyncio
import logging
import threading

import pytest

from proxy.control.kill import KillRefused, KillSwitch
from proxy.core.policy import Policy, Toggles
from proxy.ports import KillDecision, StoreError
from proxy.storage.kill_file import KillFile
from proxy.tasks import spawn


class Plane:
    def __init__(self, *, kill=False):
        self.policy = policy(kill=kill)
        self.states = []
        self.settled_at = []  # the states there were when it was last waited for

    def apply(self, policy):
        self.policy = policy
        self.states.append(policy.toggles.kill_switch)

    async def settled(self):
        self.settled_at = list(self.states)


class Store:
    """Keeps decisions in memory; each save waits for `gate` and fails when told to."""

    def __init__(self, kept=None):
        self.kept = kept
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()

    def load(self):
        if self.broken:
            raise StoreError("kill.json: no JSON")
        return self.kept

    def save(self, decision):
        assert self.gate.wait(10)
        if self.broken:
            raise StoreError("disk full")
        self.kept = decision


def policy(*, kill=False, version=1):
    return Policy(
        routes=(), upstreams={}, toggles=Toggles(kill_switch=kill, version=version, flags={"f": False})
    )


def said(kill):
    return KillDecision(kill=kill, reason="before", by="bob", at="2026-01-01T00:00:00+00:00")


def switch(plane, store):
    made = KillSwitch(plane, store, wall=lambda: 0.0)
    made.restore()
    return made


async def test_on_and_off_say_who_why_and_when():
    plane, store = Plane(), Store()
    kill = switch(plane, store)
    status = await kill.set(True, reason="cf burns", by="ann")
    assert plane.policy.toggles.kill_switch is True
    assert status == kill.status
    assert (status.reason, status.by, status.at) == ("cf burns", "ann", "1970-01-01T00:00:00+00:00")
    assert status.persisted
    assert store.kept.kill is True
    assert (await kill.set(False, reason="mended", by="ann")).kill is False
    assert plane.policy.toggles.kill_switch is False
    assert store.kept.kill is False


async def test_on_and_off_are_answered_once_they_hold_everywhere():
    plane = Plane()
    kill = switch(plane, Store())
    for change in (kill.set(True, reason="r", by="ann"), kill.set(False, reason="r", by="ann")):
        await change
        assert plane.settled_at == plane.states


async def test_on_takes_effect_before_the_disk_answers():
    plane, store = Plane(), Store()
    kill = switch(plane, store)
    store.gate.clear()
    setting = spawn(kill.set(True, reason="r", by="ann"), "set")
    await asyncio.sleep(0)
    assert plane.policy.toggles.kill_switch is True
    assert not kill.status.persisted
    store.gate.set()
    assert (await setting).persisted


async def test_on_stays_on_when_it_cannot_be_remembered_and_can_be_said_again():
    plane, store = Plane(), Store()
    kill = switch(plane, store)
    store.broken = True
    status = await kill.set(True, reason="r", by="ann")
    assert status.kill
    assert not status.persisted
    store.broken = False
    assert (await kill.set(True, reason="r", by="ann")).persisted


async def test_what_could_not_be_remembered_is_a_trouble_until_it_is(caplog):
    plane, store = Plane(), Store()
    kill = switch(plane, store)
    store.broken = True
    await kill.set(True, reason="r", by="ann")
    caplog.clear()
    await kill.catch_up()
    assert kill.trouble == "the kill switch is ON, but a restart would forget it: disk full"
    assert caplog.text == "", "it is logged once"
    store.broken = False
    await kill.catch_up()
    assert (kill.trouble, kill.status.persisted) == ("", True)
    assert store.kept == kill.decision


async def test_a_release_while_remembering_is_tried_again_stands():
    plane, store = Plane(), Store()
    kill = switch(plane, store)
    store.broken = True
    await kill.set(True, reason="r", by="ann")
    store.broken = False
    store.gate.clear()
    released = spawn(kill.set(False, reason="mended", by="ann"), "off")
    await asyncio.sleep(0)
    tried = spawn(kill.catch_up(), "again")
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(released, tried)
    assert (store.kept.kill, kill.status.kill, kill.trouble) == (False, False, "")


async def test_persisted_speaks_of_the_last_decision():
    """The first is written while the second, which will fail, waits."""
    plane, store = Plane(), Store()
    kill = switch(plane, store)
    store.gate.clear()
    first = spawn(kill.set(True, reason="1", by="ann"), "set")
    await asyncio.sleep(0)
    second = spawn(kill.set(True, reason="2", by="bob"), "set")
    await asyncio.sleep(0)
    store.gate.set()
    assert not (await first).persisted
    assert (await second).persisted


async def test_off_that_cannot_be_remembered_is_refused():
    plane, store = Plane(), Store(said(kill=True))
    kill = switch(plane, store)
    store.broken = True
    with pytest.raises(KillRefused, match="disk full"):
        await kill.set(False, reason="r", by="ann")
    assert plane.policy.toggles.kill_switch is True
    assert kill.status.by == "bob", "the decision in force is still the former one"


async def test_on_during_a_release_wins_now_and_after_a_restart():
    """Also while the release still waits for its turn at the disk."""
    plane, store = Plane(), Store(said(kill=True))
    kill = switch(plane, store)
    store.gate.clear()
    first = spawn(kill.set(False, reason="1", by="ann"), "set")
    second = spawn(kill.set(False, reason="2", by="bob"), "set")
    await asyncio.sleep(0)
    on = spawn(kill.set(True, reason="no!", by="eve"), "set")
    await asyncio.sleep(0)
    store.gate.set()
    results = await asyncio.gather(first, second, on, return_exceptions=True)
    assert [type(it) for it in results[:2]] == [KillRefused, KillRefused]
    assert results[2].persisted
    assert False not in plane.states[plane.states.index(True) :]
    assert store.kept.reason == "no!"


def test_a_remembered_kill_is_in_force_before_anybody_listens(tmp_path):
    KillFile(tmp_path / "kill.json").save(said(kill=True))
    plane = Plane()
    kill = switch(plane, KillFile(tmp_path / "kill.json"))
    assert plane.policy.toggles.kill_switch is True
    assert plane.policy.toggles.flags == {"f": False}
    assert kill.status.reason == "before"


async def test_a_broken_memory_starts_killed_until_somebody_decides_anew(tmp_path, caplog):
    (tmp_path / "kill.json").write_text("{")
    plane = Plane()
    kill = switch(plane, KillFile(tmp_path / "kill.json"))
    assert plane.policy.toggles.kill_switch is True
    assert "kill.json" in kill.status.reason
    assert "`fusebox kill off`" in kill.status.reason
    assert kill.status.persisted, "a restart is killed again"
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    assert (await kill.set(False, reason="mended", by="ann")).kill is False
    assert switch(Plane(), KillFile(tmp_path / "kill.json")).status.reason == "mended"


def test_until_the_first_decision_the_toggles_decide():
    plane = Plane(kill=True)
    status = switch(plane, Store()).status
    assert status.kill
    assert status.by == "toggles file"


def test_a_remembered_release_outlasts_the_toggles_file_and_the_log_says_so(caplog):
    plane = Plane(kill=True)
    switch(plane, Store(said(kill=False)))
    assert plane.policy.toggles.kill_switch is False
    assert "bob released it" in caplog.text


async def test_every_change_has_a_higher_version_that_a_restart_finds():
    plane, store = Plane(), Store()
    kill = switch(plane, store)
    versions = [plane.policy.toggles.version]
    for on in (True, False, True):
        await kill.set(on, reason="r", by="ann")
        versions.append(plane.policy.toggles.version)
        assert store.kept.version == versions[-1]
    assert versions == [1, 2, 3, 4]
    again = Plane()
    switch(again, store)
    assert (again.policy.toggles.version, again.policy.toggles.kill_switch) == (5, True)


async def test_whoever_wants_to_hear_of_it_hears_once_it_is_in_force():
    plane = Plane()
    kill = switch(plane, Store())
    heard = []
    kill.heard = lambda: heard.append((plane.policy.toggles.kill_switch, kill.status.reason))
    await kill.set(True, reason="burns", by="ann")
    await kill.set(False, reason="mended", by="ann")
    assert heard == [(True, "burns"), (False, "mended")]


async def test_held_until_it_is_known_what_is_right():
    plane, store = Plane(), Store()
    kill = switch(plane, store)
    kill.hold("nobody knows")
    assert (plane.policy.toggles.kill_switch, kill.status.reason) == (True, "nobody knows")
    kill.let_go()
    assert kill.in_force(otherwise=False) is False
    assert store.kept is None


async def test_what_a_person_says_meanwhile_outlasts_being_held():
    kill = switch(Plane(), Store())
    kill.hold("nobody knows")
    await kill.set(True, reason="stay", by="ann")
    kill.let_go()
    assert (kill.in_force(otherwise=False), kill.status.by) == (True, "ann")
