"""Traffic that must not be judged: its own columns, no breaker, no ejection (facts 2.18)."""

from dataclasses import replace

import pytest
from harness import answering, reply
from recommending import hanging, many, offering, stage

from proxy.clock import monotonic
from proxy.core.breaker import BreakerSettings, Outcome

CF = offering(*many("cf", 20))
CONTENT = offering(*many("co", 20))
BROKEN = answering(reply(b"{}", status=b"500 Oops"))
FRAIL = {
    "breaker": BreakerSettings(consecutive_failures=1, minimum_calls=1, cooldown_s=1e-9),
    "eject_after": 1,
}


def set_aside(rig, why="drill"):
    """From here on everything that the route serves is set aside."""
    route = rig.plane._bound["films"]
    fixed = route.choices.fixed
    route.choices.fixed = route.under(replace(fixed.decision, aside=why), fixed.popular)


def untouched(counters):
    """Nothing is counted among what is judged."""
    cells = [cell for cell in counters.routes.values() if any(cell.status)]
    calls = [cell for cell in counters.upstreams.values() if any(cell.outcomes.values()) or any(cell.buckets)]
    return not (cells or calls or counters.levels or counters.slots_asked or counters.unsticky)


async def test_it_counts_in_its_own_columns_alone():
    async with stage(CF, CONTENT) as rig:
        set_aside(rig)
        await rig.recommend(4, aside=True)
        assert untouched(rig.counters)
        aside = rig.counters.aside("drill")
        assert aside.cell("films", "none").status[2] == 1
        assert (aside.slots_asked, aside.slots_covered, aside.levels) == (4, 4, {"A": 1})
        assert [aside.upstream(name).outcomes["success"] for name in ("cf", "content")] == [1, 1]
        assert sum(aside.upstream("cf").buckets) == 1
        assert rig.failures("cf") == (0, 0)
        assert rig.quiet


@pytest.mark.parametrize(
    ("script", "outcome"), [(BROKEN, "error"), (hanging, "timeout"), (answering(reply(b"[]")), "invalid")]
)
async def test_its_failures_move_neither_breaker_nor_address(script, outcome):
    frail = FRAIL | {"timeout_ms": 50}
    async with stage(script, CONTENT, sources={"cf": frail}) as rig:
        set_aside(rig)
        for _ in range(3):
            got = await rig.recommend(4, aside=True)
            assert set(got.sources) == {"content"}
        assert untouched(rig.counters)
        assert rig.counters.aside("drill").upstream("cf").outcomes[outcome] == 3
        assert rig.plane.breakers["cf"].state == "closed"
        assert not rig.transitions
        addresses = rig.plane._pools["cf"].addresses._known.values()
        assert [(it.failures, it.ejections) for it in addresses] == [(0, 0)]


async def test_it_neither_begins_a_trial_nor_takes_a_probe_of_one():
    async with stage(CF, CONTENT, sources={"cf": FRAIL}) as rig:
        breaker = rig.plane.breakers["cf"]
        now = monotonic
        breaker.done(breaker.admit(now(), 0), Outcome.FAILURE, now())
        assert breaker.state == "open"
        set_aside(rig)
        # The cooldown is over: the next call that counts begins the trial.
        assert set((await rig.recommend(4, aside=True)).sources) == {"content"}
        assert breaker.state == "open"
        probe = breaker.admit(now(), 0)
        assert (breaker.state, bool(probe)) == ("half_open", True)
        breaker.done(probe, Outcome.NEUTRAL, now())
        assert set((await rig.recommend(4, aside=True)).sources) == {"content"}
        assert (breaker.state, breaker.snapshot(now()).probes_inflight) == ("half_open", 0)
        assert rig.cf.requests == []
        assert rig.counters.aside("drill").upstream("cf").outcomes["breaker_open"] == 2


async def test_who_has_no_user_is_counted_there_too():
    async with stage(CF, CONTENT) as rig:
        set_aside(rig)
        await rig.ask(b"GET /recommendations?k=4 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert untouched(rig.counters)
        assert rig.counters.aside("drill").unsticky == 1
