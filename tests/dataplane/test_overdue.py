"""Requests in flight past a target: told of each target once, and never met again by a look."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.dataplane.overdue import Overdue

TARGETS = (0.1, 0.5)


class One:
    def __init__(self, started=0.0, *, judged=True):
        self.started = started
        self.judged = judged
        self.passed = -1
        self.told = []

    def late(self, at):
        if self.judged:
            self.told.append(at)
        return self.judged


def watched(*ones, targets=TARGETS):
    overdue = Overdue()
    overdue.retarget(targets)
    for one in ones:
        overdue.add(one)
    return overdue


def test_each_target_is_told_once_when_it_is_passed():
    one = One()
    overdue = watched(one)
    for now, told in [(0.1, []), (0.11, [0]), (0.3, [0]), (0.51, [0, 1]), (99.0, [0, 1])]:
        overdue.look(now)
        assert one.told == told
    overdue.discard(one)
    assert (one.passed, len(overdue)) == (2, 0)


def test_one_look_may_find_all_of_them_passed():
    one = One()
    watched(one).look(9.0)
    assert one.told == [0, 1]


def test_what_is_not_to_be_judged_is_watched_no_more():
    one = One(judged=False)
    overdue = watched(one)
    overdue.look(1.0)
    overdue.discard(one)
    assert (one.passed, len(overdue)) == (-1, 0)


def test_other_targets_count_who_waits_anew():
    old, young = One(0.0), One(0.9)
    overdue = watched(old, young)
    overdue.look(1.0)
    overdue.retarget((0.05, 2.0))
    overdue.look(1.05)
    assert (old.told, young.told) == ([0, 1, 0], [0])
    overdue.discard(old)
    overdue.discard(young)
    assert len(overdue) == 0


def test_without_targets_nothing_is_told():
    one = One()
    overdue = watched(one, targets=())
    overdue.look(99.0)
    assert one.told == []
    overdue.discard(one)
    assert len(overdue) == 0


@given(st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 1.5)), max_size=20), st.floats(0.01, 0.4))
def test_whoever_is_late_at_a_look_has_been_told(waits, step):
    """Requests begin in their order and end whenever; looks come every so often."""
    overdue = watched()
    now = begins = 0.0
    open_ = []
    for gap, lasts in waits:
        begins += gap
        while now + step < begins:
            now += step
            for one in [it for it in open_ if it.ends <= now]:
                overdue.discard(one)
                open_.remove(one)
            overdue.look(now)
            for one in open_:
                assert one.told == [at for at, target in enumerate(TARGETS) if now - one.started > target]
        one = One(begins)
        one.ends = begins + lasts
        overdue.add(one)
        open_.append(one)
    for one in open_:
        overdue.discard(one)
    assert len(overdue) == 0
