"""The flap budget in force, on a clock that the test turns."""

import asyncio
from dataclasses import replace

import orjson
import pytest
from toggling import Rig

from proxy.control.flaps import FlapGuard, HeldStatus
from proxy.core.flaps import HOUR_S, FlapBudget
from proxy.core.policy import Policy
from proxy.core.toggles import Rule, Scope, Toggles
from proxy.ports import StoreError
from proxy.tasks import spawn

EU = Scope(region=("eu",))
OUT, IN = Toggles(exposure_percent=10), Toggles(exposure_percent=50)


class Target:
    def __init__(self, policy):
        self.policy = policy
        self.refuses = False

    def apply(self, policy):
        if self.refuses:
            raise ValueError("no")
        self.policy = policy
        self.applied(policy)

    def applied(self, policy):
        """For whoever waits for it."""

    async def settled(self):
        pass


class Bench:
    def __init__(self, budget=2, toggles=IN):
        self.now = 5_000.0
        policy = Policy(routes=(), upstreams={}, toggles=toggles, flaps=FlapBudget(changes_per_hour=budget))
        self.target = Target(policy)
        self.guard = FlapGuard(self.target, monotonic=lambda: self.now, wall=lambda: self.now + 1_000_000)

    async def begun(self, *past):
        async def told(within_s):
            assert within_s == 2 * HOUR_S
            return list(past)

        await self.guard.begin(told)
        return self

    def set(self, *steps, every=60.0):
        for toggles in steps:
            self.now += every
            self.guard.apply(replace(self.guard.policy, toggles=toggles))
        return self.held

    @property
    def held(self):
        return dict(self.target.policy.held)


@pytest.fixture
async def bench():
    made = await Bench().begun()
    yield made
    made.guard.close()


async def test_whoever_changes_it_the_second_way_back_within_the_hour_waits(bench):
    assert bench.set(OUT, IN) == {}
    assert bench.set(OUT) == {}
    assert bench.set(IN) == {None: ((1_000, 5_000),)}
    assert bench.guard.policy.toggles == IN  # what was asked for is what is shown


async def test_who_would_wait_can_be_foreseen_and_nothing_happens(bench):
    bench.set(OUT, IN, OUT)
    before = bench.target.policy
    foreseen = bench.guard.foreseen(replace(before, toggles=IN))
    assert (foreseen.toggles, foreseen.held) == (IN, {None: ((1_000, 5_000),)})
    assert bench.target.policy is before
    assert bench.set(IN) == foreseen.held


async def test_they_come_back_by_themselves(bench):
    began = bench.now
    bench.set(OUT, IN, OUT, IN)
    assert bench.guard._timer.when() - asyncio.get_running_loop().time() == pytest.approx(
        began + 120 + HOUR_S - bench.now, abs=1
    )
    bench.now = began + 120 + HOUR_S - 1
    bench.guard.due()
    assert bench.held == {None: ((1_000, 5_000),)}
    bench.now += 1
    bench.guard.due()
    assert bench.held == {}
    assert bench.guard._timer is None


async def test_the_timer_lets_them_in(bench):
    """On the real clock of the loop."""
    bench.set(OUT, IN, OUT, IN)
    bench.now += HOUR_S
    bench.guard._wait()
    let_in = asyncio.Event()
    bench.target.applied = lambda policy: policy.held or let_in.set()
    async with asyncio.timeout(5):
        await let_in.wait()


async def test_the_status_says_whom_and_until_when(bench):
    assert bench.guard.status() == ()
    bench.set(OUT, IN, OUT, IN)
    assert bench.guard.status() == (
        HeldStatus(scope=None, low=1_000, high=4_999, percent=40.0, until="1970-01-12T16:12:00.000000Z"),
    )


async def test_the_status_joins_neighbours_who_are_let_in_together(bench):
    """However many steps brought them out: what changed twice within the hour has the same end."""
    bench.set(replace(IN, exposure_percent=30), OUT, IN, OUT, IN)
    assert bench.held == {None: ((1_000, 3_000), (3_000, 5_000))}
    assert [(it.low, it.high, it.percent) for it in bench.guard.status()] == [(1_000, 4_999, 40.0)]


async def test_the_status_keeps_neighbours_apart_whose_time_comes_apart(bench):
    bench.set(OUT, replace(IN, exposure_percent=30), OUT, IN, OUT, IN)
    assert [(it.low, it.high) for it in bench.guard.status()] == [(1_000, 2_999), (3_000, 4_999)]


async def test_rules_have_their_own(bench):
    def eu(percent):
        return replace(IN, rules=(Rule(EU, {"exposure_percent": percent}),))

    bench.set(eu(0), eu(50), eu(0), eu(50))
    assert bench.held == {EU: ((0, 5_000),)}
    (told,) = orjson.loads(orjson.dumps(bench.guard.status()))  # as GET /v1/status writes it
    assert told["scope"] == {"region": ["eu"], "cohort": [], "client": []}


async def test_a_kill_and_its_release_are_no_changes(bench):
    bench.set(*[replace(IN, kill_switch=on) for on in (True, False) * 4])
    assert bench.held == {}


async def test_moving_to_control_always_passes(bench):
    bench.set(*[OUT, IN] * 5, OUT)
    assert bench.guard.policy.toggles == OUT
    assert bench.held == {}


async def test_what_the_target_refuses_has_not_happened(bench):
    bench.set(OUT, IN)
    bench.target.refuses = True
    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            bench.set(OUT)
        with pytest.raises(ValueError, match="no"):
            bench.set(IN)
    bench.target.refuses = False
    assert bench.set(IN) == {}


async def test_a_reload_can_raise_the_budget_or_lift_it(bench):
    bench.set(OUT, IN, OUT, IN)
    for budget in (5, 0):
        policy = replace(bench.guard.policy, flaps=FlapBudget(changes_per_hour=budget))
        bench.guard.apply(policy)
        assert bench.held == {}
    assert bench.set(*[OUT, IN] * 40) == {}


async def test_before_anybody_is_served_nothing_counts():
    bench = Bench()
    bench.set(OUT, IN, OUT, IN)
    assert bench.held == {}
    await bench.begun()
    assert bench.held == {}


class TestRestart:
    async def test_the_past_hour_counts(self):
        """Back and forth before it, and back in again after it: one too many."""
        past = [(300.0, IN), (240.0, OUT), (180.0, IN), (120.0, OUT)]
        bench = await Bench(toggles=OUT).begun(*past)
        assert bench.held == {}
        assert bench.set(IN) == {None: ((1_000, 5_000),)}
        assert bench.guard.status()[0].until == "1970-01-12T16:07:00.000000Z"
        bench.guard.close()

    async def test_who_was_held_still_is(self):
        past = [(300.0, IN), (240.0, OUT), (180.0, IN), (120.0, OUT), (60.0, IN)]
        bench = await Bench().begun(*past)
        assert bench.held == {None: ((1_000, 5_000),)}
        bench.guard.close()

    async def test_what_changed_until_the_past_is_known_is_not_lost(self):
        bench = Bench(toggles=OUT)
        go = asyncio.Event()

        async def slow(within_s):
            await go.wait()
            return [(300.0, IN), (240.0, OUT)]

        beginning = spawn(bench.guard.begin(slow), "begin")
        await asyncio.sleep(0)
        assert bench.set(IN, OUT, every=1) == {}
        go.set()
        await beginning
        assert bench.set(IN) == {None: ((1_000, 5_000),)}
        bench.guard.close()

    async def test_a_store_that_cannot_tell_means_a_new_beginning(self, caplog):
        async def broken(within_s):
            raise StoreError("it is gone")

        bench = Bench()
        await bench.guard.begin(broken)
        assert "begins anew: it is gone" in caplog.text
        assert bench.set(OUT, IN) == {}
        assert bench.set(OUT, IN) == {None: ((1_000, 5_000),)}
        bench.guard.close()

    async def test_a_store_that_hangs_keeps_no_start_waiting(self, monkeypatch):
        monkeypatch.setattr("proxy.control.flaps.PATIENCE_S", 0.0)

        async def hangs(within_s):
            await asyncio.Event().wait()

        bench = Bench()
        async with asyncio.timeout(1):
            await bench.guard.begin(hangs)
        assert bench.set(OUT, IN, OUT, IN) == {None: ((1_000, 5_000),)}
        bench.guard.close()


class TestPast:
    async def test_the_store_tells_what_held_and_since_when(self, tmp_path):
        rig = Rig(tmp_path)
        async with rig.started() as control:
            assert [(ago, it.exposure_percent) for ago, it in await control.past(60)] == [(0, 100)]
            for percent in (50, 10, 60):
                rig.wall.now += 100
                await rig.patch(exposure_percent=percent)
            rig.wall.now += 10
            found = await control.past(150)
            assert [(ago, it.exposure_percent) for ago, it in found] == [(210, 50), (110, 10), (10, 60)]

    async def test_a_clock_that_was_set_back_leaves_the_order(self, tmp_path):
        rig = Rig(tmp_path)
        async with rig.started() as control:
            for percent, jump in ((50, 100), (10, -500)):
                rig.wall.now += jump
                await rig.patch(exposure_percent=percent)
            found = await control.past(3_600)
            assert [it.exposure_percent for _, it in found] == [100, 50, 10]
            assert [ago for ago, _ in found] == [0, 0, 0]


async def test_a_kill_leaves_who_is_held_and_looks_at_no_rule_for_that():
    bench = await Bench().begun()
    held = bench.set(OUT, IN, OUT, IN)
    book = bench.guard._book
    assert bench.set(replace(IN, kill_switch=True)) == held
    assert bench.guard._book is book
    bench.set(replace(IN, exposure_percent=60))
    assert bench.guard._book is not book


async def test_a_timer_that_is_early_by_a_hair_is_set_again():
    bench = await Bench().begun()
    assert bench.set(OUT, IN, OUT, IN)
    until = bench.guard._until
    bench.now = until - 0.000_1
    bench.guard.due()
    assert bench.guard._timer is not None
    bench.now = until
    bench.guard.due()
    assert not bench.held
