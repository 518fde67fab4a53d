"""Counters of several processes as one."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.counters import Counters
from proxy.telemetry.merged import Merged


def told(counters):
    """As it arrives from a process: a value of its own."""
    return pickle.loads(pickle.dumps(counters))


def counted(requests=1, *, inflight=0, seconds=0.1):
    """The counters of a process that has counted everything so often."""
    counters = Counters()
    for _ in range(requests):
        counters.cell("pay", "none").count(200, seconds)
        upstream = counters.upstream("pay")
        upstream.outcomes["success"] += 1
        upstream.buckets[3] += 1
        upstream.seconds += seconds
        upstream.retries += 1
        shadow = counters.shadow("pay")
        shadow.results["same"] += 1
        shadow.agreed(0.5, 0.25)
        shadow.real_seconds += seconds
        shadow.seconds += seconds
        counters.transitions["pay", "open", "manual"] += 1
        counters.levels["A"] += 1
        counters.refusals["no_route"] += 1
        counters.actions["user.login", "done"] += 1
        counters.audit_lost += 1
        counters.slots_asked += 5
        counters.slots_covered += 4
        counters.accepted += 1
        counters.unsticky += 1
        counters.cache["hit"] += 2
        counters.cache["stale"] += 1
        counters.coalesced += 3
        counters.cache_evictions += 1
        counters.warm["asked"] += 1
        counters.events_dropped += 1
        counters.signals_overflowed += 1
        aside = counters.aside("override")
        aside.cell("films", "none").count(200, seconds)
        aside.upstream("cf").outcomes["timeout"] += 1
        aside.levels["D"] += 1
        aside.slots_asked += 3
        aside.cache["miss"] += 1
    counters.connections = counters.upstream("pay").inflight = counters.upstream("pay").queued = inflight
    counters.cache_bytes, counters.cache_entries = 1_000 * inflight, inflight
    counters.warm_left = counters.warm_unreadable = counters.events_stuck = inflight
    return counters


def plain(counters):
    """Everything in it, comparable; seconds rounded."""
    cells = {key: (it.status, it.buckets, round(it.seconds, 6)) for key, it in counters.routes.items()}
    names = ("outcomes", "buckets", "inflight", "queued", "retries")
    upstreams = {
        key: [getattr(it, name) for name in names] + [round(it.seconds, 6)]
        for key, it in counters.upstreams.items()
    }
    shadows = {
        key: [it.results, it.overlap, it.rank]
        + [round(it, 6) for it in (it.overlap_sum, it.rank_sum, it.real_seconds, it.seconds)]
        for key, it in counters.shadows.items()
    }
    taken = ("routes", "upstreams", "asides", "shadows")
    rest = {name: value for name, value in vars(counters).items() if name not in taken}
    return cells, upstreams, shadows, rest, {why: plain(aside) for why, aside in counters.asides.items()}


def test_the_whole_of_two_sources_is_their_sum_however_often_they_tell():
    merged = Merged(Counters())
    for requests in (1, 2, 2, 5):
        merged.heard("a", told(counted(requests, inflight=requests)))
        merged.heard("b", told(counted(2 * requests, inflight=1)))
    assert plain(merged.total) == plain(counted(15, inflight=6))
    assert (merged.connections("a"), merged.connections("b")) == (5, 1)


def test_a_source_that_is_gone_leaves_what_it_counted_and_takes_what_was_under_way():
    merged = Merged(Counters())
    merged.heard("a", told(counted(3, inflight=2)))
    merged.heard("b", told(counted(1, inflight=1)))
    merged.gone("a")
    assert plain(merged.total) == plain(counted(4, inflight=1))
    merged.heard("c", told(counted(1, inflight=4)))  # who follows begins at nothing
    assert plain(merged.total) == plain(counted(5, inflight=5))


def test_a_source_that_never_told_anything_may_go():
    merged = Merged(Counters())
    merged.gone("a")
    assert plain(merged.total) == plain(Counters())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e6), st.booleans()), max_size=60))
def test_a_sum_of_seconds_never_becomes_smaller(steps):
    merged = Merged(Counters())
    sources = {name: Counters() for name in "abc"}
    before = 0.0
    for name, seconds, dies in steps:
        sources[name].cell("pay", "none").seconds += seconds
        merged.heard(name, told(sources[name]))
        if dies:
            merged.gone(name)
            sources[name] = Counters()
        now = merged.total.cell("pay", "none").seconds
        assert now >= before
        before = now
