"""How a call of an upstream can fail, and what each failure means to everybody who hears of it."""

from enum import Enum
from typing import NamedTuple

from proxy.errors import Fault, Refusal


class _Meaning(NamedTuple):
    outcome: str  # column in `UpstreamCell.outcomes`
    code: str  # contract code of the answer
    status: int
    title: str
    proxy_error: str  # RFC 9209 §2.3 error type
    fault: Fault


class Failure(Enum):
    """One row per kind; `proxy_error` becomes the `Proxy-Status` field of the answer."""

    UNREACHABLE = _Meaning(
        "unreachable", "upstream_unreachable", 502, "Bad Gateway", "connection_refused", Fault.UPSTREAM
    )
    TLS = _Meaning(
        "unreachable", "upstream_unreachable", 502, "Bad Gateway", "tls_certificate_error", Fault.UPSTREAM
    )
    DNS = _Meaning("unreachable", "upstream_unreachable", 502, "Bad Gateway", "dns_error", Fault.UPSTREAM)
    RESET = _Meaning(
        "reset", "upstream_unreachable", 502, "Bad Gateway", "connection_terminated", Fault.UPSTREAM
    )
    TRUNCATED = _Meaning(
        "reset", "upstream_invalid", 502, "Bad Gateway", "http_response_incomplete", Fault.UPSTREAM
    )
    TIMEOUT = _Meaning(
        "timeout", "upstream_timeout", 504, "Gateway Timeout", "http_response_timeout", Fault.UPSTREAM
    )
    INVALID = _Meaning(
        "invalid", "upstream_invalid", 502, "Bad Gateway", "http_protocol_error", Fault.UPSTREAM
    )
    OVERLOADED = _Meaning(
        "overloaded", "overloaded", 503, "Service Unavailable", "connection_limit_reached", Fault.SIDECAR
    )
    INTERNAL = _Meaning(
        "aborted", "internal_error", 500, "Internal Server Error", "proxy_internal_error", Fault.SIDECAR
    )
    ABORTED = _Meaning("aborted", "aborted", 499, "Client Closed Request", "", Fault.CLIENT)

    def refusal(self, detail: str) -> Refusal:
        meaning = self.value
        return Refusal(
            meaning.code,
            meaning.status,
            meaning.title,
            detail,
            fault=meaning.fault,
            retry_after_s=1 if self is Failure.OVERLOADED else None,
            proxy_error=meaning.proxy_error,
        )
