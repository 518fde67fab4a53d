"""Retries stay a share of requests."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.budget import TTL_S, RetryBudget


def deposit(budget: RetryBudget, now: float) -> None:
    budget.made += 1
    budget.tick(now)


def granted(budget: RetryBudget, now: float, tries: int) -> int:
    return sum(budget.withdraw(now) for _ in range(tries))


def test_a_fifth_of_the_requests_may_be_retried():
    budget = RetryBudget(0.2, 0.0)
    for _ in range(100):
        deposit(budget, 50.0)
    assert granted(budget, 50.0, 100) == 20


def test_deposits_expire():
    budget = RetryBudget(0.2, 0.0)
    for _ in range(100):
        deposit(budget, 50.0)
    assert granted(budget, 50.0 + TTL_S, 100) == 0


def test_what_was_spent_comes_back_only_with_new_requests():
    budget = RetryBudget(0.5, 0.0)
    for _ in range(10):
        deposit(budget, 50.0)
    assert granted(budget, 50.0, 10) == 5
    assert granted(budget, 59.0, 10) == 0
    for _ in range(10):
        deposit(budget, 61.0)
    assert granted(budget, 61.0, 10) == 5


def test_the_floor_lets_a_quiet_upstream_be_retried():
    budget = RetryBudget(0.2, 3.0)
    assert granted(budget, 1000.0, 10) == 3
    assert granted(budget, 1000.5, 10) == 1
    assert granted(budget, 2000.0, 10) == 3


def test_a_floor_below_one_grants_one_in_its_time():
    budget = RetryBudget(0.0, 0.5)
    assert granted(budget, 1000.0, 10) == 1
    assert granted(budget, 1001.0, 10) == 0
    assert granted(budget, 1002.0, 10) == 1


def test_without_share_and_floor_nothing_is_granted():
    budget = RetryBudget(0.0, 0.0)
    for second in range(100):
        deposit(budget, float(second))
        assert not budget.withdraw(float(second))


@given(
    share=st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]),
    floor=st.sampled_from([0.0, 0.5, 3.0]),
    steps=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30), st.sampled_from([0.0, 0.2, 1.0, 3.0, 30.0])),
        max_size=60,
    ),
)
def test_no_run_is_granted_more_than_share_and_floor(share, floor, steps):
    budget, start = RetryBudget(share, floor), 500.0
    now, requests, retries = start, [], []
    for deposits, tries, pause in steps:
        now += pause
        for _ in range(deposits):
            deposit(budget, now)
            requests.append(now)
        retries += [now] * granted(budget, now, tries)
        for since in (start, now - TTL_S):
            # a slot of the window is a tenth of its span: what is still spendable may be that much older
            payers = sum(at > since - TTL_S for at in requests)
            allowed = share * payers + floor * (now - since) + max(1.0, floor)
            assert sum(at > since or since == start for at in retries) <= allowed + 1e-6
