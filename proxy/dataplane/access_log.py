"""The access log: a sample of the answered requests, and all that went wrong."""

import logging

from proxy.core.override import ASIDES
from proxy.core.scopes import NO_RULE
from proxy.dataplane.request_head import RequestHead

_log = logging.getLogger("fusebox.access")


class AccessLog:
    """Takes every `1 / sample`-th line, and every one that is not sampled."""

    __slots__ = ("_sampled", "sample")

    def __init__(self) -> None:
        self.sample = 0.0  # share of the answers
        self._sampled = 0.0

    def wants(self, always: bool) -> bool:
        """Count an answer; whether it goes into the log."""
        self._sampled += self.sample
        if self._sampled >= 1.0:
            self._sampled -= 1.0
            return True
        return always

    @staticmethod
    def write(head: RequestHead, status: int, seconds: float, reason: str) -> None:
        bound = head.bound
        decided = {}
        if bound is not None and (decision := bound.decision).reason:
            decided = {"arm": decision.arm, "policy": decision.policy, "decided_by": decision.reason}
            if decision.rule != NO_RULE:
                decided["rule"] = f"rules[{decision.rule}]"
            if decision.stage:
                decided["stage"] = decision.stage
            if decision.aside in ASIDES:
                decided["override"] = head.overridden.verified.override.id
        _log.info(
            "request",
            extra={
                "request_id": head.request_id.decode("latin-1"),
                "method": head.method.decode("latin-1"),
                "path": head.path.decode("latin-1"),
                "route": bound.name if bound is not None else "none",
                "status": status,
                "ms": round(seconds * 1000, 2),
                "bucket": head.bucket,
                "reason": reason,
                **decided,
            },
        )
