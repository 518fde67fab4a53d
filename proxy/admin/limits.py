"""How much one caller, and all together, may ask of the admin face."""

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.admin.problems import Problem
from proxy.clock import Clock

RATE = 20.0
"""Requests per second of one principal, on average…"""
BURST = 40.0
"""… and as many at once."""
PRINCIPALS = 1024
"""Principals remembered at a time; forgetting one fills its bucket."""
AT_ONCE = 64
"""Requests under way at a time."""


class RateLimit:
    """A token bucket per name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests left, when

    def wait_s(self, name: str) -> float:
        """Take one request; 0, or nothing is taken and so many seconds are left until there is one."""
        now = self._clock()
        left, since = self._buckets.pop(name, (BURST, now))
        left = min(BURST, left + (now - since) * RATE)
        allowed = left >= 1
        self._buckets[name] = left - allowed, now
        if len(self._buckets) > PRINCIPALS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / RATE


class Limits:
    """Both limits for requests that have them."""

    def __init__(self, clock: Clock) -> None:
        self._rate = RateLimit(clock)
        self._under_way = 0

    @contextmanager
    def admitted(self, name: str) -> Iterator[None]:
        """While a request of this principal is under way; Problem when it may not be now."""
        if wait := self._rate.wait_s(name):
            detail = f"{name} may ask {RATE:g} times a second, {BURST:g} at once."
            raise Problem("rate_limited", detail, retry_after_s=math.ceil(wait))
        if self._under_way >= AT_ONCE:
            detail = f"{AT_ONCE} requests are under way."
            raise Problem("overloaded", detail, retry_after_s=1)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
