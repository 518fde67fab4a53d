"""What a handler gets and what it gives: values. Nothing here knows HTTP beyond its words."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from proxy.control import BreakerControl, KillSwitch, StatusBoard, ToggleControl
from proxy.control.drills import DrillControl
from proxy.control.preview import Previews
from proxy.control.rollback import RollbackControl
from proxy.control.rollback_board import RollbackBoard
from proxy.core.audit import Scalar
from proxy.core.roles import Principal, Rejected, Role
from proxy.ports import TokenStore
from proxy.ports.audit import AuditReader, AuditTrail
from proxy.telemetry.collector import Metrics

T = TypeVar("T")


class Readiness(Protocol):
    """Whether traffic should be sent here."""

    def unready(self) -> list[str]:
        """Why not, in words; empty: ready."""


class Issuer(Protocol):
    """Whom a JWT stands for."""

    async def verify(self, token: str) -> Principal | Rejected: ...


class TokenUses(Protocol):
    """Told of each use of a token of our own."""

    def used(self, name: str) -> None:
        """Never waits and never fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All that the admin face needs from the rest."""

    tokens: TokenStore
    kill: KillSwitch
    toggles: ToggleControl
    previews: Previews
    rollback: RollbackControl
    rollback_board: RollbackBoard
    drills: DrillControl
    breakers: BreakerControl
    board: StatusBoard
    readiness: Readiness
    metrics: Metrics
    trail: AuditTrail
    audit: AuditReader
    issuer: Issuer | None = None  # of JWTs; None: only tokens of our own
    uses: TokenUses | None = None
    troubles: Callable[[], Iterable[str]] = tuple  # what is wrong and keeps no traffic away; empty: nothing
    verifying: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while the log is verified


NOBODY = Principal(name="", role=Role.VIEWER)
"""Who calls an endpoint that asks nobody for a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, its caller let in."""

    services: Services
    who: Principal = NOBODY
    address: str = ""
    request_id: str = ""
    accept: str = ""  # the `Accept` field
    document: Mapping[str, Any] = field(default_factory=dict)  # OpenAPI, of the table that is served
    version: int | None = None  # the present one, when the caller asked for it by `If-Match`
    thrown: int | None = None  # the version by which this call has thrown the kill switch


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """An answer with another status than 200."""

    value: T
    status: int


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that is no JSON. `content_type` may bring parameters."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Thrown:
    """What a change does before anything else: it throws the kill switch (design rule 2)."""

    version: int
    """The one that this made."""
    answer: Any = None
    """When that was all that was asked for."""


class Recording(Enum):
    """When and where a change is recorded."""

    STORED = "in the store, before the effect"
    SPOOLED = "in the spool, before the effect"
    AFTERWARDS = "in the spool, after the effect"  # the kill: it waits for nothing (design rule 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Generic[T]):
    """What a handler wants done. Nothing has happened yet: `admin.changes` records it, then calls `effect`.

    When `before` and `after` are equal the change changes nothing, and is recorded and done all the same.
    """

    action: str  # as in `core.audit.Entry`
    target: str
    before: Mapping[str, Scalar]
    after: Mapping[str, Scalar]
    reason: str
    effect: Callable[[], Awaitable[T]]

    @property
    def changed(self) -> bool:
        return self.before != self.after
