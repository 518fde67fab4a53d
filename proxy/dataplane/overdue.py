"""Requests in flight past a latency target: they count as late at that moment, not when they end.

Calls that hang would else be seen when they time out, and those that never end, never.
"""

from typing import Protocol


class Waiting(Protocol):
    """A request in flight."""

    passed: int
    """How many targets it has passed, counted as late at each; -1: it is not watched."""

    @property
    def started(self) -> float:
        """Monotonic seconds."""

    def late(self, at: int) -> bool:
        """It has passed the target at this index. False: it is none to be judged, and is watched no more."""


class Overdue:
    """Watches requests: one dict operation when one begins to wait, one when it ends.

    Each stands in the lane of the targets it has passed, in the order of their start, so that a look
    meets those that are late and one more.
    """

    def __init__(self) -> None:
        self._targets: tuple[float, ...] = ()
        self._lanes: list[dict[Waiting, None]] = [{}]

    def __len__(self) -> int:
        return sum(map(len, self._lanes))

    def retarget(self, targets: tuple[float, ...]) -> None:
        """Watch for these, in seconds, ascending; who waits already is counted anew."""
        waiting = [one for lane in reversed(self._lanes) for one in lane]
        for one in waiting:
            one.passed = 0
        self._targets = targets
        self._lanes = [dict.fromkeys(waiting), *({} for _ in targets)]

    def add(self, one: Waiting) -> None:
        one.passed = 0
        self._lanes[0][one] = None

    def discard(self, one: Waiting) -> None:
        """It is over, or waits no longer. `passed` stays, for its account."""
        if one.passed >= 0:
            del self._lanes[one.passed][one]

    def look(self, now: float) -> None:
        """Tell each request of the targets it has passed since the last look."""
        for at, target in enumerate(self._targets):
            lane = self._lanes[at]
            while lane:
                one = next(iter(lane))
                if now - one.started <= target:
                    break
                del lane[one]
                if one.late(at):
                    one.passed = at + 1
                    self._lanes[at + 1][one] = None
                else:
                    one.passed = -1
