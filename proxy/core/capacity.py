"""What each upstream has shown that it can take, read off counters that only grow."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

SLOT_S = 10.0
"""How long a rate has to be kept up to count as shown."""
SHOWN_S = 3600.0
"""How far back the best slot may lie."""
LATENCY_S = 600.0
"""How far back latency is looked at."""

_SLOTS = int(SHOWN_S / SLOT_S)
_LATENCY_SLOTS = int(LATENCY_S / SLOT_S)


class Total(NamedTuple):
    """Counted so far of one upstream."""

    place: tuple[str, ...]
    """Its urls: at another place it may be another service, which has shown nothing."""
    successes: int
    calls: int  # whose latency is known
    seconds: float  # their latencies to the first byte, added up


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What one upstream has shown. None: too little is known."""

    per_s: float | None = None
    """The most calls a second that it answered over one slot in the last hour."""
    latency_s: float | None = None
    """To the first byte, the mean of the last minutes."""


NOTHING = Shown()


class Reads(NamedTuple):
    """Reads of the cache, counted so far."""

    all: int
    missed: int
    """After which a source was asked."""


class Missing:
    """Told the reads about every `SLOT_S`, it knows how many of the last minutes went on to a source."""

    def __init__(self) -> None:
        self._last: Reads | None = None
        self._slots: deque[Reads] = deque(maxlen=_LATENCY_SLOTS)

    def observe(self, reads: Reads) -> None:
        if self._last is not None:
            self._slots.append(Reads(reads.all - self._last.all, reads.missed - self._last.missed))
        self._last = reads

    @property
    def share(self) -> float | None:
        """None: nothing was read."""
        reads = sum(slot.all for slot in self._slots)
        return sum(slot.missed for slot in self._slots) / reads if reads else None


class _Slot(NamedTuple):
    per_s: float
    calls: int
    seconds: float


class Capacity:
    """Told the totals about every `SLOT_S`, it remembers an hour of differences."""

    def __init__(self) -> None:
        self._at = 0.0
        self._last: Mapping[str, Total] = {}
        self._slots: dict[str, deque[_Slot]] = {}

    def observe(self, now: float, totals: Mapping[str, Total]) -> None:
        """`now` is monotonic. Whatever is no longer named is forgotten."""
        passed = now - self._at
        for name, total in totals.items():
            before = self._last.get(name)
            if before is None or before.place != total.place:
                self._slots[name] = deque(maxlen=_SLOTS)
            elif passed > 0:
                successes, calls = total.successes - before.successes, total.calls - before.calls
                slot = _Slot(successes / passed, calls, total.seconds - before.seconds)
                self._slots[name].append(slot)
        for gone in self._slots.keys() - totals.keys():
            del self._slots[gone]
        self._last = dict(totals)
        self._at = now

    def shown(self, name: str) -> Shown:
        slots = self._slots.get(name, ())
        recent = list(slots)[-_LATENCY_SLOTS:]
        calls = sum(slot.calls for slot in recent)
        best = max((slot.per_s for slot in slots), default=0.0)
        return Shown(
            per_s=best or None,
            latency_s=sum(slot.seconds for slot in recent) / calls if calls else None,
        )
