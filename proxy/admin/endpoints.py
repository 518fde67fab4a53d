"""What the admin face offers, in one table that the server, the OpenAPI document and the tests share."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from proxy.admin import handlers as do
from proxy.admin.calls import Recording, Services
from proxy.admin.signature import Handler, Signature, signature
from proxy.core.roles import Role


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of the table. Without a role nobody is asked for a token, and nothing is limited."""

    method: str
    path: str
    role: Role | None
    handle: Handler
    _: KW_ONLY
    codes: tuple[str, ...] = ()  # problems that its handler may answer with
    statuses: tuple[int, ...] = (200,)
    text: tuple[str, ...] = ()  # content types besides JSON
    version: Callable[[Services], int] | None = None  # what `ETag` tells and `If-Match` asks for
    recording: Recording = Recording.STORED  # of a change
    limited: bool = True  # False: whoever may use it is never told to wait

    @property
    def signature(self) -> Signature:
        return _SIGNATURES[self.handle]

    @property
    def problems(self) -> tuple[str, ...]:
        """Every code that it may answer with."""
        takes = self.signature
        guarded = ("unauthorized", "forbidden", "too_many_attempts", "store_unavailable")
        change = ("request_running", "idempotency_key_reused")
        return (
            "bad_request",
            "expectation_failed",
            "internal_error",
            *self.codes,
            *(guarded if self.role else ()),
            *(("rate_limited", "overloaded") if self.role and self.limited else ()),
            *(("not_found",) if takes.path else ()),
            *(("body_too_large", "request_timeout") if takes.body else ()),
            *(change if takes.change else ()),
            *(("version_mismatch",) if takes.change and self.version else ()),
        )


ENDPOINTS = (
    Endpoint("GET", "/livez", None, do.livez),
    Endpoint("GET", "/readyz", None, do.readyz, statuses=(200, 503)),
    Endpoint("GET", "/metrics", None, do.metrics, text=("text/plain", "application/openmetrics-text")),
    Endpoint("GET", "/v1/openapi.json", None, do.openapi),
    Endpoint("GET", "/v1/status", Role.VIEWER, do.status),
    Endpoint("GET", "/v1/kill", Role.VIEWER, do.read_kill, version=do.toggles_version, limited=False),
    Endpoint(
        "PUT",
        "/v1/kill",
        Role.COMMANDER,
        do.throw_kill,
        version=do.toggles_version,
        recording=Recording.AFTERWARDS,
        limited=False,
    ),
    Endpoint(
        "DELETE",
        "/v1/kill",
        Role.COMMANDER,
        do.release_kill,
        codes=("kill_not_released",),
        version=do.toggles_version,
        recording=Recording.SPOOLED,
        limited=False,
    ),
    Endpoint("GET", "/v1/breakers", Role.VIEWER, do.read_breakers),
    Endpoint(
        "POST",
        "/v1/breakers/{name}/{action}",
        Role.OPERATOR,
        do.command_breaker,
        codes=("unknown_breaker",),
    ),
    Endpoint("GET", "/v1/audit", Role.VIEWER, do.find_audit),
    Endpoint("GET", "/v1/audit/verify", Role.ADMIN, do.verify_audit, codes=("verify_running",)),
    Endpoint(
        "GET",
        "/v1/audit/checkpoint",
        Role.VIEWER,
        do.audit_checkpoint,
        codes=("no_checkpoint",),
        text=("text/plain",),
    ),
)

_SIGNATURES = {endpoint.handle: signature(endpoint.handle) for endpoint in ENDPOINTS}
