"""Inputs of decisions: bounded, sampled without losing count, and without a step to fall in with."""

import random

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.identity import Who
from proxy.core.inputs import Input, Recent, Sampler


def made(at, user=b"u"):
    return Input("films", Who(user, b"", b"", b""), user, 1, 1, at)


class Clients:
    """Requests that meet a sampler, at a virtual time."""

    def __init__(self, per_s=10, seed=1):
        self.now = 100.0
        self.sampler = Sampler(per_s, random.Random(seed).randint, self.now)
        self.weights = []
        self.picked = []  # numbers of requests
        self.asked = 0

    def ask(self, count=1):
        for _ in range(count):
            self.sampler.left -= 1
            if not self.sampler.left:
                self.weights.append(self.sampler.take())
                self.picked.append(self.asked)
            self.asked += 1

    def second(self, requests):
        self.ask(requests)
        self.now += 1.0
        self.sampler.turn(self.now)


class TestRecent:
    def test_what_is_older_than_the_span_is_gone(self):
        recent = Recent(span_s=10.0)
        recent.add(made(at) for at in (1.0, 2.0, 3.0))
        assert [one.at for one in recent.read(11.5)] == [2.0, 3.0]
        assert len(recent) == 2
        recent.forget(13.0)
        assert len(recent) == 0

    def test_never_more_than_it_may_keep_and_then_the_newest(self):
        recent = Recent(most=3)
        for at in range(10):
            recent.keep(made(float(at)))
        assert [one.at for one in recent.read(9.0)] == [7.0, 8.0, 9.0]


class TestSampler:
    def test_while_requests_are_few_every_one_is_kept_and_stands_for_itself(self):
        clients = Clients(per_s=10)
        for _ in range(20):
            clients.second(10)
        assert clients.weights == [1] * 200

    def test_at_a_high_rate_about_the_wanted_number_is_kept(self):
        clients = Clients(per_s=10)
        clients.second(1000)
        before = len(clients.weights)
        for _ in range(20):
            clients.second(1000)
        assert 150 < len(clients.weights) - before < 250

    def test_a_burst_does_not_wait_for_the_next_turn_to_be_sampled(self):
        clients = Clients(per_s=10)
        clients.ask(100_000)
        assert len(clients.weights) < 200

    def test_quiet_after_a_storm_is_kept_whole_again(self):
        clients = Clients(per_s=10)
        for _ in range(3):
            clients.second(100_000)
        clients.second(0)
        before = clients.asked
        clients.ask(5)
        assert clients.picked[-4:] == [before + 1, before + 2, before + 3, before + 4]

    def test_clients_that_take_turns_are_all_seen(self):
        """A step of ten would meet one of ten clients, always the same."""
        clients = Clients(per_s=10)
        for _ in range(60):
            clients.second(100)
        assert {number % 10 for number in clients.picked if number > 500} == set(range(10))

    @given(st.lists(st.integers(0, 3000), max_size=30), st.integers(1, 50), st.integers(0, 99))
    def test_no_request_is_lost_or_counted_twice(self, seconds, per_s, seed):
        """The weights are the requests up to the last one that was kept."""
        clients = Clients(per_s=per_s, seed=seed)
        for requests in seconds:
            clients.second(requests)
            last = clients.picked[-1] + 1 if clients.picked else 0
            assert sum(clients.weights) == last
            assert clients.sampler.left > 0
