"""The retry budget: retries stay a small share of requests, so that they never are the overload.

After Finagle's `RetryBudget`: what requests of the last ten seconds have paid in may be spent, and
apart from that a trickle, so that a quiet upstream can be retried too.
"""

from proxy.core.window import Window

TTL_S = 10.0
"""How long a request's deposit can be spent."""

_REQUESTS, _RETRIES = range(2)  # columns of the window


class RetryBudget:
    """Grants retries up to `share` of the requests of the last ten seconds, plus `floor_per_s`.

    Unspent floor is kept for one second, or until it makes one retry. Times are monotonic seconds.
    """

    __slots__ = ("_cap", "_floor", "_floor_at", "_floor_per_s", "_paid", "_share", "_window", "made")

    def __init__(self, share: float, floor_per_s: float) -> None:
        self._share = share
        self._floor_per_s = floor_per_s
        self._cap = max(1.0, floor_per_s) if floor_per_s else 0.0
        self._floor = self._cap  # retries that may be made from the floor now
        self._floor_at = 0.0
        self._window = Window(2, TTL_S)
        self.made = 0
        """Requests so far, retries apart: counted by who makes them, and dated by the next `tick`."""
        self._paid = 0  # of them

    def tick(self, now: float) -> None:
        """Let time pass: to be called every 50 ms or so."""
        if made := self.made - self._paid:
            self._paid = self.made
            self._window.add(_REQUESTS, now, made)

    def withdraw(self, now: float) -> bool:
        """Whether one more retry may be made; it counts as made when True."""
        self.tick(now)
        self._window.advance(now)
        requests, retries = self._window.sums
        if retries + 1 <= self._share * requests:
            self._window.add(_RETRIES, now)
            return True
        self._floor = min(self._cap, self._floor + (now - self._floor_at) * self._floor_per_s)
        self._floor_at = now
        if self._floor < 1:
            return False
        self._floor -= 1
        return True
