"""What decisions were made from in the last minutes, so that they can be made again under other toggles."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from proxy.core.identity import Who

SPAN_S = 600.0
"""How far back it goes."""
PER_S = 50
"""Requests kept a second, about, of all processes together: below that every one of them is."""
MOST = int(SPAN_S * PER_S)
"""Kept at most: some 13 MB."""


class Input(NamedTuple):
    """All that `core.decide` looks at in one request for recommendations."""

    route: str
    who: Who
    key: bytes
    """What made the bucket: the user, or the request's id."""
    bucket: int
    weight: int
    """Requests that it stands for: itself, and those since the one kept before it."""
    at: float
    """Monotonic seconds."""


class Recent:
    """The inputs of the last `span_s` seconds, the newest `most` of them."""

    def __init__(self, *, span_s: float = SPAN_S, most: int = MOST) -> None:
        self._span_s = span_s
        self._kept: deque[Input] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, one: Input) -> None:
        self._kept.append(one)

    def add(self, inputs: Iterable[Input]) -> None:
        self._kept.extend(inputs)

    def forget(self, now: float) -> None:
        """Let go of what is too old. Several sources bring theirs in about the order of time."""
        kept = self._kept
        while kept and kept[0].at <= now - self._span_s:
            kept.popleft()

    def read(self, now: float) -> list[Input]:
        self.forget(now)
        return list(self._kept)


class Sampler:
    """Says which requests are kept: all while they are few, else one after each gap of random length.

    A fixed step would meet clients that take turns always at the same one. Whoever sees a request takes
    one off `left`, and at zero asks `take` what that request stands for.
    """

    __slots__ = ("_counted", "_draw", "_gap", "_kept", "_per_s", "_stride", "_turned", "left")

    def __init__(self, per_s: int, draw: Callable[[int, int], int], now: float) -> None:
        """`draw(a, b)` is a random whole number from a to b."""
        self.left = 1
        self._per_s = per_s
        self._draw = draw
        self._gap = 1  # `left` as it was drawn
        self._stride = 1  # the mean of gaps
        self._counted = 0  # requests since `_turned`, up to the last one kept
        self._kept = 0  # … of which kept
        self._turned = now

    def take(self) -> int:
        """The weight of the request that came when nothing was `left`."""
        weight = self._gap
        self._counted += weight
        self._kept += 1
        if self._kept >= 2 * self._per_s:  # a burst: the next turn would come too late
            self._kept = self._per_s
            self._stride *= 2
        self._gap = self.left = self._drawn()
        return weight

    def turn(self, now: float) -> None:
        """To be called about every second: the next gaps follow from what came since the last call."""
        passed = self._gap - self.left
        wanted = self._per_s * max(now - self._turned, 0.001)
        self._stride = max(1, round((self._counted + passed) / wanted))
        self._counted = -passed
        self._kept = 0
        self._turned = now
        if self.left >= 2 * self._stride:  # it has become quiet: do not wait that long
            self.left = self._drawn()
            self._gap = passed + self.left

    def _drawn(self) -> int:
        return 1 if self._stride == 1 else self._draw(1, 2 * self._stride - 1)
