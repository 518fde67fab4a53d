"""The two clocks. Monotonic time decides, wall time only labels (design rule 8)."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""A function that returns seconds."""

monotonic: Clock = time.monotonic
wall: Clock = time.time  # noqa: TID251 - the one place that names it
