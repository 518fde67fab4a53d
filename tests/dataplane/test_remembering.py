"""Users first seen after a freeze go to control (facts 2.13); whoever was there before stays."""

import threading
from dataclasses import replace

import orjson
import pytest
from harness import until
from recommending import many, offering, stage

from proxy.core.experiment import Arm, Experiment
from proxy.core.policy import Sources
from proxy.core.seen import SIZE, Seen
from proxy.core.toggles import Toggles
from proxy.dataplane.remembering import MOST_WAITING, Remembering
from proxy.errors import FuseboxError
from proxy.storage.seen_file import SeenFiles

CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))
HYBRID = Experiment(name="hybrid_v1")
OTHER = Experiment(name="next")
FROZEN = Toggles(experiment_freeze=True)


class Files:
    """In memory; `held` until `go` is set, broken while `error` is."""

    def __init__(self):
        self.made = {}
        self.error = ""
        self.go = threading.Event()
        self.go.set()

    def open(self, salt, *, new):
        self.go.wait(5)
        if self.error:
            raise FuseboxError(self.error)
        if new:
            self.made.setdefault(salt, bytearray(SIZE))
        return memoryview(self.made[salt]) if salt in self.made else None


async def arm(rig, user, fields=b""):
    """In which arm a user is, and by which policy served."""
    answer = await rig.ask(
        b"GET /recommendations?user_id=%b&k=2 HTTP/1.1\r\nHost: x\r\n%b\r\n" % (user, fields)
    )
    metadata = orjson.loads(answer.body)["metadata"]
    return metadata["arm"], metadata["policy"]


class TestOnTheWire:
    KNOWN = tuple(b"known-%d" % n for n in range(20))
    NEW = tuple(b"new-%d" % n for n in range(20))

    @pytest.mark.parametrize("restart", [False, True])
    async def test_a_freeze_holds_for_the_known_and_sends_the_new_to_control(self, restart, tmp_path):
        async with stage(CF, CONTENT, experiment=HYBRID, seen=SeenFiles(tmp_path)) as rig:
            before = {user: await arm(rig, user) for user in self.KNOWN}
            assert len(set(before.values())) == 3
            frozen = replace(rig.policy, toggles=FROZEN)
            if not restart:
                await self.check(rig, frozen, before)
        if restart:
            async with stage(CF, CONTENT, experiment=HYBRID, seen=SeenFiles(tmp_path), toggles=FROZEN) as rig:
                await rig.plane.remembering.ready()
                await self.check(rig, rig.policy, before)

    async def check(self, rig, policy, before):
        rig.plane.apply(policy)
        for _ in range(2):  # being asked does not make anybody known
            assert {user: await arm(rig, user) for user in self.KNOWN} == before
            assert {await arm(rig, user) for user in self.NEW} == {("control", "content_only")}
        choices = rig.plane._bound["films"].choices
        reasons = {it.decision.reason for it in choices._known.values()}
        assert reasons == {"experiment", "experiment_freeze"}
        rig.plane.apply(replace(policy, toggles=Toggles()))
        assert len({await arm(rig, user) for user in self.NEW}) == 3  # thawed, they are drawn as all
        rig.plane.apply(policy)
        assert len({await arm(rig, user) for user in self.NEW}) == 3

    async def test_only_real_exposed_requests_of_known_users_count(self):
        files = Files()
        async with stage(
            CF, CONTENT, experiment=HYBRID, seen=files, toggles=Toggles(exposure_percent=50)
        ) as rig:
            await rig.plane.remembering.ready()
            exposed = {}
            for n in range(40):
                user = b"user-%d" % n
                exposed[user] = (await arm(rig, user))[1] != "control"
            await rig.ask(b"GET /recommendations?k=2 HTTP/1.1\r\nHost: x\r\nX-Request-Id: somebody\r\n\r\n")
            seen = Seen(files.made[b"hybrid_v1"])
            assert {user: user in seen for user in exposed} == exposed
            assert len(set(exposed.values())) == 2
            assert b"somebody" not in seen

    async def test_answers_by_decision_and_set_aside_do_not_count(self):
        files = Files()
        async with stage(CF, CONTENT, experiment=HYBRID, seen=files) as rig:
            await rig.plane.remembering.ready()
            for toggles in (Toggles(candidate_fallback_level="D"), Toggles(kill_switch=True)):
                rig.plane.apply(replace(rig.policy, toggles=toggles))
                await arm(rig, b"ann")
            rig.plane.apply(replace(rig.policy, toggles=Toggles(policy_mode="collab_only")))
            fixed = rig.plane._bound["films"].choices.fixed
            route = rig.plane._bound["films"]
            route.choices.fixed = route.under(replace(fixed.decision, aside="override"), fixed.popular)
            await rig.ask(b"GET /recommendations?user_id=ann&k=2 HTTP/1.1\r\nHost: x\r\n\r\n")
            seen = Seen(files.made[b"hybrid_v1"])
            assert b"ann" not in seen
            route.choices.fixed = fixed
            await arm(rig, b"ann")  # by a mode for all, and yet of a recommender
            assert b"ann" in seen

    async def test_requests_without_a_user_are_drawn_as_before(self):
        files = Files()
        files.made[b"hybrid_v1"] = bytearray(SIZE)
        async with stage(CF, CONTENT, experiment=HYBRID, seen=files, toggles=FROZEN) as rig:
            await rig.plane.remembering.ready()
            arms = set()
            for n in range(20):
                answer = await rig.ask(
                    b"GET /recommendations?k=2 HTTP/1.1\r\nHost: x\r\nX-Request-Id: r%d\r\n\r\n" % n
                )
                arms.add(orjson.loads(answer.body)["metadata"]["arm"])
            assert arms == {"control", "treatment_a", "treatment_b"}

    @pytest.mark.parametrize(("control", "asked"), [("control", 1), ("", 0)])
    async def test_where_no_arm_is_called_control_they_get_what_the_unexposed_get(self, control, asked):
        arms = (Arm(name="a", percent=50, policy_mode="collab_only"),
                Arm(name="b", percent=50, policy_mode="content_only"))  # fmt: skip
        files = Files()
        files.made[b"x"] = bytearray(SIZE)
        more = {
            "control": offering(*many("ctl", 20)),
            "route": {"sources": Sources(cf="cf", content="content", control=control)},
            "experiment": Experiment(name="x", arms=arms),
        }
        async with stage(CF, CONTENT, seen=files, toggles=FROZEN, **more) as rig:
            await rig.plane.remembering.ready()
            assert await arm(rig, b"new") == ("control", "control")
            assert len(rig.control.requests) == asked


class TestRemembering:
    async def test_who_comes_while_the_file_is_opened_is_noted_then(self):
        files = Files()
        files.go.clear()
        remembering = Remembering(files)
        remembering.turn(HYBRID, frozen=False)
        remembering.add(b"ann")
        assert b"eve" in remembering  # as long as nobody knows
        files.go.set()
        await remembering.ready()
        assert b"ann" in remembering
        assert b"eve" not in remembering
        assert b"ann" in Seen(files.made[b"hybrid_v1"])

    async def test_they_are_bounded(self):
        files = Files()
        files.go.clear()
        remembering = Remembering(files)
        remembering.turn(HYBRID, frozen=False)
        for n in range(MOST_WAITING + 5):
            remembering.add(b"%d" % n)
        assert len(remembering._waiting) == MOST_WAITING
        files.go.set()
        await remembering.ready()
        assert not remembering._waiting

    async def test_a_freeze_without_any_memory_moves_nobody_and_says_so(self):
        remembering = Remembering(Files())
        remembering.turn(HYBRID, frozen=True)
        await remembering.ready()
        assert b"eve" in remembering
        assert remembering.trouble.endswith("is not known: there is no file of them")
        remembering.turn(HYBRID, frozen=False)
        await remembering.ready()
        assert (remembering.trouble, b"eve" in remembering) == ("", False)

    async def test_without_a_file_memory_has_to_do_and_that_is_told(self):
        files = Files()
        files.error = "the disk is full"
        remembering = Remembering(files)
        remembering.turn(HYBRID, frozen=False)
        await remembering.ready()
        remembering.add(b"ann")
        assert "a restart forgets them: the disk is full" in remembering.trouble
        remembering.turn(HYBRID, frozen=True)
        assert b"ann" in remembering
        assert b"eve" not in remembering
        again = Remembering(files)
        again.turn(HYBRID, frozen=True)
        await again.ready()
        assert b"eve" in again
        assert again.trouble.endswith("is not known: the disk is full")

    async def test_another_experiment_has_seen_nobody_yet(self):
        remembering = Remembering(Files())
        remembering.turn(HYBRID, frozen=False)
        await remembering.ready()
        remembering.add(b"ann")
        remembering.turn(OTHER, frozen=False)
        await remembering.ready()
        assert b"ann" not in remembering
        remembering.turn(HYBRID, frozen=False)
        await remembering.ready()
        assert b"ann" in remembering

    async def test_a_file_that_comes_too_late_is_not_taken_for_another_experiment(self):
        files = Files()
        files.go.clear()
        remembering = Remembering(files)
        remembering.turn(HYBRID, frozen=False)
        first = remembering._opening
        remembering.turn(replace(HYBRID, name=""), frozen=False)
        files.go.set()
        await first
        assert b"eve" in remembering
        assert remembering._seen is None

    async def test_a_crowded_one_is_told(self):
        files = Files()
        files.made[b"hybrid_v1"] = bytearray(b"\x0f" * 4096 + bytes(4096))
        remembering = Remembering(files)
        remembering.turn(HYBRID, frozen=False)
        await remembering.ready()
        assert remembering.trouble == ""  # 1 of 128
        files.made[b"next"] = bytearray(b"\x3f" * 4096)
        remembering.turn(OTHER, frozen=False)
        await remembering.ready()
        assert remembering.trouble.endswith("that 1 of 7 new ones passes for known")

    async def test_without_files_a_process_knows_for_itself(self):
        async with stage(CF, CONTENT, experiment=HYBRID) as rig:
            await arm(rig, b"ann")
            await until(lambda: b"ann" in rig.plane.remembering, "a note")
            assert b"eve" not in rig.plane.remembering
