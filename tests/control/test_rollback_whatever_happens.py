"""Orders, kills, bad traffic, full disks, reloads and restarts in any order: what holds all the time."""

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from rolling import Bench

from proxy.control.rollback_orders import Order
from proxy.core.rollback.engine import IllegalMove
from proxy.core.toggles import BASELINES, Scope

SCOPES = st.sampled_from([Scope(), Scope(region=("eu",)), Scope(cohort=("cold",))])
STAGES = st.sampled_from(["1", "2", "3", "emergency"])
ORDERS = st.one_of(
    st.builds(Order, action=st.just("start"), stage=STAGES, scope=SCOPES),
    st.builds(Order, action=st.just("override"), baseline=st.sampled_from(sorted(BASELINES))),
    st.just(Order(action="release")),
)
GAPS = st.one_of(st.none(), st.sampled_from([0.0, 700.0]))  # killed after it, and started so much later
STEPS = st.one_of(
    st.tuples(st.just("order"), ORDERS),
    st.tuples(st.just("traffic"), st.sampled_from([0.0, 0.01, 1.0])),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 40.0, 400.0])),
    st.tuples(st.just("kill"), st.booleans()),
    st.tuples(st.just("disk"), st.sampled_from(["", "no room"])),
    st.tuples(st.just("mode"), st.sampled_from(["act", "watch", "off"])),
)


async def follow(bench, what, how):
    control = bench.control
    if what == "order":
        with suppress(IllegalMove):
            await control.carry_out(how, reason="test", by="ann")
    elif what == "traffic":
        await bench.run(5, failed=how)
    elif what == "wait":
        bench.pass_s(how)
        await bench.run(0.5)
    elif what == "kill":
        policy = bench.layering.policy
        bench.layering.apply(replace(policy, toggles=replace(policy.toggles, kill_switch=how)))
        await bench.run(0.5)
    elif what == "disk":
        bench.file.full = how
    else:
        bench.settings = replace(bench.settings, mode=how)
        bench.layering.apply(replace(bench.layering.policy, rollback=bench.settings))
        await bench.run(0.5)


async def killed(bench, gap_s):
    control, state, layers = bench.control, bench.state, bench.plane.policy.layers
    await bench.again(after_s=gap_s)
    if control.persisted:
        assert (bench.state, bench.plane.policy.layers) == (state, layers)
        assert list(bench.control.moves) == list(control.moves)


async def hold(directory, steps):
    bench = await Bench(Path(directory)).begin()
    for (what, how), gap_s in steps:
        await follow(bench, what, how)
        await bench.control._keeper.settled(2)
        if gap_s is not None:
            await killed(bench, gap_s)
        control = bench.control
        assert bench.plane.policy.layers == control.wanted, "what is asked for is in force"
        assert bench.layering.policy.layers == ()
        assert control.persisted == (not control._keeper.trouble)
        if bench.settings.mode == "off":
            assert (bench.state, bench.plane.policy.layers) == ("NORMAL", ())
        for newer, older in zip(list(control.moves), list(control.moves)[1:], strict=False):
            assert newer.before == older.to, "no transition is missing"
        assert bench.state == (control.moves[0].to if control.moves else "NORMAL")


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.tuples(STEPS, GAPS), max_size=10))
def test_what_is_asked_for_is_in_force_and_outlives_a_kill(steps):
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(hold(directory, steps))
