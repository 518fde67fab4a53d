"""What holds for a breaker whatever happens to it, in whatever order."""

import random
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.core.breaker import Breaker, BreakerSettings, Outcome
from proxy.core.window import SLOTS

SLOW_S = 0.5
PAUSES = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 2.0, 5.0, 11.0])
BUCKETS = st.integers(0, 9999)


@st.composite
def breaker_settings(draw) -> BreakerSettings:
    probes = draw(st.integers(1, 4))
    return BreakerSettings(
        failure_rate=draw(st.sampled_from([0.3, 0.5, 1.0])),
        slow_rate=draw(st.sampled_from([0.5, 1.0])),
        slow_call_ms=SLOW_S * 1000,
        minimum_calls=draw(st.integers(1, 8)),
        window_s=draw(st.sampled_from([1.0, 5.0])),
        consecutive_failures=draw(st.sampled_from([0, 2, 5])),
        cooldown_s=1.0,
        cooldown_max_s=4.0,
        probes=probes,
        probe_successes=draw(st.integers(1, probes)),
        probe_concurrency=draw(st.integers(1, 4)),
        probe_lease_s=draw(st.sampled_from([0.25, 1.0, 3.0])),
        half_open_s=draw(st.sampled_from([2.0, 10.0])),
        ramp_s=draw(st.sampled_from([0.0, 2.0])),
        dry_run=draw(st.booleans()),
    )


@dataclass
class Call:
    """One admitted call as the model sees it."""

    generation: int
    started: float
    judged: bool  # the machine looks at it: not so what a dry run let through
    responded: bool = False
    lapsed: bool = False  # it answered when its lease was over
    counted_at: float | None = None
    slow: bool = False
    failed: bool = False


class BreakerMachine(RuleBasedStateMachine):
    """A breaker beside a model that keeps every call and recounts from the beginning."""

    @initialize(given_settings=breaker_settings(), seed=st.integers(0, 2**16))
    def start(self, given_settings: BreakerSettings, seed: int) -> None:
        self.now = 100.0
        self.moves = []
        self.calls: dict[int, Call] = {}  # running, by token
        self.counted: list[Call] = []  # in the window of this closed time
        self.generation = 0
        self.breaker = Breaker(
            "x", given_settings, rng=random.Random(seed).random, on_transition=self.moves.append, now=self.now
        )

    @property
    def status(self):
        return self.breaker.snapshot(self.now)

    def of_generation(self, *, present: bool) -> list[int]:
        return [t for t, call in self.calls.items() if (call.generation == self.generation) is present]

    def count(self, call: Call, *, slow: bool, failed: bool) -> None:
        call.counted_at, call.slow, call.failed = self.now, slow, failed
        self.counted.append(call)

    def count_overdue(self) -> None:
        if self.breaker.state == "closed":
            for call in self.calls.values():
                late = self.now - call.started > SLOW_S and not call.responded
                if late and call.judged and call.generation == self.generation and call.counted_at is None:
                    self.count(call, slow=True, failed=False)

    def moved(self) -> None:
        if self.status.generation != self.generation:
            self.generation = self.status.generation
            self.counted = []

    @rule(pause=PAUSES)
    def pass_time(self, pause: float) -> None:
        self.now += pause

    @rule(pause=PAUSES)
    def tick(self, pause: float) -> None:
        self.now += pause
        self.count_overdue()
        self.breaker.tick(self.now)
        self.moved()

    @rule(bucket=BUCKETS)
    def admit(self, bucket: int) -> None:
        if not self.breaker._passing:
            self.count_overdue()
        token = self.breaker.admit(self.now, bucket)
        self.moved()
        if token:
            assert all(token > other for other in self.calls)
            trial = self.breaker._trial
            judged = token in (self.breaker._waiting if trial is None else trial._leases)
            assert judged or self.breaker.settings.dry_run
            self.calls[token] = Call(self.generation, self.now, judged)
        else:
            assert not self.breaker.settings.dry_run or self.breaker.forced == "open"
            assert bucket >= self.status.ramp_share * 10_000
            assert self.breaker.refusal(self.now).retry_after_s >= 1

    @precondition(lambda self: self.of_generation(present=True))
    @rule(data=st.data())
    def respond(self, data) -> None:
        call = self.calls[token := data.draw(st.sampled_from(self.of_generation(present=True)))]
        settles = call.judged and not call.responded and call.counted_at is None
        if settles and self.breaker.state == "closed" and self.now - call.started > SLOW_S:
            self.count(call, slow=True, failed=False)
        trial = self.breaker._trial
        call.lapsed = call.lapsed or (trial is not None and token not in trial._leases)
        call.responded = True
        self.breaker.responded(token, self.now)
        self.moved()

    @precondition(lambda self: self.of_generation(present=True))
    @rule(data=st.data(), outcome=st.sampled_from([Outcome.SUCCESS, Outcome.FAILURE]))
    def finish(self, data, outcome: Outcome) -> None:
        token = data.draw(st.sampled_from(self.of_generation(present=True)))
        call = self.calls.pop(token)
        failed = outcome is Outcome.FAILURE
        if call.judged and self.breaker.state == "closed":
            if call.counted_at is None:
                self.count(call, slow=not call.responded and self.now - call.started > SLOW_S, failed=failed)
            elif failed and self.in_window(call):
                call.failed = True
            elif failed:
                self.count(replace(call), slow=False, failed=True)
        self.breaker.done(token, outcome, self.now)
        self.moved()

    @precondition(lambda self: self.of_generation(present=True))
    @rule(data=st.data())
    def leave(self, data) -> None:
        """A client goes away: neutral."""
        token = data.draw(st.sampled_from(self.of_generation(present=True)))
        self.tick(0.0)  # what time alone does, it does now
        if token not in self.of_generation(present=True):
            return
        del self.calls[token]
        before = self.status
        self.breaker.done(token, Outcome.NEUTRAL, self.now)
        after = self.status
        assert (after.n, after.failures, after.slow, after.consecutive) == (
            before.n,
            before.failures,
            before.slow,
            before.consecutive,
        )
        self.moved()

    @precondition(lambda self: self.of_generation(present=False))
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def finish_late(self, data, outcome: Outcome) -> None:
        """A call of an older generation ends: nothing changes, beyond what time alone does."""
        token = data.draw(st.sampled_from(self.of_generation(present=False)))
        del self.calls[token]
        self.count_overdue()
        self.breaker.tick(self.now)
        self.moved()
        before = self.status
        self.breaker.responded(token, self.now)
        self.breaker.done(token, outcome, self.now)
        assert self.status == before

    @rule(action=st.sampled_from(["open", "close", "auto"]))
    def by_hand(self, action: str) -> None:
        getattr(self.breaker, action)(self.now, "test")
        self.moved()
        if action != "auto":
            assert self.status.forced == {"open": "open", "close": "closed"}[action]
            assert self.breaker.state == self.status.forced

    def in_window(self, call: Call) -> bool:
        slot_s = self.breaker.settings.window_s / SLOTS
        return int(call.counted_at / slot_s) > int(self.now / slot_s) - SLOTS

    @invariant()
    def sums_equal_a_recount(self) -> None:
        if self.breaker.state == "closed":
            recent = [call for call in self.counted if self.in_window(call)]
            status = self.status
            assert (status.n, status.failures, status.slow) == (
                len(recent),
                sum(call.failed for call in recent),
                sum(call.slow for call in recent),
            )

    @invariant()
    def never_more_probes_in_flight_than_permits(self) -> None:
        if self.breaker.state == "half_open":
            lease_s = self.breaker.settings.probe_lease_s
            running = [
                call
                for call in map(self.calls.get, self.of_generation(present=True))
                if call.judged and not call.lapsed and (call.responded or self.now - call.started < lease_s)
            ]
            assert len(running) <= self.breaker.settings.probe_concurrency
            assert self.status.probes_inflight <= self.breaker.settings.probe_concurrency
            assert self.status.probes_passed + self.status.probes_failed <= self.breaker.settings.probes

    @invariant()
    def what_is_held_by_hand_does_not_move(self) -> None:
        if self.breaker.forced is not None:
            assert self.breaker.state == self.breaker.forced
            assert self.moves == [] or self.moves[-1].to == self.breaker.state

    @invariant()
    def pybreaker_holds_the_same_state(self) -> None:
        assert self.breaker.circuit.current_state == self.breaker.state.replace("_", "-")

    @invariant()
    def moves_are_told_once_and_join_up(self) -> None:
        assert len(self.moves) == self.status.generation
        states = ["closed", *(move.to for move in self.moves)]
        assert [move.before for move in self.moves] == states[:-1]

    @invariant()
    def nothing_is_remembered_of_calls_that_ended(self) -> None:
        assert set(self.breaker._waiting) | set(self.breaker._settled) <= set(self.calls)


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def half_open(given_settings: BreakerSettings) -> tuple[Breaker, float, int]:
    breaker = Breaker("x", given_settings, rng=lambda: 0.5, on_transition=lambda _: None, now=0.0)
    breaker.open(0.0, "to begin with")
    breaker.forced = None  # as if it had tripped
    token = breaker.admit(1.0, 0)
    assert breaker.state == "half_open"
    return breaker, 1.0, token


@given(
    breaker_settings(),
    st.lists(st.tuples(st.sampled_from(["admit", "head", "bad", "neutral"]), PAUSES), max_size=30),
)
def test_half_open_always_ends_by_its_time(given_settings, steps):
    breaker, now, token = half_open(given_settings)
    began, tokens = now, [token]
    for action, pause in steps:
        if now + pause >= began + given_settings.half_open_s or breaker.state != "half_open":
            break
        now += pause
        if action == "admit":
            tokens.append(breaker.admit(now, 0))
        elif action == "head":
            breaker.responded(tokens[-1], now)
        else:
            breaker.done(tokens[-1], Outcome.FAILURE if action == "bad" else Outcome.NEUTRAL, now)
    breaker.tick(began + given_settings.half_open_s)
    assert breaker.state != "half_open"


@given(st.floats(0, 12), st.floats(0, 12), BUCKETS)
def test_a_user_let_in_by_the_ramp_stays_in(one, other, bucket):
    given_settings = BreakerSettings(cooldown_s=1, ramp_s=10, probe_successes=1)
    breaker, now, token = half_open(given_settings)
    breaker.done(token, Outcome.SUCCESS, now)
    early, late = (bool(breaker.admit(now + after, bucket)) for after in sorted((one, other)))
    assert late or not early


@given(st.floats(0, 10), BUCKETS, BUCKETS)
def test_the_ramp_lets_lower_buckets_in_first(after, one, other):
    breaker, now, token = half_open(BreakerSettings(cooldown_s=1, ramp_s=10, probe_successes=1))
    breaker.done(token, Outcome.SUCCESS, now)
    low, high = (bool(breaker.admit(now + after, bucket)) for bucket in sorted((one, other)))
    assert low or not high
