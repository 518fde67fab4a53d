"""The ring of slots against a list that is simply counted."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.window import SLOTS, Window

SPAN_S = 5.0
SLOT_S = SPAN_S / SLOTS


def test_counts_stay_for_the_span_and_go_after_it():
    window = Window(2, SPAN_S)
    window.add(0, 100.0)
    window.add(1, 100.0)
    window.add(0, 103.0)
    window.advance(104.4)
    assert window.sums == [2, 1]
    window.advance(105.0)
    assert window.sums == [1, 0]


def test_nothing_is_left_after_a_long_silence():
    window = Window(1, SPAN_S)
    for tenth in range(100):
        window.add(0, tenth / 10)
    window.advance(1e9)
    assert window.sums == [0]
    assert not any(map(any, window._slots))


def test_time_that_goes_back_counts_as_now():
    window = Window(1, SPAN_S)
    window.add(0, 100.0)
    window.add(0, 50.0)
    window.advance(60.0)
    assert window.sums == [2]
    window.advance(104.9)
    assert window.sums == [2]


def test_an_amended_count_expires_with_the_slot_it_amends():
    window = Window(2, SPAN_S)
    window.add(0, 100.0)
    slot = window.newest
    assert window.amend(slot, 1, 104.0)
    assert window.sums == [1, 1]
    window.advance(105.0)
    assert window.sums == [0, 0]


def test_an_expired_slot_and_one_that_never_was_are_not_amended():
    window = Window(1, SPAN_S)
    window.add(0, 100.0)
    assert not window.amend(window.newest, 0, 105.0)
    assert not window.amend(-1, 0, 105.0)
    assert window.sums == [0]


def test_early_in_the_clocks_life_no_slot_is_mistaken_for_minus_one():
    window = Window(1, SPAN_S)
    window.add(0, 0.0)
    assert not window.amend(-1, 0, 0.0)
    assert window.sums == [1]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 2.5, 4.9, 5.0, 7.0, 80.0])),
        max_size=200,
    )
)
def test_sums_equal_a_recount_of_everything_that_was_added(steps):
    window, now, added = Window(3, SPAN_S), 1000.0, []
    for column, pause in steps:
        now += pause
        window.add(column, now)
        added.append((column, int(now / SLOT_S)))
        oldest = int(now / SLOT_S) - SLOTS
        recount = [sum(c == column and slot > oldest for c, slot in added) for column in range(3)]
        assert window.sums == recount
