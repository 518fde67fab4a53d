"""What the admin face offers, in one table that the server, the OpenAPI document and the tests share."""

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass

from proxy.admin import drills, rollback, toggle_preview, toggles
from proxy.admin import handlers as do
from proxy.admin.calls import Recording, Services, Thrown
from proxy.admin.signature import Handler, Signature, signature
from proxy.core.roles import Role

BODY_BYTES = 64 * 1024
RULES_BYTES = 4 * 1024 * 1024
"""Of a body with rules: ten thousand of them have room."""


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
    required: bool = False  # `If-Match`
    first: Callable[..., Awaitable[Thrown | None]] | None = None  # what of a change waits for nothing
    subject: str = ""  # changes of one go one after the other; empty: of the path
    limited: bool = True  # False: whoever may use it is never told to wait
    body_bytes: int = BODY_BYTES

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
            *(("precondition_required",) if self.required else ()),
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
    Endpoint("GET", "/v1/toggles", Role.VIEWER, toggles.read_toggles, version=do.toggles_version),
    Endpoint(
        "PATCH",
        "/v1/toggles",
        Role.OPERATOR,
        toggles.change_toggles,
        codes=("toggles_refused", "kill_not_released"),
        version=do.toggles_version,
        required=True,
        first=toggles.throw_by_change,
        subject="toggles",
        body_bytes=RULES_BYTES,
    ),
    Endpoint(
        "POST",
        "/v1/toggles/baselines/{name}",
        Role.OPERATOR,
        toggles.set_baseline,
        codes=("unknown_baseline", "toggles_refused", "kill_not_released"),
        version=do.toggles_version,
        first=toggles.throw_by_baseline,
        subject="toggles",
    ),
    Endpoint(
        "POST",
        "/v1/toggles/preview",
        Role.VIEWER,
        toggle_preview.preview_toggles,
        codes=("toggles_refused", "unknown_baseline", "unknown_version"),
        body_bytes=RULES_BYTES,
    ),
    Endpoint("GET", "/v1/toggles/history", Role.VIEWER, toggles.read_history),
    Endpoint(
        "POST",
        "/v1/toggles/revert/{version}",
        Role.OPERATOR,
        toggles.revert_toggles,
        codes=("unknown_version", "toggles_refused", "kill_not_released"),
        version=do.toggles_version,
        subject="toggles",
    ),
    Endpoint("GET", "/v1/flags", Role.VIEWER, toggles.read_flags, version=do.toggles_version),
    Endpoint(
        "PATCH",
        "/v1/flags",
        Role.OPERATOR,
        toggles.change_flags,
        codes=("toggles_refused",),
        version=do.toggles_version,
        subject="toggles",
    ),
    Endpoint("GET", "/v1/breakers", Role.VIEWER, do.read_breakers),
    Endpoint(
        "POST",
        "/v1/breakers/{name}/{action}",
        Role.OPERATOR,
        do.command_breaker,
        codes=("unknown_breaker",),
    ),
    Endpoint("GET", "/v1/rollback", Role.VIEWER, rollback.read_rollback, codes=("rollback_off",)),
    Endpoint("GET", "/v1/triggers", Role.VIEWER, rollback.read_triggers, codes=("rollback_off",)),
    *(
        Endpoint(
            "POST",
            f"/v1/rollback/{action}",
            Role.OPERATOR,
            handler,
            codes=("illegal_move", "rollback_off"),
            recording=Recording.SPOOLED,
            subject="rollback",
        )
        for action, handler in (
            ("start", rollback.start_rollback),
            ("override", rollback.override_rollback),
            ("release", rollback.release_rollback),
        )
    ),
    Endpoint(
        "POST",
        "/v1/rollback/preview",
        Role.VIEWER,
        rollback.preview_rollback,
        codes=("illegal_move", "rollback_off"),
    ),
    Endpoint("GET", "/v1/drills", Role.VIEWER, drills.read_drills),
    Endpoint(
        "POST",
        "/v1/drills",
        Role.OPERATOR,
        drills.start_drill,
        codes=("drill_refused",),
        recording=Recording.SPOOLED,
        subject="drill",
    ),
    Endpoint(
        "DELETE",
        "/v1/drills",
        Role.OPERATOR,
        drills.abort_drill,
        recording=Recording.SPOOLED,
        subject="drill",
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
