"""What is normal: the share that went wrong lately while nothing was wrong."""

from math import exp
from typing import Final

LASTS_S: Final = 86_400.0
"""What was counted so long ago weighs 1/e of what is counted now."""


class Baseline:
    """A share whose past fades. Moves only when it is told; times are monotonic seconds."""

    __slots__ = ("_at", "_fewest", "_n", "_s")

    def __init__(self, fewest: float, now: float) -> None:
        """`fewest`: requests before it says anything."""
        self._fewest = fewest
        self._n = 0.0
        self._s = 0.0
        self._at = now

    def learn(self, n: float, s: float, now: float) -> None:
        """So many requests were normal, and so many of them went wrong."""
        fade = exp((self._at - now) / LASTS_S) if now > self._at else 1.0
        self._n = self._n * fade + n
        self._s = self._s * fade + s
        self._at = now

    @property
    def share(self) -> float | None:
        """None: not learned yet."""
        return self._s / self._n if self._n >= self._fewest else None
