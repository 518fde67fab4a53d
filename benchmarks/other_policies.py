"""How others decide on the same traffic, each as its own documentation says, each given our P1 thresholds.

Where a rule has no counterpart in traffic that never ends, the choice is the one that favours it, and says
so. All roll back to the same stage as ours, for all traffic: none of them knows segments.

Sources: Flagger, "How it works" (docs.flagger.app/usage/how-it-works): interval 1m, threshold 5 failed checks
before the rollback. Argo Rollouts, "Analysis & Progressive Delivery"
(argoproj.github.io/argo-rollouts/features/analysis): interval 5m, failureLimit 3, a rate over 5 minutes.
Google, "The Site Reliability Workbook", chapter 5, table 5-8 (sre.google/workbook/alerting-on-slos): 14.4
times the budget over 1 h and 5 min, 6 times over 6 h and 30 min; rules are evaluated every 15 s here.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.core.rollback.layers import NO_LAYERS, Layers, Patch
from proxy.core.rollback.signals import FAILED, LATE, REQUESTS, SHORT, Delta
from proxy.core.simulation.replay import Moment
from proxy.core.toggles import STAGES

ALLOWED = {"coverage": 0.05, "latency": 0.05, "error": 0.001}
"""The shares that P1 triggers allow (facts 2.3, 2.5); latency later than the last target, 200 ms."""
BACK: Layers = (Patch("2", {**STAGES["1"], **STAGES["2"]}),)
_JUDGED = {"exposed", "staged", "recovered"}
_MINUTE, _HOUR = 60.0, 3_600.0


class Sums:
    """Requests and what went wrong with them over the last `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: deque[tuple[float, tuple[float, ...]]] = deque()
        self._sum = [0.0, 0.0, 0.0, 0.0]

    def add(self, counts: tuple[float, ...], now: float) -> None:
        self._kept.append((now, counts))
        self._sum = [it + n for it, n in zip(self._sum, counts, strict=True)]
        while self._kept[0][0] <= now - self._seconds:
            _, old = self._kept.popleft()
            self._sum = [it - n for it, n in zip(self._sum, old, strict=True)]

    @property
    def requests(self) -> float:
        return self._sum[0]

    def over(self, times: float = 1.0) -> bool:
        """Whether any share is more than so many times what is allowed."""
        n = self._sum[0]
        if n < 0.5:
            return False
        return any(
            wrong / n > min(0.999, times * allowed)
            for wrong, allowed in zip(self._sum[1:], ALLOWED.values(), strict=True)
        )


def counted(delta: Delta) -> tuple[float, ...]:
    """Requests, unfilled, late and failed ones of what is judged."""
    requests, short, late, failed = 0, 0, 0, 0
    last = LATE + len(delta.targets) - 1
    for key, counts in delta.cells.items():
        if key.side in _JUDGED:
            requests += counts[REQUESTS]
            short += counts[SHORT]
            late += counts[last]
            failed += counts[FAILED]
    return float(requests), short / 1000, float(late), float(failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """All windows over their multiple of what is allowed; any of several rules is enough."""

    windows: tuple[tuple[float, float], ...]  # seconds, times what is allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A policy: it looks every `every_s`, and rolls back after `failures` looks in a row that fail."""

    name: str
    every_s: float
    rules: tuple[Rule, ...]
    failures: int = 1
    minimum: int = 0  # requests in the first window of a rule before it says anything
    releases: bool = False  # once no rule holds any more; else a person has to


OTHERS = (
    Other(name="10-minute window", every_s=10, minimum=20, releases=True,
          rules=(Rule(windows=((10 * _MINUTE, 1.0),)),)),
    Other(name="fixed 1-minute threshold", every_s=15, releases=True,
          rules=(Rule(windows=((_MINUTE, 1.0),)),)),
    Other(name="Flagger, 5 checks of 60 s", every_s=60, failures=5, rules=(Rule(windows=((_MINUTE, 1.0),)),)),
    Other(name="Argo Rollouts, failureLimit 3", every_s=5 * _MINUTE, failures=3,
          rules=(Rule(windows=((5 * _MINUTE, 1.0),)),)),
    Other(name="SRE burn rates, 14.4 and 6", every_s=15, releases=True,
          rules=(Rule(windows=((_HOUR, 14.4), (5 * _MINUTE, 14.4))),
                 Rule(windows=((6 * _HOUR, 6.0), (30 * _MINUTE, 6.0))))),
)  # fmt: skip


class Looking:
    """One of them at work. `phase`, a share of `every_s`, is when it looks first."""

    def __init__(self, policy: Other, phase: float, person_s: float = math.inf) -> None:
        """`person_s`: somebody releases what does not release itself, so long after it was rolled back."""
        self._policy = policy
        self._person_s = person_s
        self._moved_at = 0.0
        windows = {seconds for rule in policy.rules for seconds, _ in rule.windows}
        self._sums = {seconds: Sums(seconds) for seconds in windows}
        self._next = phase * policy.every_s
        self._failed = 0
        self.state = "NORMAL"
        self.layers: Layers = NO_LAYERS
        self.breaching = False

    def feed(self, delta: Delta, now: float) -> None:
        counts = counted(delta)
        for sums in self._sums.values():
            sums.add(counts, now)

    def step(self, now: float) -> Sequence[Moment]:
        if now < self._next:
            return ()
        self._next += self._policy.every_s * (1 + (now - self._next) // self._policy.every_s)
        self.breaching = any(self._holds(rule) for rule in self._policy.rules)
        self._failed = self._failed + 1 if self.breaching else 0
        if self.state == "NORMAL" and self._failed >= self._policy.failures:
            return [self._moved(now, "ROLLED_BACK", BACK)]
        released = self._policy.releases and not self.breaching
        if self.state == "ROLLED_BACK" and (released or now >= self._moved_at + self._person_s):
            return [self._moved(now, "NORMAL", NO_LAYERS)]
        return ()

    def _holds(self, rule: Rule) -> bool:
        first, _ = rule.windows[0]
        return self._sums[first].requests >= self._policy.minimum and all(
            self._sums[seconds].over(times) for seconds, times in rule.windows
        )

    def _moved(self, now: float, to: str, layers: Layers) -> Moment:
        before, self.state, self.layers, self._moved_at = self.state, to, layers, now
        self._failed = 0
        return Moment(now, before, to, self._policy.name, layers)
