"""Finds a change for the worse as soon as the requests themselves show it.

An e-detector (Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection", New England Journal of Statistics in Data Science 2023), of the Shiryaev-Roberts kind:

* Let q be the share that is still allowed and r > q an alternative. For one request that went wrong by x,
  0 ≤ x ≤ 1, let v = (r/q)^x · ((1-r)/(1-q))^(1-x). As long as its expectation given the past is at most q,
  that of v is at most 1: v is convex in x, so it lies below the line through its ends, which is
  increasing in x and 1 at x = q. Nothing else is assumed: requests may depend on those before them.
* For the n requests of a tick, of which s went wrong, L = (r/q)^s · ((1-r)/(1-q))^(n-s) therefore has an
  expectation of at most 1 as well, and M ← (M + d) · L, with d the seconds since the tick before, makes
  M - t a supermartingale from 0: M bets, from every moment on, that the change happened just then.
* Several alternatives, each with a weight, the weights adding up to 1: the same holds for the sum.
* So at the first time T at which M ≥ A, 0 ≥ E[M - T] ≥ A - E[T]: traffic exactly at what is allowed goes on
  for A seconds on average, at least, before it is called a change. (That is the counterpart of Ville's
  inequality for a detector which may go on for ever.) A is the only knob.

A change that multiplies the share is found after about log(A · rate) / kl requests, kl that between new share
and allowed one: the best that any detector with this A can do, but for the price of not knowing the
alternative, log 10 or so.
"""

from collections.abc import Sequence
from math import exp, log, log1p
from typing import Final

from proxy.core.rollback.estimate import odds

RATIOS: Final = (1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Of the odds of what is allowed, for each alternative; those above `MOST` are left out but for one."""
MOST: Final = 0.95
PAUSE_S: Final = 10.0
"""The most that one tick may add: after a silence the change has not been going on all along."""
_FULL: Final = 1e120  # far above every A, far below where numbers end
_STEP: Final = 300.0  # nats; e to it times `_FULL` is still a number
_KNOWN: Final = 4_096  # ticks whose ratios are remembered


class Alternatives:
    """What traffic may have come to that went wrong more often than `share`. Shared by many detectors."""

    __slots__ = ("bad", "good", "known", "share", "shares", "weight")

    def __init__(self, share: float) -> None:
        shares = [it for it in (odds(share, ratio) for ratio in RATIOS) if it < MOST]
        if share < MOST:
            shares.append(MOST)
        else:
            shares.append((1.0 + share) / 2.0)
        self.share = share
        self.shares = tuple(shares)  # ascending
        self.weight = 1.0 / len(shares)
        self.bad = tuple(log(it / share) for it in shares)  # nats for one that went wrong …
        self.good = tuple(log1p(-it) - log1p(-share) for it in shares)  # … and for one that did not
        self.known: dict[tuple[float, float], Sequence[float]] = {}

    def ratios(self, n: float, s: float) -> Sequence[float]:
        """How much better each alternative explains s of n than `share` does. At least 0, finite."""
        fine = max(n - s, 0.0)  # a request may be late in one tick and fail in a later one
        found = [exp(min(s * b + fine * g, _STEP)) for b, g in zip(self.bad, self.good, strict=True)]
        if len(self.known) >= _KNOWN:
            self.known.clear()
        self.known[n, s] = found
        return found


class Detector:
    """The sum over all alternatives, for one stream of traffic."""

    __slots__ = ("_parts", "at", "of", "value")

    def __init__(self, of: Alternatives, now: float) -> None:
        self.of = of
        self.value = 0.0
        """M: the change is there once it reaches A."""
        self._parts = [0.0] * len(of.shares)
        self.at = now

    def add(self, n: float, s: float, now: float) -> float:
        """A tick of n requests, of which s went wrong; returns `value`. Not for ticks without any."""
        of = self.of
        pause = now - self.at
        fresh = (pause if 0.0 <= pause <= PAUSE_S else PAUSE_S if pause > 0.0 else 0.0) * of.weight
        self.at = now
        ratios = of.known.get((n, s)) or of.ratios(n, s)
        self._parts = parts = [(part + fresh) * ratio for part, ratio in zip(self._parts, ratios)]  # noqa: B905
        value = sum(parts)
        if value > _FULL:
            self._parts = [min(part, _FULL) for part in parts]
            value = _FULL
        self.value = value
        return value

    @property
    def leading(self) -> int:
        """The place of the alternative that explains best what has come."""
        return self._parts.index(max(self._parts))
