"""Load shift: what the receiving upstream can take, and what becomes of the rest."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import ACT, EU, GREEN, P1, P2, Bench, p1_in

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.engine import Load, World
from proxy.core.rollback.headroom import DWELL_S, GROWTH, UNSHOWN, Demand, grown, share
from proxy.core.rollback.signals import Delta, Key, columns
from proxy.core.toggles import Scope


def requests(n, side="exposed", region=b"eu"):
    counts = [0] * columns(0)
    counts[0] = n
    return Delta(cells={Key("recommendations", "", side, region): counts})


def world(**loads):
    return World(loads=loads, settle_s=0)


def rolled_back(loads, per_s=100, **says):
    """With so many requests a second before."""
    bench = Bench().says(exposed=says.get("exposed", GREEN), staged=GREEN)
    bench.world = loads
    for _ in range(20):
        bench.engine.feed(requests(per_s), bench.now)
        bench.step(1)
    bench.says(exposed=says.get("breach", P1), staged=P1)
    bench.until("ROLLED_BACK", 10)
    bench.says(staged=GREEN, exposed=GREEN)
    return bench


def shown(bench):
    return [(it.low, it.high, it.toggles["candidate_fallback_level"]) for it in bench.engine.layers]


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ({}, 1.0),  # nobody is named
        ({"content": Load(100)}, 1.0),  # asked by all already
        ({"content": Load(98)}, 1.0),  # no rise to speak of
        ({"content": Load(50, 200)}, 1.0),
        ({"content": Load(50, 80)}, 0.8),
        ({"content": Load(0)}, UNSHOWN),  # nothing is known
        ({"content": Load(0, 1)}, UNSHOWN),  # next to nothing
        ({"content": Load(50, 200), "other": Load(10, 30)}, 0.3),
    ],
)
def test_as_much_is_sent_as_was_shown(loads, expected):
    assert share(loads, 100) == pytest.approx(expected)


def test_what_fits_is_sent_at_once():
    assert shown(rolled_back(world(content=Load(60, 500)))) == [(0, BUCKETS, "C")]


def test_what_does_not_gets_level_d_and_is_let_in_piece_by_piece():
    bench = rolled_back(world(content=Load(40, 50)))
    (sent, rest) = shown(bench)
    assert sent[2] == "C"
    assert rest == (sent[1], BUCKETS, "D")
    assert 4_000 < sent[1] < 6_000
    steps = bench.step(10 * DWELL_S)
    assert {it.event for it in steps} == {"absorbed"}
    assert [it.to for it in steps] == ["ROLLED_BACK"] * len(steps)
    assert all(later.at - it.at >= DWELL_S for it, later in pairwise(steps))
    assert shown(bench) == [(0, BUCKETS, "C")]


def test_no_more_is_sent_while_anything_is_wrong_under_the_stage():
    bench = rolled_back(world(content=Load(40, 50))).says(staged=P2)
    assert bench.step(ACT.hold_s / 2) == []


def test_what_goes_wrong_when_more_is_sent_takes_that_back_and_nothing_more_is_sent():
    """The upstream was full; the next stage would take all of it away from everybody."""
    bench = rolled_back(world(content=Load(0)))
    bench.step(3 * DWELL_S)
    (_, sent, _), _ = shown(bench)
    bench.says(staged=P1)
    choked = bench.step()[0]
    assert (choked.event, choked.to, choked.stage) == ("choked", "ROLLED_BACK", "2")
    assert shown(bench)[0] == (0, round(sent / GROWTH), "C")
    bench.says(staged=GREEN)
    assert bench.step(60) == []
    assert bench.until("RECOVERY_VERIFY", 400) <= ACT.hold_s


def test_what_goes_on_when_less_is_sent_is_no_matter_of_load():
    bench = rolled_back(world(content=Load(0)))
    bench.step(DWELL_S + 1)
    bench.says(staged=P1)
    assert [it.event for it in bench.step(45)] == ["choked", "worsened"]
    assert bench.engine.stage == "3"


def test_growing_does_not_put_off_the_recovery():
    bench = rolled_back(world(content=Load(0)))
    assert bench.until("RECOVERY_VERIFY", 400) == ACT.hold_s


def test_only_the_scope_that_is_moved_counts_as_load():
    """A tenth of the traffic fits where all of it would not."""
    bench = Bench().says(exposed=GREEN, staged=GREEN)
    bench.world = world(content=Load(0, 20))
    for _ in range(20):
        bench.engine.feed(requests(90, region=b"us"), bench.now)
        bench.engine.feed(requests(10), bench.now)
        bench.step(1)
    bench.says(exposed=p1_in(EU), staged=P1)
    bench.until("ROLLED_BACK", 10)
    assert shown(bench) == [(0, BUCKETS, "C")]


def test_by_hand_the_headroom_counts_as_well():
    bench = Bench()
    bench.world = world(content=Load(0))
    for _ in range(5):
        bench.engine.feed(requests(10), bench.now)
        bench.step(1)
    bench.engine.start(bench.now, "ann", "bad")
    assert shown(bench)[0] == (0, 1_000, "C")


def test_demand_is_over_the_last_seconds_and_of_who_would_ask():
    demand = Demand()
    assert demand.per_s(Scope()) == 0
    for second in range(30):
        demand.add(requests(40), 1_000.0 + second)
        demand.add(requests(20, region=b"\xff"), 1_000.0 + second)
        demand.add(requests(1_000, "decided"), 1_000.0 + second)
    assert demand.per_s(Scope()) == pytest.approx(60, rel=0.15)
    assert demand.per_s(Scope(region=("eu",))) == pytest.approx(40, rel=0.15)
    assert demand.per_s(Scope(region=("us",))) == 0
    demand.add(requests(0), 1_100.0)
    assert demand.per_s(Scope()) == 0


@given(st.floats(0.05, 1))
def test_any_share_grows_to_all_of_it(start):
    steps = 0
    while start < 1:
        assert grown(start) >= min(1, start * GROWTH)
        start, steps = grown(start), steps + 1
    assert steps <= 8


def test_a_second_part_in_stage_2_lowers_the_share_and_never_raises_it():
    bench = rolled_back(world(content=Load(40, 50)), breach=p1_in(EU))
    before = shown(bench)[0][1]
    bench.world = replace(bench.world, loads={"content": Load(0, 10_000)})
    bench.engine.start(bench.now, "ann", "all", "2")
    assert shown(bench)[0][1] == before


def test_a_stage_1_that_is_raised_sends_no_more_than_fits_either():
    """By hand it may begin with stage 1; P1 that goes on under it is no reason to choke the upstream."""
    bench = Bench().says(exposed=GREEN, staged=P1)
    bench.world = world(content=Load(50, 80))
    bench.engine.start(bench.now, "ann", "looks odd", "1")
    for _ in range(int(ACT.escalate_s)):
        bench.engine.feed(requests(100, "staged"), bench.now)
        bench.step(1)
    assert bench.engine.stage == "2"
    assert shown(bench) == [(0, 8_000, "C"), (8_000, BUCKETS, "D")]
