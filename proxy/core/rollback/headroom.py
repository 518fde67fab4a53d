"""Load shift: how much of what a stage sends elsewhere the upstream there can take.

What an upstream can take is known only as far as it was used (`core.capacity`). So beyond what it has
shown nothing is sent at once; what does not fit gets level D, and is let in piece by piece as long as the
upstream answers well.
"""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from proxy.core.capacity import SLOT_S
from proxy.core.rollback.signals import REQUESTS, Delta
from proxy.core.rollback.stages import within
from proxy.core.toggles import Scope

UNSHOWN = 0.1
"""The share that goes to an upstream which has shown nothing, as when a breaker has closed."""
GROWTH = 1.5
"""By this factor more each `DWELL_S`: from a tenth to all of it in six."""
DWELL_S = SLOT_S
CHOKES_S = 30.0
"""What goes wrong so soon after more was sent is laid to that."""
RISE = 1.05
"""A load that rises by less than this is no matter of the stage."""
_ASKING = {"exposed", "staged", "recovered"}


class Load(NamedTuple):
    """Of one upstream that a stage sends traffic to, in calls a second."""

    takes_per_s: float
    shown_per_s: float | None = None
    """The most that it has shown it can take; None: nothing is known."""


class Demand:
    """How many recommend requests a second come, by scope, over the last `DWELL_S`."""

    def __init__(self) -> None:
        self._slots: deque[tuple[float, Mapping[tuple[str, str, str], int]]] = deque()
        self._since: float | None = None

    def add(self, delta: Delta, now: float) -> None:
        if self._since is None:
            self._since = now - SLOT_S / 40  # the first delta is of a tick or so
        found: dict[tuple[str, str, str], int] = {}
        for key, counts in delta.cells.items():
            if key.side in _ASKING:
                region, cohort, client = (
                    name.decode(errors="replace") for name in (key.region, key.cohort, key.client)
                )
                who = region, cohort, client
                found[who] = found.get(who, 0) + counts[REQUESTS]
        self._slots.append((now, found))
        while self._slots[0][0] <= now - DWELL_S:
            self._since = self._slots.popleft()[0]

    def per_s(self, scope: Scope) -> float:
        """Of that scope; 0: nobody came."""
        if self._since is None or not self._slots:
            return 0.0
        passed = self._slots[-1][0] - self._since
        came = 0
        for _, found in self._slots:
            for who, requests in found.items():
                named = Scope(*((name,) if name else () for name in who))
                if within(named, scope):
                    came += requests
        return came / passed if passed > 0 else 0.0


def share(loads: Mapping[str, Load], demand_per_s: float) -> float:
    """Of the traffic that a stage lies over, what can be sent at once: the least that one of the upstreams
    can take. Each request asks once, and those that ask now are among them. No upstream named: all of it.
    """
    least = 1.0
    for load in loads.values():
        if demand_per_s <= load.takes_per_s * RISE:
            continue
        if load.shown_per_s is None:
            least = min(least, UNSHOWN)
        elif demand_per_s > load.shown_per_s:
            least = min(least, max(UNSHOWN, load.shown_per_s / demand_per_s))
    return least


def grown(share: float) -> float:
    """The next share, when this one was taken well."""
    return min(1.0, share * GROWTH)


def less(share: float) -> float:
    """The one before, when it was not."""
    return max(UNSHOWN, share / GROWTH)
