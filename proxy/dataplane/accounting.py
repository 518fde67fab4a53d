"""Where an answered request is accounted: counted, and logged if it is to be."""

from proxy.dataplane.access_log import AccessLog
from proxy.dataplane.emitting import Emitting
from proxy.dataplane.failures import Failure
from proxy.dataplane.request_head import RequestHead
from proxy.errors import Fault, Refusal
from proxy.telemetry.counters import Counters


class Accounting:
    """Hears of every answer once, when its last byte is written or nobody waits for it any more."""

    __slots__ = ("_counters", "_events", "access")

    def __init__(self, counters: Counters, events: Emitting | None = None) -> None:
        """Requests for recommendations are not among the `events` that this makes."""
        self._counters = counters
        self._events = events
        self.access = AccessLog()

    def finished(self, head: RequestHead, status: int, now: float, failure: Failure | None = None) -> None:
        """Count an answered request; log a sample, and all that went wrong."""
        bound = head.bound
        seconds = now - head.started
        if bound is not None:
            bound.cell.count(status, seconds)
        if self._events is not None and (bound is None or not bound.recommends):
            self._events.request(head, now, status, failure.value.outcome if failure else "")
        if self.access.wants(status >= 500 or failure is not None):
            self.access.write(head, status, seconds, failure.name.lower() if failure else "")

    def refused(self, head: RequestHead | None, refusal: Refusal, now: float) -> None:
        """Count an answer that the sidecar made itself; log a sample, and every failure of an upstream."""
        self._counters.refusals[refusal.code] += 1
        if head is None or head.bound is None:
            self._counters.cell("none", "none").count(refusal.status, now - head.started if head else 0.0)
        else:
            head.bound.cell.count(refusal.status, now - head.started)
            if head.bound.recommends:
                head.bound.account.refused(head, refusal, now)
        if (
            self._events is not None
            and head is not None
            and (head.bound is None or not head.bound.recommends)
        ):
            self._events.request(head, now, refusal.status, refusal.code)
        failed = refusal.status >= 500 and refusal.fault is not Fault.SIDECAR
        if self.access.wants(failed) and head is not None:
            self.access.write(head, refusal.status, now - head.started, refusal.code)
