"""The faults of a drill, where its requests ask their sources: nothing is sent that else would not be."""

from collections.abc import Iterable
from typing import Protocol, cast

from proxy.core.candidates import NO_CANDIDATES
from proxy.core.rollback.drills import Drill, Fault
from proxy.dataplane.binding import NEIGHBOURS, Bound
from proxy.dataplane.fetch import Asker, Fetch
from proxy.dataplane.pool import Pool

INJECTED = "injected"
"""The outcome of a source that was not asked because the drill says so."""


class Faults:
    """Those of one drill, drawn so that a share of few requests is that share too."""

    def __init__(self, drill: Drill) -> None:
        self.delay_s = max((it.delay_ms / 1000 for it in drill.faults), default=0.0)
        """So much later its requests may be answered: no deadline cuts off what is to be slow."""
        self._ends_at = drill.ends_at
        self._by_kind: dict[str, list[_Drawn]] = {}
        for fault in drill.faults:
            self._by_kind.setdefault(fault.source, []).append(_Drawn(fault))
        if "content" in self._by_kind:
            self._by_kind[NEIGHBOURS] = self._by_kind["content"]

    def hit(self, kind: str, now: float) -> Fault | None:
        """What becomes of this asking of a source; the first of its faults that draws it."""
        if now >= self._ends_at:
            return None
        return _first(self._by_kind.get(kind, ()))


class _Drawn:
    """Every so many-th."""

    __slots__ = ("_due", "fault")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._due = 0.0

    def draw(self) -> bool:
        self._due += self.fault.share
        if self._due < 1 - 1e-9:
            return False
        self._due -= 1
        return True


def _first(faults: Iterable[_Drawn]) -> Fault | None:
    return next((it.fault for it in faults if it.draw()), None)


class Request(Asker, Protocol):
    """Who asks, and knows whether it may still."""

    @property
    def killed(self) -> bool: ...


class FaultyFetch(Fetch):
    """A source asked by a request of the drill."""

    _bucket = 0
    _held = False

    def __init__(self, asker: Request, kind: str, pool: Pool, target: bytes, bound: Bound) -> None:
        super().__init__(asker, kind, pool, target, bound)
        self._faults = bound.faults

    def begin(self, now: float, bucket: int) -> None:
        fault = None if self._faults is None else self._faults.hit(self.kind, now)
        if fault is None:
            super().begin(now, bucket)
        elif fault.effect == "delay":
            self._bucket = bucket
            self._held = True
            self._joined = now
            self._lane = self.pool.ticker.lane(fault.delay_ms / 1000, INJECTED)
            self._lane.set(self, now)
        else:
            self._left_alone(now, empty=fault.effect == "empty")

    def on_deadline(self, now: float) -> None:
        if self._held:
            self._held = False
            self._lane = None
            # Killed meanwhile: no upstream is contacted any more (facts 2.9).
            if cast("Request", self._asker).killed:
                self._left_alone(now)
            else:
                super().begin(now, self._bucket)
        else:
            super().on_deadline(now)

    def _left_alone(self, now: float, *, empty: bool = False) -> None:
        """Over without the source being asked."""
        self.outcome = INJECTED
        if empty:
            self.items = NO_CANDIDATES
        else:
            self._failed(now)
        self._end(now)
