"""What the data plane tells the event log: a ranking event of each request for recommendations, an error
event of each source that failed it, a request event of all other requests.
"""

from random import random
from typing import TYPE_CHECKING

from proxy.core.events import Severity
from proxy.core.rollback.signals import Key
from proxy.dataplane.request_head import RequestHead
from proxy.ports.events import EventSink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.dataplane.fetch import Fetch

_CODES = {
    "error": "upstream_error",
    "timeout": "upstream_timeout",
    "late": "upstream_timeout",
    "unreachable": "upstream_unreachable",
    "reset": "upstream_unreachable",
    "invalid": "upstream_invalid",
    "aborted": "internal_error",
}
"""The contract's codes by what became of a source; what is not here is a code already."""

_SEVERITIES: dict[str, Severity] = {
    "invalid": "critical",  # the contract is broken
    "aborted": "critical",  # a fault of ours
    "breaker_open": "warning",  # told once, when the breaker tripped
}
SIDECAR = "sidecar"
"""The component of faults of our own."""


class Emitting:
    """Makes events of one process. `sample`: the share of requests for recommendations that is told,
    `request_sample` that of others.
    """

    __slots__ = ("_add", "_request_sample", "_request_weight", "_sample", "_weight")

    def __init__(self, sink: EventSink, sample: float, request_sample: float = 1.0) -> None:
        self._add = sink.add
        self._sample = sample
        self._weight = 1.0 / sample
        self._request_sample = request_sample
        self._request_weight = 1.0 / request_sample

    def picks(self) -> bool:
        """Whether the next request for recommendations is told: by chance."""
        return random() < self._sample

    def ranking(
        self,
        head: RequestHead,
        key: Key,
        now: float,
        body: bytes,
        status: int = 200,
        *,
        failed: bool = False,
    ) -> None:
        """A request that `picks` took is over; `body` is its answer, b"" where it got none of ours."""
        seconds = now - head.started
        stage = head.bound.decision.stage if head.bound is not None else ""
        self._add(
            (
                "ranking",
                now,
                head.request_id,
                head.user,
                key,
                seconds,
                body,
                status,
                failed,
                stage,
                self._weight,
            )
        )

    def errors(
        self, head: RequestHead, key: Key, now: float, fetches: "Iterable[Fetch]", *, broken: bool = False
    ) -> None:
        """It failed: by these sources, or by a fault of ours."""
        told = False
        for fetch in fetches:
            outcome = fetch.outcome
            if fetch.failed and outcome != "client_error":
                told = True
                code = _CODES.get(outcome, outcome)
                severity = _SEVERITIES.get(outcome, "error")
                message = f"{fetch.kind}: {outcome.replace('_', ' ')}"
                if fetch.milliseconds:
                    message += f" after {fetch.milliseconds:.0f} ms"
                self._add(("error", now, head.request_id, key, fetch.pool.name, severity, code, message))
        if broken and not told:
            self.error(head, key, now, "internal_error", "a fault in the sidecar")

    def error(self, head: RequestHead, key: Key, now: float, code: str, message: str) -> None:
        """The sidecar itself could not serve it."""
        self._add(("error", now, head.request_id, key, SIDECAR, "critical", code, message))

    def request(self, head: RequestHead, now: float, status: int, outcome: str) -> None:
        """Any other request is over; `outcome`: why the upstream did not answer it, "" where it did. Of 5xx
        each one is told.
        """
        failed = status >= 500
        if failed or random() < self._request_sample:
            bound = head.bound
            self._add(
                (
                    "request",
                    now,
                    head.request_id,
                    head.user,
                    bound.name if bound is not None else "none",
                    head.method,
                    status,
                    outcome,
                    now - head.started,
                    1.0 if failed else self._request_weight,
                )
            )
