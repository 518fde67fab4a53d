"""One tree of errors: a stable code, whose fault it was, the HTTP status it becomes.

Codes are the contract's; `Fault` decides what a failure may count against: only `UPSTREAM`
faults ever reach a breaker (facts 2.20).
"""

from enum import StrEnum


class Fault(StrEnum):
    CLIENT = "client"
    UPSTREAM = "upstream"
    SIDECAR = "sidecar"  # shedding, breakers, flags: answers made by decision


class FuseboxError(Exception):
    """Anything this project raises on purpose."""


class Refusal(FuseboxError):
    """A request that the sidecar answers itself, with a problem document (RFC 9457)."""

    __slots__ = (
        "allow",
        "close",
        "code",
        "detail",
        "fault",
        "proxy_error",
        "retry_after_s",
        "status",
        "title",
    )

    def __init__(
        self,
        code: str,
        status: int,
        title: str,
        detail: str = "",
        *,
        fault: Fault = Fault.CLIENT,
        close: bool = False,
        retry_after_s: int | None = None,
        allow: str = "",
        proxy_error: str = "",
    ) -> None:
        super().__init__(detail or title)
        self.code = code
        self.status = status
        self.title = title
        self.detail = detail
        self.fault = fault
        self.close = close  # the connection cannot be trusted to be in step any more
        self.retry_after_s = retry_after_s
        self.allow = allow
        self.proxy_error = proxy_error  # RFC 9209 §2.3 error type, for `Proxy-Status`


class SettingsError(FuseboxError):
    """Settings that cannot be used. `problems` holds every one found, not only the first."""

    def __init__(self, problems: "list[Problem]") -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Problem:
    """One fault in a file: where, what, and the way out."""

    __slots__ = ("file", "hint", "message", "path")

    def __init__(self, file: str, path: str, message: str, hint: str = "") -> None:
        self.file = file
        self.path = path
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.file}: {self.path}" if self.path else self.file
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")
