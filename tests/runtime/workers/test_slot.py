"""Pauses between workers that fail."""

from types import SimpleNamespace

import pytest

from proxy.runtime.workers.slot import LONGEST_PAUSE_S, STABLE_S, Slot


def failed(served_s):
    return SimpleNamespace(ended=True, cause="killed by SIGKILL", served_s=served_s)


def pauses(*served_s):
    slot = Slot(1)
    told = []
    for seconds in served_s:
        slot.member = failed(seconds)
        told.append(slot.fail())
    return told


def test_the_first_is_replaced_at_once_and_pauses_double_up_to_a_limit():
    assert pauses(*[0.0] * 8) == [0, 0.5, 1, 2, 4, 8, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


@pytest.mark.parametrize("served_s", [STABLE_S, 1e6])
def test_one_that_served_for_long_begins_a_new_row(served_s):
    assert pauses(0.0, 0.0, served_s, 0.0) == [0, 0.5, 0, 0.5]


def test_a_slot_tells_how_its_worker_failed():
    slot = Slot(1)
    assert not slot.waits
    slot.member = failed(0.0)
    slot.fail()
    assert (slot.waits, slot.restarts, slot.failed) == (True, 1, "killed by SIGKILL")
