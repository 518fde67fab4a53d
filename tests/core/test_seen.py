"""Who was seen is always found; who was not, seldom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.seen import PLACES, SIZE, Seen

KEYS = st.binary(max_size=20)


@given(st.lists(KEYS, max_size=200), st.integers(1, 64))
def test_who_was_added_is_found_however_full_it_is(keys, size):
    seen = Seen(bytearray(size))
    for n, key in enumerate(keys):
        seen.add(key)
        assert all(known in seen for known in keys[: n + 1])


@given(st.lists(KEYS, max_size=50), KEYS)
def test_asking_changes_nothing_and_adding_again_neither(keys, other):
    cells = bytearray(256)
    seen = Seen(cells)
    for key in keys:
        seen.add(key)
    before = bytes(cells)
    other in seen  # noqa: B015 - it is asked
    for key in keys:
        seen.add(key)
    assert cells == before


def test_an_empty_one_knows_nobody():
    seen = Seen(bytearray(64))
    assert not any(b"%d" % n in seen for n in range(1000))
    assert seen.false_share() == 0


def test_it_takes_as_few_strangers_for_known_as_it_should():
    """As crowded as two MiB with a million users: (1 - e^(-7·8/(2·8·2^20/10^6)))^7 = 0.00054."""
    size = SIZE // 32
    seen = Seen(bytearray(size))
    users = 1_000_000 // 32
    for n in range(users):
        seen.add(b"user-%d" % n)
    expected = (1 - (1 - 1 / (size * 8)) ** (PLACES * users)) ** PLACES
    strangers = 60_000
    wrong = sum(b"new-%d" % n in seen for n in range(strangers))
    assert expected == pytest.approx(0.00054, abs=0.00002)
    assert wrong == pytest.approx(expected * strangers, abs=4 * (expected * strangers) ** 0.5)
    assert seen.false_share() == pytest.approx(expected, rel=0.25)


def test_several_share_the_cells():
    cells = bytearray(1024)
    one, other = Seen(cells), Seen(memoryview(cells))
    one.add(b"x")
    assert b"x" in other
