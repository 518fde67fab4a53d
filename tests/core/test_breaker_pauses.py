"""Slow is only what the upstream took: not a queue of ours, not a client that uploads slowly."""

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.breaker import Breaker, BreakerSettings, Outcome

OK, BAD, NEUTRAL = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL
NEVER = {"minimum_calls": 1_000_000, "consecutive_failures": 0}  # counts, and never trips


class Bench:
    """A breaker that calls slow what takes over a second, and its clock."""

    def __init__(self, **changed) -> None:
        self.now = 100.0
        self.breaker = Breaker(
            "cf",
            BreakerSettings(**{"slow_call_ms": 1000, "window_s": 3600, "ramp_s": 0, **changed}),
            rng=lambda: 0.5,
            on_transition=lambda _: None,
            now=self.now,
        )

    def admit(self) -> int:
        token = self.breaker.admit(self.now, 0)
        assert token
        return token

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.breaker.tick(self.now)

    def pause(self, token: int) -> None:
        self.breaker.paused(token)

    def sent(self, token: int) -> None:
        self.breaker.sent(token, self.now)

    def responded(self, token: int) -> None:
        self.breaker.responded(token, self.now)

    def done(self, token: int, outcome: Outcome = OK) -> None:
        self.breaker.done(token, outcome, self.now)

    @property
    def counts(self) -> tuple[int, int, int]:
        status = self.breaker.snapshot(self.now)
        return status.n, status.failures, status.slow

    def half_open(self) -> int:
        """Trip it, wait out the cooldown: the token of the first probe."""
        for _ in range(self.breaker.settings.consecutive_failures):
            self.done(self.admit(), BAD)
        assert self.breaker.state == "open"
        self.now += self.breaker.settings.cooldown_s * 2
        token = self.admit()
        assert self.breaker.state == "half_open"
        return token


def test_the_time_in_a_queue_is_not_slow():
    bench = Bench(**NEVER)
    token = bench.admit()
    bench.pause(token)
    bench.wait(60)
    bench.sent(token)
    bench.wait(0.9)
    bench.responded(token)
    bench.done(token)
    assert bench.counts == (1, 0, 0)


def test_what_comes_after_the_pause_is_slow_when_it_is():
    bench = Bench(**NEVER)
    token = bench.admit()
    bench.pause(token)
    bench.wait(60)
    bench.sent(token)
    bench.wait(1.1)
    assert bench.counts == (1, 0, 1)  # counted while it runs
    bench.done(token)
    assert bench.counts == (1, 0, 1)


def test_a_slow_upload_that_is_answered_early_is_not_slow():
    """The answer comes while the body is still on its way: `sent` is never said."""
    bench = Bench(**NEVER)
    token = bench.admit()
    bench.pause(token)
    bench.wait(60)
    bench.responded(token)
    bench.wait(60)
    bench.done(token)
    assert bench.counts == (1, 0, 0)


def test_a_call_that_fails_while_paused_is_a_failure_and_not_slow():
    bench = Bench(**NEVER)
    token = bench.admit()
    bench.pause(token)
    bench.wait(60)
    bench.done(token, BAD)
    assert bench.counts == (1, 1, 0)


def test_a_caller_that_leaves_while_paused_is_neutral():
    bench = Bench(**NEVER)
    token = bench.admit()
    bench.pause(token)
    bench.wait(60)
    bench.done(token, NEUTRAL)
    assert bench.counts == (0, 0, 0)


def test_queued_and_then_uploading_slowly_is_two_pauses():
    bench = Bench(**NEVER)
    token = bench.admit()
    for _ in range(2):
        bench.pause(token)
        bench.wait(60)
        bench.sent(token)
        bench.wait(0.9)
    bench.responded(token)
    bench.done(token)
    assert bench.counts == (1, 0, 0)


def test_what_was_slow_before_the_pause_stays_slow():
    bench = Bench(**NEVER)
    token = bench.admit()
    bench.wait(1.1)
    bench.pause(token)
    bench.sent(token)
    bench.responded(token)
    bench.done(token)
    assert bench.counts == (1, 0, 1)


def test_sent_without_a_pause_changes_nothing():
    """A connection at once: the time counts from admission."""
    bench = Bench(**NEVER)
    token = bench.admit()
    bench.wait(0.6)
    bench.sent(token)
    bench.wait(0.6)
    assert bench.counts == (1, 0, 1)


def test_paused_calls_never_trip_though_all_of_them_last():
    bench = Bench(minimum_calls=5, slow_rate=0.1)
    tokens = [bench.admit() for _ in range(50)]
    for token in tokens:
        bench.pause(token)
    for _ in range(20):
        bench.wait(5)
    for token in tokens:
        bench.sent(token)
        bench.done(token)
    assert (bench.breaker.state, bench.counts) == ("closed", (50, 0, 0))


def test_the_pause_of_one_hides_no_other():
    """Later calls that wait for the upstream are found late behind one that was sent after them."""
    bench = Bench(**NEVER)
    one, other = bench.admit(), bench.admit()
    bench.pause(one)
    bench.wait(0.8)
    bench.sent(one)
    bench.wait(0.4)
    assert bench.counts == (1, 0, 1)  # the other
    bench.wait(0.8)
    assert bench.counts == (2, 0, 2)
    bench.done(one)
    bench.done(other)
    assert bench.counts == (2, 0, 2)


def test_a_probe_that_waits_for_its_client_keeps_its_lease():
    bench = Bench(probe_lease_s=2.0, half_open_s=600.0, cooldown_jitter=0)
    token = bench.half_open()
    bench.pause(token)
    bench.wait(60)
    status = bench.breaker.snapshot(bench.now)
    assert (status.state, status.probes_inflight, status.probes_failed) == ("half_open", 1, 0)
    bench.sent(token)
    bench.wait(0.9)
    bench.done(token)
    assert bench.breaker.snapshot(bench.now).probes_passed == 1


def test_a_probe_is_slow_and_lapses_by_the_time_since_it_was_sent():
    bench = Bench(probe_lease_s=2.0, half_open_s=600.0, cooldown_jitter=0, probes=3, probe_successes=1)
    token = bench.half_open()
    bench.pause(token)
    bench.wait(60)
    bench.sent(token)
    bench.wait(1.1)
    status = bench.breaker.snapshot(bench.now)
    assert (status.probes_inflight, status.probes_failed) == (1, 1)
    bench.wait(1.0)
    assert bench.breaker.snapshot(bench.now).probes_inflight == 0


def test_half_open_ends_though_a_paused_probe_never_does():
    bench = Bench(half_open_s=30.0, cooldown_jitter=0)
    bench.pause(bench.half_open())
    bench.wait(31)
    assert bench.breaker.state == "open"


def test_tokens_of_an_older_generation_can_neither_pause_nor_go_on():
    bench = Bench(cooldown_jitter=0)
    old, paused = bench.admit(), bench.admit()
    bench.pause(paused)
    probe = bench.half_open()
    for token in (old, paused):
        bench.pause(token)
        bench.sent(token)
        bench.done(token, BAD)
    status = bench.breaker.snapshot(bench.now)
    assert (status.state, status.probes_inflight, status.probes_failed) == ("half_open", 1, 0)
    bench.done(probe)
    assert bench.breaker.snapshot(bench.now).probes_passed == 1


class Told:
    """The rule in plain words: slow is a call that waited over a second for the upstream, in one go."""

    def __init__(self, now: float) -> None:
        self.since: float | None = now  # None: paused, or answered
        self.slow = False
        self.answered = False

    def look(self, now: float) -> None:
        if self.since is not None and now - self.since > 1.0:
            self.slow = True
            self.since = None


steps = st.lists(
    st.tuples(
        st.sampled_from(["admit", "pause", "sent", "responded", "done", "failed", "neutral", "wait", "wait"]),
        st.integers(0, 2),
        st.sampled_from([0.1, 0.3, 0.6, 1.2]),
    ),
    min_size=12,
    max_size=40,
)


@settings(max_examples=300, derandomize=True)
@given(steps)
def test_counts_are_those_of_the_rule_in_plain_words(script):
    """Any number of calls, paused and sent in any order."""
    bench = Bench(**NEVER)
    running = {bench.admit(): Told(bench.now)}
    calls = failures = slow = 0
    for what, number, seconds in script:
        if what == "admit":
            running[bench.admit()] = Told(bench.now)
        elif what == "wait":
            bench.wait(seconds)
            for told in running.values():
                told.look(bench.now)
        elif running:
            token = sorted(running)[number % len(running)]
            told = running[token]
            if what in ("pause", "sent") and told.answered:
                continue  # nobody says so
            if what == "pause":
                bench.pause(token)
                told.since = None
            elif what == "sent":
                bench.sent(token)
                if told.since is None and not told.slow:
                    told.since = bench.now
            elif what == "responded":
                bench.responded(token)
                told.since, told.answered = None, True
            else:
                bench.done(token, {"done": OK, "failed": BAD, "neutral": NEUTRAL}[what])
                del running[token]
                calls += told.slow or what != "neutral"
                failures += what == "failed"
                slow += told.slow
        known = sum(told.slow for told in running.values())
        assert bench.counts == (calls + known, failures, slow + known)
