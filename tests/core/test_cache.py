"""The cache of what sources said: never over its bound, never past its time, and what is in use stays."""

import tracemalloc
from bisect import bisect_left
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.core.cache import ENTRY_BYTES, LARGEST, Cache, Lifetime

LIFE = Lifetime(ttl_s=10.0, stale_s=5.0)
FOREVER = Lifetime(ttl_s=1e9, stale_s=0.0)
KEYS = st.integers(0, 40).map(b"key-%d".__mod__)


class AnyHistory(RuleBasedStateMachine):
    """Any puts, looks, erasures and new bounds, beside a dictionary that forgets nothing."""

    @initialize(max_bytes=st.integers(0, 40_000))
    def begin(self, max_bytes):
        self.cache = Cache(max_bytes)
        self.put_in: dict[bytes, tuple[bytes, float]] = {}
        self.now = 100.0

    @rule(key=KEYS, size=st.integers(1, 4_000), mark=st.binary(min_size=1, max_size=2))
    def put(self, key, size, mark):
        body = (mark * size)[:size]
        kept = self.cache.put(key, body, self.now)
        assert kept == ((len(key) + size + ENTRY_BYTES) * LARGEST <= self.cache.max_bytes)
        self.put_in.pop(key, None)
        if kept:
            self.put_in[key] = body, self.now
            entry = self.cache._entries[key]  # not by `find`, which would count as use
            assert (entry.body, entry.fresh(self.now, LIFE)) == (body, True)

    @rule(key=KEYS)
    def find(self, key):
        entry = self.cache.find(key, self.now, LIFE)
        if entry is None:
            return
        body, at = self.put_in[key]
        age = self.now - at
        assert entry.body == body
        assert age < LIFE.ttl_s + LIFE.stale_s
        assert entry.fresh(self.now, LIFE) == (age < LIFE.ttl_s)

    @rule(key=KEYS)
    def erase(self, key):
        self.cache.erase(key)
        self.put_in.pop(key, None)
        assert self.cache.find(key, self.now, LIFE) is None

    @rule(seconds=st.floats(0.0, 20.0))
    def wait(self, seconds):
        self.now += seconds

    @rule(max_bytes=st.integers(0, 40_000))
    def resize(self, max_bytes):
        self.cache.resize(max_bytes)

    @invariant()
    def the_bound_holds_and_the_sums_are_right(self):
        cache = self.cache
        assert 0 <= cache.bytes <= cache.max_bytes
        entries = cache._entries
        queued = [*cache._small, *cache._main]
        assert len(queued) == len(entries) == len(set(map(id, queued)))
        assert all(entries[entry.key] is entry for entry in queued)
        assert len(cache) == sum(bool(entry.body) for entry in queued)
        assert cache._small_bytes == sum(entry.size for entry in cache._small)
        assert len(cache._ghosts) <= len(entries)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@given(st.floats(0.0, 30.0))
def test_an_entry_is_fresh_then_stale_then_gone(age):
    cache = Cache(100_000)
    cache.put(b"a", b"body", 50.0)
    now = 50.0 + age
    entry = cache.find(b"a", now, LIFE)
    if now - 50.0 >= 15.0:
        assert entry is None
        assert len(cache) == 0
        cache.put(b"a", b"newer", now)
        assert len(cache) == 1
    else:
        assert entry is not None
        assert entry.fresh(now, LIFE) == (now - 50.0 < 10.0)


def test_the_same_answer_again_is_a_fresh_one():
    cache = Cache(100_000)
    for now in (0.0, 9.0):
        assert cache.put(b"a", b"body", now)
    assert cache.find(b"a", 18.0, LIFE).fresh(18.0, LIFE)
    taken = cache.bytes
    cache.erase(b"a")
    assert cache.put(b"a", b"body", 20.0)
    assert (cache.bytes, len(cache)) == (taken, 1)


def test_what_is_too_large_is_refused_and_takes_its_former_self_along():
    """An older answer is no longer what the source says."""
    cache = Cache(100_000)
    assert cache.put(b"a", b"small", 0.0)
    assert not cache.put(b"a", b"x" * 100_000, 1.0)
    assert cache.find(b"a", 1.0, LIFE) is None
    assert len(cache) == 0


def test_what_is_put_in_anew_is_not_what_has_to_go_for_it():
    """The oldest entry, in no use, grows: others make room."""
    cache = Cache(100_000)
    n = 0
    while not cache.evictions:
        cache.put(b"%d" % n, b"x" * 1_000, 0.0)
        n += 1
    oldest = (cache._small or cache._main)[0].key
    cache.put(oldest, b"x" * 5_000, 1.0)
    assert cache.find(oldest, 1.0, LIFE) is not None


def test_a_smaller_bound_evicts_at_once():
    cache = Cache(1_000_000)
    for n in range(500):
        cache.put(b"%d" % n, b"x" * 1_000, 0.0)
    cache.resize(100_000)
    assert 50_000 < cache.bytes <= 100_000
    cache.resize(0)
    assert (cache.bytes, len(cache), cache.evictions) == (0, 0, 500)


@pytest.mark.parametrize("shrunk", [False, True])
@pytest.mark.parametrize("size", [500, 6_000])
def test_what_it_says_it_takes_is_what_it_takes(size, shrunk):
    """As measured by the allocator, with keys as they are in use and, after evictions, what is remembered."""
    count = 3_000
    tracemalloc.start()
    try:
        cache = Cache(10**9)
        for n in range(count):
            cache.put(b"0123456789abcdef/candidates?user_id=%d&k=50" % n, bytes(size), 0.0)
        if shrunk:
            cache.resize(cache.bytes * 3 // 4)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.8 * cache.bytes < taken < cache.bytes


def zipf(users, skew, chance):
    """Draws a user, few of them often."""
    sums = list(accumulate(1 / (n + 1) ** skew for n in range(users)))
    return lambda: bisect_left(sums, chance.random() * sums[-1])


def share_of_hits(cache, keys, body=bytes(1_000)):
    hits = 0
    for key in keys:
        if cache.find(key, 0.0, FOREVER) is not None:
            hits += 1
        else:
            cache.put(key, body, 0.0)
    return hits / len(keys)


def test_keys_that_never_come_again_do_not_push_out_what_is_in_use():
    """Half of the requests are of a crawler that invents parameters; who is asked for often stays."""
    chance = Random(7)
    user = zipf(5_000, 0.9, chance)
    keys = []
    for n in range(20_000):
        keys += (b"user-%d" % user(), b"junk-%d" % n)
    mixed = share_of_hits(Cache(700_000), keys) * 2
    alone = share_of_hits(Cache(700_000), keys[::2])
    assert mixed > 0.8 * alone > 0.3


def test_users_who_come_for_a_while_are_found_while_they_are_there():
    """A set in use that changes all the time is no scan: most requests of a session hit."""
    chance = Random(8)
    active: list[list[int]] = []
    keys = []
    for n in range(20_000):
        if len(active) < 200:
            active.append([n, chance.randint(5, 15)])
        session = active[chance.randrange(len(active))]
        keys.append(b"user-%d" % session[0])
        session[1] -= 1
        if not session[1]:
            active.remove(session)
    assert share_of_hits(Cache(500 * 1_300), keys) > 0.8


def test_no_put_looks_at_more_than_a_few_entries():
    """Even where all of them are in use, and so none may go by the book."""
    cache = Cache(2_000_000)
    for n in range(4_000):
        cache.put(b"%d" % n, b"x" * 200, 0.0)
        cache.find(b"%d" % n, 0.0, FOREVER)
    cache.resize(1_000_000)
    for key in list(cache._entries):
        for _ in range(4):
            cache.find(key, 0.0, FOREVER)
    uses = sum(entry.hits for entry in cache._main)
    cache.put(b"new", b"x" * 200, 0.0)
    lost = uses - sum(entry.hits for entry in cache._main)
    assert len(cache) > 1_000
    assert 60 < lost < 200
