"""Windows against a brute-force sum over the slots they cover."""

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.rollback.signals import Delta, Key, added
from proxy.core.rollback.window import RECENT_S, SLOTS, Series, Window

STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 3.0, 9.75, 10.0, 65.0, 590.0, 700.0]), st.integers(0, 9)),
    max_size=40,
)


def told(series, steps):
    """Feed it; every (moment, count)."""
    now, all_of_it = 5.0, []
    for pause, count in steps:
        now += pause
        series.add([count, 2 * count, 77], now)
        all_of_it.append((now, count))
    return all_of_it, now


@given(STEPS, st.sampled_from([0.0, 4.0, 80.0, 599.0, 601.0]))
def test_a_window_is_the_sum_of_its_slots(steps, later):
    series = Series(2, 10.0)
    every, now = told(series, steps)
    first = int((now + later) / 10.0) - SLOTS + 1
    expected = sum(count for at, count in every if int(at / 10.0) >= first)
    assert series.sums(now + later) == [expected, 2 * expected]


@given(STEPS)
def test_what_it_was_at_a_moment(steps):
    """Exactly for the last half minute, to the slot before that."""
    series = Series(2, 10.0)
    every, now = told(series, steps)
    for at, _ in every:
        since = series.total[0] - series.at(at)[0]
        exact = sum(count for when, count in every if when >= at)
        if at >= now - RECENT_S:
            assert since == exact
        elif int(at / 10.0) > int(now / 10.0) - SLOTS:
            assert sum(count for when, count in every if when >= at + 10.0) <= since
            assert since <= sum(count for when, count in every if when >= int(at / 10.0) * 10.0)


@given(st.lists(STEPS, min_size=2, max_size=3))
def test_merging_is_counting_it_all_in_one_in_any_order(parts):
    whole, ticks = Series(2, 10.0), []
    merged = [Series(2, 10.0) for _ in range(2)]
    at_once = []
    for steps in parts:
        at_once.append(Series(2, 10.0))
        every, _ = told(at_once[-1], steps)
        ticks += every
    merged[0].merge(*at_once)
    for steps in reversed(parts):
        series = Series(2, 10.0)
        told(series, steps)
        merged[1].merge(series)
    for at, count in sorted(ticks):
        whole.add([count, 2 * count], at)
    now = max([at for at, _ in ticks], default=5.0)
    for later in (now, now + 300.0):
        assert merged[0].sums(later) == merged[1].sums(later) == whole.sums(later)


def test_what_many_workers_send_in_one_tick_is_one_moment():
    series = Series(1, 10.0)
    for tick in range(400):
        for worker in range(8):
            series.add([1], 100.0 + tick * 0.25 + worker * 0.01)
    assert len(list(series.moments())) <= RECENT_S * 4 + SLOTS + 1
    assert series.total[0] - series.at(199.75)[0] == 8


def test_a_clock_that_lags_counts_as_the_newest():
    series = Series(1, 10.0)
    series.add([3], 100.0)
    series.add([4], 20.0)
    assert series.sums(100.0) == series.sums(20.0) == [7]


def test_what_comes_many_times_in_a_tick_is_one_moment():
    """Thousands of segments may share the series of what overflows."""
    series = Series(1, 10.0)
    for at in (99.0, 100.0, 100.0, 100.0):
        series.add([1], at)
    assert [total[0] for _, total in series.moments()] == [1, 0, 0]
    assert series.total[0] - series.at(100.0)[0] == 3


def test_the_busiest_keep_their_series_and_nothing_is_lost():
    window = Window(1, 600.0, lambda key: "other", limit=8)
    for second in range(300):
        for name in range(4):
            window.add(f"busy{name}", [50], float(second))
        window.add(f"rare{second % 40}", [1], float(second))
    assert len(window.series) <= 8 + 1
    assert {f"busy{name}" for name in range(4)} <= set(window.series)
    assert sum(window.sums(key, 300.0)[0] for key in window.series) == 300 * 201
    assert window.overflowed > 0
    assert all(window.sums(key, 2_000.0) == [0] for key in [*window.series, "never"])
    window.add("new", [1], 2_000.0)
    assert set(window.series) <= {"new", "other"}  # who is silent makes room


KEYS = st.builds(Key, st.just("r"), st.just("a"), st.just("exposed"), st.sampled_from([b"", b"eu", b"us"]))
DELTAS = st.builds(
    lambda cells: Delta(targets=(), cells=cells),
    st.dictionaries(KEYS, st.lists(st.integers(0, 9), min_size=3, max_size=3)),
)


@settings(max_examples=40)
@given(st.lists(DELTAS, min_size=1, max_size=3), st.randoms())
def test_the_order_in_which_deltas_are_added_up_does_not_matter(deltas, chance):
    other = list(deltas)
    chance.shuffle(other)
    assert (
        added(deltas).cells == added(other).cells == added([deltas[0], added(deltas[1:] or [Delta()])]).cells
    )
