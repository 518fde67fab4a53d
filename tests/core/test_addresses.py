"""Which address of an upstream is called, and which is left alone."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.addresses import Address, Addresses

A, B, C = ("10.0.0.1", 80), ("10.0.0.2", 80), ("10.0.0.3", 80)


def make(*endpoints: tuple[str, int], rng=None) -> tuple[Addresses, list[Address]]:
    addresses = Addresses(eject_after=3, eject_s=5.0, eject_max_s=60.0, rng=rng or random.Random(7).random)
    addresses.replace(endpoints)
    return addresses, [addresses._known[endpoint] for endpoint in endpoints]


def eject(addresses: Addresses, address: Address, now: float) -> None:
    for _ in range(3):
        addresses.failed(address, now)


def test_before_the_first_resolution_there_is_nothing_to_pick():
    addresses, _ = make()
    with pytest.raises(LookupError):
        addresses.pick(0.0)


def test_a_single_address_is_picked_whatever_its_state():
    addresses, (a,) = make(A)
    assert addresses.pick(0.0) is a
    assert addresses.pick(0.0, avoid=a) is a
    eject(addresses, a, 0.0)
    assert addresses.pick(1.0) is a


def test_there_is_no_choice_only_while_one_address_is_known_and_well():
    addresses, (a,) = make(A)
    assert addresses.only is a
    eject(addresses, a, 0.0)
    assert addresses.only is None
    addresses.succeeded(a)
    assert addresses.only is a
    addresses, (a, b) = make(A, B)
    eject(addresses, a, 0.0)  # b is alone, but a is to get its trial
    assert addresses.only is None
    addresses.replace([B])
    assert addresses.only is b


def test_of_two_the_one_with_fewer_calls_in_flight_is_picked():
    addresses, (a, b) = make(A, B)
    a.inflight, b.inflight = 4, 3
    assert all(addresses.pick(0.0) is b for _ in range(50))


def test_two_different_ones_are_drawn_and_every_address_gets_its_part():
    addresses, every = make(A, B, C)
    drawn = Counter(addresses.pick(0.0).host for _ in range(3000))
    assert all(drawn[address.host] > 800 for address in every)
    every[0].inflight = 1
    assert all(addresses.pick(0.0) is not every[0] for _ in range(300))


def test_the_one_that_just_failed_is_avoided_while_there_is_another():
    addresses, (a, b, _) = make(A, B, C)
    assert all(addresses.pick(0.0, avoid=a) is not a for _ in range(100))
    addresses.replace([A, B])
    assert all(addresses.pick(0.0, avoid=a) is b for _ in range(100))


def test_failures_in_a_row_eject_and_a_success_between_them_does_not():
    addresses, (a, b) = make(A, B)
    for _ in range(10):
        addresses.failed(a, 0.0)
        addresses.failed(a, 0.0)
        addresses.succeeded(a)
    assert not a.ejections
    eject(addresses, a, 0.0)
    assert all(addresses.pick(1.0) is b for _ in range(100))


def test_after_its_time_an_ejected_address_gets_exactly_one_trial():
    addresses, (a, b) = make(A, B)
    eject(addresses, a, 0.0)
    assert addresses.pick(4.9) is b
    assert addresses.pick(5.0) is a
    assert a.probing
    assert all(addresses.pick(5.0) is b for _ in range(100))
    addresses.succeeded(a)
    assert {addresses.pick(5.1).host for _ in range(100)} == {a.host, b.host}
    assert (a.failures, a.ejections, a.probing) == (0, 0, False)


def test_a_failed_trial_doubles_the_ejection_up_to_its_limit():
    addresses, (a, _) = make(A, B)
    eject(addresses, a, 0.0)
    now, waits = 0.0, []
    for _ in range(7):
        waits.append(a.ejected_until - now)
        now = a.ejected_until
        assert addresses.pick(now) is a
        addresses.failed(a, now)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def test_a_trial_of_which_nothing_is_heard_does_not_block_the_next():
    addresses, (a, b) = make(A, B)
    eject(addresses, a, 0.0)
    assert addresses.pick(5.0) is a
    assert addresses.pick(9.9) is b
    assert addresses.pick(10.0) is a


def test_a_retry_is_not_spent_on_the_trial_of_the_address_it_avoids():
    addresses, (a, b) = make(A, B)
    eject(addresses, a, 0.0)
    assert addresses.pick(5.0, avoid=a) is b
    assert not a.probing


def test_late_failures_do_not_lengthen_an_ejection():
    addresses, (a, _) = make(A, B)
    eject(addresses, a, 0.0)
    for _ in range(50):
        addresses.failed(a, 3.0)
    assert (a.ejections, a.ejected_until) == (1, 5.0)


def test_when_all_are_ejected_the_one_that_returns_first_is_picked():
    addresses, (a, b) = make(A, B)
    eject(addresses, b, 0.0)
    eject(addresses, a, 1.0)
    assert addresses.pick(2.0) is b
    assert addresses.pick(2.0, avoid=b) is a
    addresses.failed(b, 2.0)
    assert b.ejections == 1
    addresses.succeeded(b)
    assert addresses.pick(2.0) is b


def test_a_new_resolution_keeps_what_is_known_and_names_what_is_gone():
    addresses, (a, b) = make(A, B)
    eject(addresses, a, 0.0)
    assert addresses.replace([C, A, C]) == [b]
    assert len(addresses) == 2
    assert a.ejections == 1
    assert addresses.pick(1.0).host == C[0]
    assert addresses.replace([C, A]) == []


def test_an_empty_resolution_is_refused():
    addresses, (a,) = make(A)
    assert addresses.replace([]) == []
    assert addresses.pick(0.0) is a


def test_results_of_an_address_that_is_gone_change_nothing():
    addresses, (a, b) = make(A, B)
    addresses.replace([B])
    eject(addresses, a, 0.0)
    addresses.succeeded(a)
    assert all(addresses.pick(1.0) is b for _ in range(50))


@given(
    st.lists(
        st.tuples(st.sampled_from(["pick", "ok", "bad", "resolve"]), st.integers(0, 3), st.integers(0, 9)),
        max_size=80,
    ),
    st.integers(),
)
def test_whatever_happens_a_known_address_is_picked_and_healthy_ones_come_first(steps, seed):
    endpoints = [A, B, C, ("10.0.0.4", 80)]
    addresses, every = make(*endpoints, rng=random.Random(seed).random)
    now = 0.0
    for action, which, pause in steps:
        now += pause
        address = every[which]
        if action == "ok":
            addresses.succeeded(address)
        elif action == "bad":
            addresses.failed(address, now)
        elif action == "resolve":
            addresses.replace(endpoints[which:])
            every = [addresses._known.get(e, a) for e, a in zip(endpoints, every, strict=True)]
        known = list(addresses._known.values())
        due = [a for a in known if a.ejections and a.ejected_until <= now]
        only = addresses.only
        picked = addresses.pick(now)
        assert picked in known
        if only is not None:
            assert picked is only
        else:
            assert len(known) > 1 or known[0].ejections
        if due:
            assert picked in due
            assert picked.probing
        elif any(not a.ejections for a in known):
            assert not picked.ejections
