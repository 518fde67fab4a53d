"""The two clocks. Monotonic time decides, wall time only labels (design rule 8)."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""A function that returns seconds."""

monotonic: Clock = time.monotonic
wall: Clock = time.time  # noqa: TID251 - the one place that names it


def rfc3339(seconds: float) -> str:
    """Wall time as a label of fixed width, UTC with microseconds, so that labels sort as text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
