"""The breaker: whether an upstream may be called, decided from how its calls end.

pybreaker holds the state and tells its listeners; everything is decided here, because its own rules
know failures in a row only, let every caller through when half-open and hold a lock around calls.
Times are monotonic seconds handed in by the caller; one thread calls.
"""

from collections.abc import Callable, Mapping
from math import ceil, inf
from typing import Any, Literal

import pybreaker

from proxy.core.breaker_values import (
    CLOSED,
    HALF_OPEN,
    OPEN,
    BreakerSettings,
    BreakerStatus,
    Cause,
    Outcome,
    Refused,
    Rule,
    State,
    Transition,
)
from proxy.core.probes import Probes
from proxy.core.window import Window
from proxy.errors import FuseboxError

__all__ = (
    "CLOSED", "HALF_OPEN", "MOVES", "OPEN", "Breaker", "BreakerSettings", "BreakerStatus", "IllegalMoveError",
    "Outcome", "Refused", "Rule", "State", "Transition",
)  # fmt: skip

MOVES: Mapping[tuple[State, State], tuple[Rule, ...]] = {
    (CLOSED, OPEN): ("failure_rate", "consecutive_failures", "slow_rate", "manual"),
    (OPEN, HALF_OPEN): ("cooldown",),
    (OPEN, CLOSED): ("manual",),
    (HALF_OPEN, CLOSED): ("probes_passed", "half_open_timeout", "manual"),
    (HALF_OPEN, OPEN): ("probes_failed", "lease_expired", "half_open_timeout", "manual"),
}
"""Every transition there is, and the rules that may cause it."""

BUCKETS = 10_000
RAMP_START = 0.1
"""The share of users let in the moment a breaker has closed."""

_CALLS, _FAILED, _SLOW = range(3)  # columns of the window
_UNCOUNTED = -1  # no slot of the window
_BAD = Outcome.FAILURE
_NEUTRAL = Outcome.NEUTRAL


class IllegalMoveError(FuseboxError):
    """A transition that is not in `MOVES`. Nothing has changed."""


class _Relay(pybreaker.CircuitBreakerListener):
    """Hands each change of the circuit's state on as the transition that explains it."""

    def __init__(self, breaker: "Breaker", on_transition: Callable[[Transition], None]) -> None:
        self._breaker = breaker
        self._on_transition = on_transition

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        if self._breaker.last is not None:
            self._on_transition(self._breaker.last)


class Breaker:
    """Asked before each call of one upstream (`admit`), told how it went (`responded`, `done`).

    A permit is a token. Tokens only grow and every change of state forgets those handed out before:
    a late result of an older generation is unknown and changes nothing. Listeners hear of a change
    after it is complete, by `on_transition` or as pybreaker listeners on `circuit`.

    Cooldown: `cooldown_s`, doubled up to `cooldown_max_s` by each failed recovery (a trial with a
    failure, a trip during the ramp); back to `cooldown_s` when a trip comes after at least
    `cooldown_max_s` closed. A trial that ends without any verdict doubles nothing. The cooldown is
    looked at when a call asks, so a trial never begins without a call to try.
    """

    __slots__ = (
        "_consecutive", "_doublings", "_forced_reason", "_generation", "_left_closed", "_passing", "_rng",
        "_settled", "_since", "_slow_s", "_token", "_trial", "_until", "_waiting", "_window",
        "circuit", "forced", "last", "name", "settings", "slow_calls", "state",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        *,
        rng: Callable[[], float],
        on_transition: Callable[[Transition], None],
        now: float,
    ) -> None:
        self.name = name
        self.settings = settings
        self.state: State = CLOSED
        self.forced: Literal["open", "closed"] | None = None
        self.last: Transition | None = None
        self.slow_calls = 0  # counted as slow, ever
        # to listen to; moved by `_move` alone, and never called through
        self.circuit = pybreaker.CircuitBreaker(name=name, listeners=[_Relay(self, on_transition)])
        self._rng = rng
        self._passing = True  # closed, and nobody is held back by a ramp
        self._token = 0
        self._waiting: dict[int, float] = {}  # token → start, in order of start: no response head yet
        self._settled: dict[int, int] = {}  # token → window slot it was counted in as slow, or _UNCOUNTED
        self._slow_s = settings.slow_call_ms / 1000
        self._window = Window(3, settings.window_s)
        self._consecutive = self._generation = self._doublings = 0
        self._since = now  # of the present state
        self._left_closed = self._until = now  # the latter: the end of the cooldown
        self._trial: Probes | None = None
        self._forced_reason = ""

    def admit(self, now: float, bucket: int) -> int:
        """A token for one call by a user of `bucket` (0…9999), or 0: not now, see `refusal`.

        Every token is given back exactly once, by `done`.
        """
        if self._passing:
            self._token = token = self._token + 1
            self._waiting[token] = now
            return token
        self.tick(now)
        self._token = token = self._token + 1
        if self.state == OPEN and self.forced is None and now >= self._until:
            waited, cooldown = now - self._since, self._until - self._since
            reason = f"cooled down for {waited:.1f} s"
            self._move(HALF_OPEN, now, Cause("cooldown", reason, waited, 0, cooldown))
        if self._trial is not None:
            admitted = self._trial.lease(token, now)
        else:
            admitted = bucket < self._share(now) * BUCKETS
            if admitted:
                self._waiting[token] = now
        return token if admitted or (self.settings.dry_run and self.forced is None) else 0

    def passes(self, now: float, bucket: int) -> bool:
        """Whether `admit` would give more than a probe. Hands out nothing, changes nothing."""
        return bucket < self._share(now) * BUCKETS or (self.settings.dry_run and self.forced is None)

    def refusal(self, now: float) -> Refused:
        """Why `admit` has just answered 0."""
        retry = max(1, self._retry_after(now))
        if self.state == HALF_OPEN:
            return Refused("half_open", retry, "probing whether the upstream has recovered")
        if self.state == CLOSED:
            return Refused("ramp", retry, f"recovering: {self._share(now):.0%} of users are let in")
        if self.forced or self.last is None:
            return Refused("manual", retry, self._forced_reason)
        return Refused(self.last.rule, retry, self.last.reason)

    def paused(self, token: int) -> None:
        """What takes time now is not the upstream: a queue of ours, a client that uploads slowly."""
        if self._waiting.pop(token, None) is not None:
            self._settled[token] = _UNCOUNTED
        elif self._trial is not None:
            self._trial.restart(token, inf)

    def sent(self, token: int, now: float) -> None:
        """After `paused`: from here on the upstream is waited for."""
        if self._settled.get(token) == _UNCOUNTED:
            del self._settled[token]
            self._waiting[token] = now
        elif self._trial is not None:
            self._trial.restart(token, now)

    def responded(self, token: int, now: float) -> None:
        """The response head has arrived; the body may still fail."""
        started = self._waiting.pop(token, None)
        if started is not None:
            self._settled[token] = _UNCOUNTED
            if now - started > self._slow_s:
                self._count_slow(token, now)
        elif self._trial is not None:
            self._trial.responded(token, now)
            self._conclude(self._trial, now)

    def done(self, token: int, outcome: Outcome, now: float) -> None:
        """The call is over. Unknown tokens and second calls change nothing."""
        started = self._waiting.pop(token, None)
        if started is not None:
            slot, late = _UNCOUNTED, now - started > self._slow_s
        elif token in self._settled:
            slot, late = self._settled.pop(token), False
        else:
            if self._trial is not None:
                self._probe_done(self._trial, token, outcome, now)
            return
        if outcome is _NEUTRAL:
            return
        window = self._window
        failed = outcome is _BAD
        self._consecutive = self._consecutive + 1 if failed else 0
        if slot == _UNCOUNTED or (failed and not window.amend(slot, _FAILED, now)):
            window.add(_CALLS, now)
            if failed:
                window.add(_FAILED, now)
            if late:
                window.add(_SLOW, now)
                self.slow_calls += 1
        if window.sums[_FAILED] or window.sums[_SLOW]:
            self._judge(now)

    def tick(self, now: float) -> None:
        """Let time pass: to be called every 50 ms or so."""
        if self._trial is not None:
            self._trial.tick(now)
            self._conclude(self._trial, now)
        elif self.state == CLOSED:
            overdue = []
            for token, started in self._waiting.items():
                if now - started <= self._slow_s:
                    break
                overdue.append(token)
            for token in overdue:
                if self._waiting.pop(token, None) is None:
                    break  # the breaker has tripped: its tokens are forgotten
                self._count_slow(token, now)
            self._passing = self._share(now) >= 1

    def open(self, now: float, reason: str) -> None:
        """Refuse all calls until `close` or `auto`. Nothing moves by itself meanwhile."""
        self.forced = "open"
        self._forced_reason = reason
        if self.state != OPEN:
            self._move(OPEN, now, Cause("manual", reason))

    def close(self, now: float, reason: str) -> None:
        """Admit all calls, without a ramp, until `open` or `auto`. The window goes on counting."""
        self.forced = "closed"
        if self.state != CLOSED:
            self._move(CLOSED, now, Cause("manual", reason))
        self._passing = True

    def auto(self, now: float, reason: str) -> None:
        """Decide alone again: after `open` closed with a fresh window and a ramp, else as things stand."""
        forced, self.forced = self.forced, None
        if forced == "open":
            self._move(CLOSED, now, Cause("manual", reason))

    def reconfigure(self, settings: BreakerSettings, now: float) -> None:
        """Go on under new settings in the same state; a trial under way ends under its own.

        Another `window_s` starts an empty window; a cooldown under way is never longer than a new one.
        """
        if settings.window_s != self.settings.window_s:
            self._window = Window(3, settings.window_s)
            self._settled = dict.fromkeys(self._settled, _UNCOUNTED)
        self._slow_s = settings.slow_call_ms / 1000
        self.settings = settings
        self._until = min(self._until, now + self._cooldown())

    def snapshot(self, now: float) -> BreakerStatus:
        self._window.advance(now)
        calls, failures, slow = self._window.sums
        trial = self._trial
        return BreakerStatus(
            name=self.name,
            state=self.state,
            forced=self.forced,
            dry_run=self.settings.dry_run,
            generation=self._generation,
            n=calls,
            failures=failures,
            slow=slow,
            failure_rate=failures / calls if calls else 0.0,
            slow_rate=slow / calls if calls else 0.0,
            consecutive=self._consecutive,
            opened_for_s=0.0 if self.state == CLOSED else now - self._left_closed,
            retry_after_s=self._retry_after(now),
            ramp_share=self._share(now),
            probes_inflight=trial.inflight if trial else 0,
            probes_passed=trial.passed if trial else 0,
            probes_failed=trial.failed if trial else 0,
            last=self.last,
        )

    def _count_slow(self, token: int, now: float) -> None:
        self._window.add(_CALLS, now)
        self._window.add(_SLOW, now)
        self.slow_calls += 1
        self._settled[token] = self._window.newest
        self._judge(now)

    def _judge(self, now: float) -> None:
        """Trip if a rule says so. Asked when a call is counted, never because old ones expire."""
        if self.forced is not None:
            return
        settings = self.settings
        calls, failures, slow = self._window.sums
        row, limit = self._consecutive, settings.consecutive_failures
        if 0 < limit <= row:
            reason = f"{row} failures in a row"
            self._move(OPEN, now, Cause("consecutive_failures", reason, row, calls, limit))
        elif calls >= settings.minimum_calls:
            among = f"of {calls} calls in {settings.window_s:g} s"
            if failures / calls >= (most := settings.failure_rate):
                reason = f"{failures} {among} failed"
                self._move(OPEN, now, Cause("failure_rate", reason, failures / calls, calls, most))
            elif slow / calls >= (most := settings.slow_rate):
                reason = f"{slow} {among} took over {settings.slow_call_ms:g} ms"
                self._move(OPEN, now, Cause("slow_rate", reason, slow / calls, calls, most))

    def _probe_done(self, trial: Probes, token: int, outcome: Outcome, now: float) -> None:
        if outcome is _NEUTRAL:
            trial.released(token)
        else:
            trial.ended(token, now, passed=outcome is not _BAD)
        self._conclude(trial, now)

    def _conclude(self, trial: Probes, now: float) -> None:
        """End the trial if its probes, or the time it may take, have decided it."""
        verdicts = trial.passed + trial.failed
        told = f"{trial.passed} of {verdicts} probes passed"
        lasted = now - self._since
        if trial.succeeded:
            self._move(CLOSED, now, Cause("probes_passed", told, trial.passed, verdicts, trial.needed))
        elif trial.hopeless:
            rule: Rule = "lease_expired" if trial.lapsed else "probes_failed"
            most = trial.attempts - trial.needed + 1
            self._move(OPEN, now, Cause(rule, told, trial.failed, verdicts, most))
        elif lasted >= (limit := self.settings.half_open_s):
            to: State = CLOSED if trial.promising else OPEN
            reason = f"{told} in {lasted:.1f} s"
            self._move(to, now, Cause("half_open_timeout", reason, lasted, verdicts, limit))

    def _share(self, now: float) -> float:
        """The share of users admitted without being probes."""
        if self._passing:
            return 1.0
        if self.state != CLOSED:
            return 0.0
        elapsed, ramp_s = now - self._since, self.settings.ramp_s
        return 1.0 if elapsed >= ramp_s else RAMP_START + (1 - RAMP_START) * elapsed / ramp_s

    def _retry_after(self, now: float) -> int:
        if self._passing:
            return 0
        if self.forced:
            return ceil(self.settings.cooldown_s)
        if self.state == OPEN:
            return max(1, ceil(self._until - now))
        if self.state == HALF_OPEN:
            return 1
        return max(0, ceil(self._since + self.settings.ramp_s - now))

    def _cooldown(self) -> float:
        """Seconds, before jitter."""
        settings = self.settings
        return min(settings.cooldown_s * 2.0**self._doublings, settings.cooldown_max_s)

    def _back_off(self, now: float) -> None:
        """Adjust the doublings to an automatic opening at `now`."""
        failed_recovery = self._trial.failed > 0 if self._trial else self._share(now) < 1
        if failed_recovery:
            self._doublings += self._cooldown() < self.settings.cooldown_max_s
        elif self.state == CLOSED and now - self._since >= self.settings.cooldown_max_s:
            self._doublings = 0

    def _move(self, to: State, now: float, cause: Cause) -> None:
        """Go to another state by a row of `MOVES`. The only place where the state changes."""
        before = self.state
        if cause.rule not in MOVES.get((before, to), ()):
            raise IllegalMoveError(f"{self.name}: {before} to {to} by {cause.rule}")
        settings = self.settings
        if before == CLOSED:
            self._left_closed = now
        if to == OPEN:
            if cause.rule != "manual":
                self._back_off(now)
            self._until = now + self._cooldown() * (1 + settings.cooldown_jitter * (2 * self._rng() - 1))
        self._trial = None
        if to == HALF_OPEN:
            self._trial = Probes(
                attempts=settings.probes,
                needed=settings.probe_successes,
                concurrency=settings.probe_concurrency,
                lease_s=settings.probe_lease_s,
                slow_s=self._slow_s,
            )
        elif to == CLOSED:
            self._window = Window(3, settings.window_s)
            self._consecutive = 0
        self._passing = to == CLOSED and (self.forced == "closed" or settings.ramp_s == 0)
        self._waiting.clear()
        self._settled.clear()
        self.state = to
        self._since = now
        self._generation += 1
        self.last = Transition(
            upstream=self.name, before=before, to=to, dry_run=settings.dry_run, at=now, **cause._asdict()
        )
        {CLOSED: self.circuit.close, OPEN: self.circuit.open, HALF_OPEN: self.circuit.half_open}[to]()
