"""The table of moves: every state with every event."""

from itertools import product

import pytest

from proxy.core.rollback.conduct import ACTIONS as DONE
from proxy.core.rollback.conduct import GUARDS as ASKED
from proxy.core.rollback.machine import (
    ACTIONS,
    AUTOMATIC,
    BY_HAND,
    EVENTS,
    GUARDS,
    MOVES,
    STATES,
    IllegalMove,
    move,
    possible,
)

CELLS = list(product(STATES, EVENTS))


@pytest.mark.parametrize(("state", "event"), CELLS, ids=lambda it: it)
def test_a_move_is_in_the_table_and_all_its_guards_hold_or_it_is_illegal(state, event):
    found = MOVES.get((state, event))
    if found is None:
        with pytest.raises(IllegalMove, match=f"{event} leads nowhere from {state}"):
            move(state, event, lambda _: True)
        return
    assert move(state, event, lambda _: True) is found
    for guard in found.guards:
        with pytest.raises(IllegalMove) as caught:
            move(state, event, lambda it, guard=guard: it != guard)
        assert GUARDS[guard] in str(caught.value)


def test_the_table_names_nothing_that_is_not_done_and_leaves_nothing_unused():
    assert set(GUARDS) == set(ASKED) == {guard for found in MOVES.values() for guard in found.guards}
    assert set(ACTIONS) == set(DONE) == {action for found in MOVES.values() for action in found.actions}
    assert {event for _, event in MOVES} == set(EVENTS)
    assert {state for state, _ in MOVES} == {found.to for found in MOVES.values()} == set(STATES)


def test_people_can_start_and_override_from_anywhere():
    for state, event in product(STATES, ("started", "overridden")):
        assert (state, event) in MOVES


def test_nothing_automatic_leads_out_of_an_override_or_into_one():
    for (state, event), found in MOVES.items():
        if event in AUTOMATIC:
            assert "MANUAL_OVERRIDE" not in (state, found.to)


def test_by_itself_normal_is_reached_only_after_green_or_a_verified_recovery():
    """… and never straight from a rollback."""
    back = {
        (state, event) for (state, event), it in MOVES.items() if it.to == "NORMAL" and event in AUTOMATIC
    }
    assert back == {("DEGRADED", "cleared"), ("RECOVERY_VERIFY", "verified")}


def test_of_two_events_the_more_urgent_one_comes():
    assert possible("ROLLED_BACK", lambda _: True) == "critical_failed"
    assert possible("ROLLED_BACK", lambda guard: guard != "critical") == "widened"
    assert possible("NORMAL", lambda _: False) is None


def test_an_illegal_move_by_hand_says_what_can_be_done():
    with pytest.raises(IllegalMove, match="by hand there are: start, override"):
        move("NORMAL", "released", lambda _: True)
    assert "released" in BY_HAND
