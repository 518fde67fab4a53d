"""A breaker on a clock that only the test moves."""

from proxy.core.breaker import Breaker, BreakerSettings, Outcome, Transition

OK, BAD, NEUTRAL = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL


class Bench:
    """A breaker, its clock, and what it announced. Jitter is off unless a test draws it."""

    def __init__(self, *, draw: float = 0.5, now: float = 1000.0, **settings) -> None:
        self.now = now
        self.draw = draw
        self.moves: list[Transition] = []
        self.breaker = Breaker(
            "cf",
            BreakerSettings(**settings),
            rng=lambda: self.draw,
            on_transition=self.moves.append,
            now=self.now,
        )

    def admit(self, bucket: int = 0) -> int:
        return self.breaker.admit(self.now, bucket)

    def done(self, token: int, outcome: Outcome = OK) -> None:
        self.breaker.done(token, outcome, self.now)

    def call(self, outcome: Outcome = OK, times: int = 1, takes: float = 0.0) -> None:
        for _ in range(times):
            token = self.admit()
            assert token
            self.now += takes
            self.done(token, outcome)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.breaker.tick(self.now)

    def half_open(self) -> int:
        """Trip it, wait out the cooldown: the token of the first probe."""
        self.call(BAD, times=self.breaker.settings.consecutive_failures)
        assert self.breaker.state == "open"
        self.now = self.breaker._until
        token = self.admit()
        assert self.breaker.state == "half_open"
        return token

    def recover(self) -> None:
        """From closed through open and half-open to closed, with the ramp just begun."""
        token = self.half_open()
        for _ in range(self.breaker.settings.probe_successes):
            self.done(token)
            token = self.breaker.state == "half_open" and self.admit()
        assert self.breaker.state == "closed"

    @property
    def state(self) -> str:
        return self.breaker.state

    @property
    def status(self):
        return self.breaker.snapshot(self.now)

    @property
    def last(self) -> Transition:
        return self.moves[-1]


def rates_only(**settings) -> Bench:
    return Bench(consecutive_failures=0, **settings)
