"""The two clocks. Monotonic time decides, wall time only labels (design rule 8)."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from math import floor

Clock = Callable[[], float]
"""A function that returns seconds."""

monotonic: Clock = time.monotonic
wall: Clock = time.time  # noqa: TID251 - the one place that names it


def rfc3339(seconds: float) -> str:
    """Wall time as a label of fixed width, UTC with microseconds, so that labels sort as text."""
    whole = floor(seconds)
    digits = str(1_000_000 + int((seconds - whole) * 1_000_000))  # a third of what `:06d` takes
    return f"{_second(whole)}.{digits[1:]}Z"


@lru_cache(maxsize=8)
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
