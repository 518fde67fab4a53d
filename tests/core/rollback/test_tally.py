"""The tally: bounded cells, each request once, deltas that add up."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.rollback.signals import (
    BOUNDS_S,
    BROKEN,
    FAILED,
    FILLED,
    HITS,
    LATE,
    MAX_CELLS,
    READS,
    REFUSED,
    REQUESTS,
    SHORT,
    SLOTS,
    Calls,
    Delta,
    Key,
    added,
    columns,
)
from proxy.core.rollback.tally import UNKNOWN, Tally

TARGETS = (0.075, 0.2)
EU = (b"eu", b"heavy", b"tv")
REST = (b"other", b"other", b"other")
FINE = {"seconds": 0.01, "k": 10, "covered": 10}


def tally(targets=TARGETS):
    made = Tally(targets)
    return made, made.cells("films", "none", "exposed")


def only(delta):
    (counts,) = delta.cells.values()
    return counts


def test_a_request_is_counted_in_every_column_it_says_something_about():
    made, cells = tally()
    cells.ended(cells.of(EU), 0.1, k=10, covered=7, reads=2, hits=1, failed=True, broken=True)
    delta = made.take({"cf": Calls(3, 1, 0)})
    assert delta.targets == TARGETS
    assert delta.upstreams == {"cf": Calls(3, 1, 0)}
    assert list(delta.cells) == [Key("films", "none", "exposed", *EU)]
    counts = only(delta)
    assert len(counts) == columns(2)
    named = REQUESTS, FAILED, BROKEN, REFUSED, SLOTS, FILLED, SHORT, READS, HITS, LATE, LATE + 1
    assert [counts[at] for at in named] == [1, 1, 1, 0, 10, 7, 300, 2, 1, 1, 0]
    assert counts[LATE + 2 :].index(1) == BOUNDS_S.index(0.1)
    assert sum(counts[LATE + 2 :]) == 1


def test_what_was_taken_is_not_there_again():
    made, cells = tally()
    cells.ended(cells.of(EU), **FINE)
    made.take({})
    assert made.take({}) == Delta(targets=TARGETS)
    cells.ended(cells.of(EU), **FINE)
    assert only(made.take({}))[REQUESTS] == 1


def test_late_in_flight_counts_once_and_its_end_adds_the_rest():
    """The first target counts the request; the end counts neither it nor what it has passed again."""
    made, cells = tally()
    cells.late(cells.of(EU), 0)
    first = made.take({})
    assert (only(first)[REQUESTS], only(first)[LATE], sum(only(first))) == (1, 1, 2)
    cells.ended(cells.of(EU), 0.5, k=10, covered=10, passed=1)
    rest = only(made.take({}))
    assert (rest[REQUESTS], rest[LATE], rest[LATE + 1], rest[SLOTS]) == (0, 0, 1, 10)
    assert sum(rest[LATE + 2 :]) == 1


def test_one_that_left_after_it_was_late_adds_how_long_it_took_and_nothing_else():
    made, cells = tally()
    cells.late(cells.of(EU), 0)
    cells.late(cells.of(EU), 1)
    cells.left(cells.of(EU), 0.7, 2)
    counts = only(made.take({}))
    assert (counts[REQUESTS], counts[LATE], counts[LATE + 1], counts[REFUSED]) == (1, 1, 1, 0)
    assert sum(counts) == 4


def test_requests_that_nobody_judges_are_a_number():
    made, cells = tally()
    cells.plain += 3
    cells.refused += 2
    counts = only(made.take({}))
    assert (counts[REQUESTS], counts[REFUSED], sum(counts)) == (3, 2, 5)
    assert made.take({}).cells == {}


def test_what_overflows_goes_to_one_cell_and_is_counted():
    """Whoever makes up segments costs no more memory, and takes nothing from the sums; those without a
    segment keep their cell.
    """
    made, cells = tally()
    for n in range(MAX_CELLS + 50):
        cells.ended(cells.of((b"%d" % n, b"", b"")), **FINE)
    cells.ended(cells.of(UNKNOWN), **FINE)
    cells.ended(cells.of((b"7", b"", b"")), **FINE)
    delta = made.take({})
    assert len(delta.cells) == MAX_CELLS + 2
    assert delta.overflowed == 50
    assert delta.cells[Key("films", "none", "exposed", *REST)][REQUESTS] == 50
    assert delta.cells[Key("films", "none", "exposed")][REQUESTS] == 1
    assert delta.cells[Key("films", "none", "exposed", b"7")][REQUESTS] == 2
    cells.ended(cells.of((b"new", b"", b"")), **FINE)
    assert made.take({}).overflowed == 0


def test_other_targets_mean_other_columns():
    made, cells = tally()
    cells.ended(cells.of(EU), **FINE)
    made.retarget((0.1,))
    cells.ended(cells.of(EU), 0.15, k=10, covered=10)
    delta = made.take({})
    assert delta.targets == (0.1,)
    assert (len(only(delta)), only(delta)[REQUESTS], only(delta)[LATE]) == (columns(1), 1, 1)


ENDED = st.builds(
    lambda seconds, k, covered, reads, hits, failed, broken: {
        "seconds": seconds, "k": k, "covered": min(covered, k), "reads": reads, "hits": min(hits, reads),
        "failed": failed or broken, "broken": broken,
    },
    st.floats(0, 60), st.integers(1, 50), st.integers(0, 50), st.integers(0, 3), st.integers(0, 3),
    st.booleans(), st.booleans(),
)  # fmt: skip
REQUEST = st.tuples(st.sampled_from([EU, UNKNOWN, (b"us", b"", b"")]), ENDED, st.integers(0, 2))


@given(st.lists(REQUEST, max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_taken_in_pieces_or_whole_the_sums_are_the_same(requests, cuts):
    """And every request stands in one latency bucket, and is late for each target it took longer than."""
    whole, pieces = tally(), tally()
    deltas = []
    for at, (segment, ended, passed) in enumerate(requests):
        for made, cells in (whole, pieces):
            told = min(passed, sum(ended["seconds"] > target for target in TARGETS))
            for target in range(told):
                cells.late(cells.of(segment), target)
            if made is pieces[0] and at in cuts:
                deltas.append(made.take({}))
            cells.ended(cells.of(segment), **ended, passed=told)
    deltas.append(pieces[0].take({}))
    together = whole[0].take({})
    assert added(deltas) == together
    for counts in together.cells.values():
        assert counts[REQUESTS] == sum(counts[LATE + 2 :])
        assert counts[BROKEN] <= counts[FAILED] <= counts[REQUESTS]
        assert counts[SHORT] <= 1_000 * counts[REQUESTS]
    total = [sum(column) for column in zip(*together.cells.values(), strict=True)] or [0] * columns(2)
    assert total[REQUESTS] == len(requests)
    for at, target in enumerate(TARGETS):
        assert total[LATE + at] == sum(ended["seconds"] > target for _, ended, _ in requests)
