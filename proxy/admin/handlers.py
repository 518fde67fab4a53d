"""What each endpoint does. Annotations and docstrings are also the API's documentation."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.admin.calls import Answer, Call, Change, Services, Text
from proxy.admin.problems import Problem
from proxy.admin.requests import AuditQuery, BreakerCommand, Reason
from proxy.admin.shapes import Shown, Verified
from proxy.control import BreakerReport, KillRefused, KillStatus, Status, UnknownBreaker
from proxy.core.roles import Role
from proxy.ports.records import AuditFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """`reasons` say why not; `troubles` what is wrong and keeps no traffic away, such as the store."""

    ready: bool
    reasons: tuple[str, ...]
    troubles: tuple[str, ...]


async def livez(call: Call) -> Live:  # noqa: ARG001 - it needs nothing
    """Whether the process turns.

    Restart it when this does not answer; nothing else that could be wrong would be mended by that.
    """
    return Live(live=True)


async def readyz(call: Call) -> Answer[Ready]:
    """Whether traffic should be sent here.

    200 while it listens with a policy and does not drain, whatever upstreams and store do.
    """
    unready = tuple(call.services.readiness.unready())
    troubles = tuple(filter(None, call.services.troubles()))
    return Answer(Ready(ready=not unready, reasons=unready, troubles=troubles), 503 if unready else 200)


async def metrics(call: Call) -> Text:
    """Metrics for Prometheus, or as OpenMetrics when asked for."""
    return Text(*call.services.metrics.render(call.accept))


async def openapi(call: Call) -> Mapping[str, Any]:
    """The API's own description, which you are reading (OpenAPI 3.1)."""
    return call.document


async def status(call: Call) -> Status:
    """What runs: kill switch, breakers, upstreams, routes, the last reload."""
    return call.services.board.read()


def toggles_version(services: Services) -> int:
    """What `If-Match` is compared with; it grows with each change of toggles, kill switch and settings."""
    return services.toggles.version


async def read_kill(call: Call) -> KillStatus:
    """The kill switch as it is now."""
    return call.services.kill.status


async def throw_kill(call: Call, body: Reason) -> Change[KillStatus]:
    """Throw the kill switch.

    Effective with the next request: every recommend answer comes from memory. Needs no store, no upstream
    and no disk; `persisted` says whether a restart would find it thrown.
    """
    return _kill(call, body.reason, on=True)


async def release_kill(call: Call, body: Reason) -> Change[KillStatus]:
    """Release the kill switch.

    Remembered first: what a restart would not know of is refused.
    """
    return _kill(call, body.reason, on=False)


def _kill(call: Call, why: str, *, on: bool) -> Change[KillStatus]:
    kill = call.services.kill

    async def effect() -> KillStatus:
        try:
            return await kill.set(on, reason=why, by=call.who.name)
        except KillRefused as error:
            raise Problem("kill_not_released", str(error)) from error

    return Change(
        action="kill.on" if on else "kill.off",
        target="kill",
        before={"kill": kill.status.kill},
        after={"kill": on},
        reason=why,
        effect=effect,
    )


async def read_breakers(call: Call) -> Mapping[str, BreakerReport]:
    """Every breaker, by its upstream."""
    return call.services.breakers.read()


async def command_breaker(call: Call, path: BreakerCommand, body: Reason) -> Change[BreakerReport]:
    """Hold a breaker open or closed, or let it decide by itself again.

    Effective with the next request; it holds until `auto` or a restart.
    """
    breakers = call.services.breakers
    there = breakers.read()
    if path.name not in there:
        known = ", ".join(sorted(there)) or "none"
        raise Problem("unknown_breaker", f"no breaker is named {path.name!r}; there are: {known}")

    async def effect() -> BreakerReport:
        try:
            return await breakers.command(path.name, path.action, reason=body.reason, by=call.who.name)
        except UnknownBreaker as error:  # taken away by a reload in the meantime
            raise Problem("unknown_breaker", str(error)) from error

    forced = {"open": "open", "close": "closed", "auto": None}[path.action]
    return Change(
        action=f"breaker.{path.action}",
        target=path.name,
        before={"forced": there[path.name].forced},
        after={"forced": forced},
        reason=body.reason,
        effect=effect,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAnswer:
    """Entries, the newest first. `next` goes into `cursor`; null: that was all."""

    entries: tuple[Shown, ...]
    next: str | None


async def find_audit(call: Call, query: AuditQuery) -> AuditAnswer:
    """Audit entries by what they say.

    Personal fields are opened for commanders and above; others see that they are sealed.
    """
    wanted = AuditFilter(
        action=query.action,
        actor=query.actor,
        target=query.target,
        outcome=query.outcome,
        request_id=query.request_id,
        key_id=query.key_id,
        since=query.since,
        until=query.until,
    )
    opened = call.who.role >= Role.COMMANDER
    if query.subject and not opened:
        detail = "Looking for a subject needs the role commander, as opening what is sealed does."
        raise Problem("forbidden", detail)
    page = await call.services.audit.find(
        wanted,
        subject=query.subject,
        before=int(query.cursor) if query.cursor else None,
        limit=query.limit,
        opened=opened,
    )
    return AuditAnswer(entries=page.entries, next=None if page.next is None else str(page.next))


async def verify_audit(call: Call) -> Verified:
    """Verify the whole log: every entry, the tree, the checkpoints.

    Takes about as long as reading it; one verification at a time.
    """
    running = call.services.verifying
    if running.locked():
        raise Problem("verify_running", "One verification is under way; ask again when it is over.")
    async with running:
        return await call.services.audit.verify()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signed checkpoint (C2SP tlog-checkpoint). `root` is base64; `note` is the whole signed text."""

    size: int
    root: str
    at: str
    note: str


async def audit_checkpoint(call: Call) -> Checkpoint | Text:
    """The newest signed checkpoint: keep it elsewhere, and no earlier entry can change unnoticed.

    As JSON, or with `Accept: text/plain` the signed note alone.
    """
    newest = await call.services.audit.checkpoint()
    if newest is None:
        raise Problem("no_checkpoint", "The log is empty, or its first checkpoint is still to come.")
    if "text/plain" in call.accept:
        return Text(newest.note.encode(), "text/plain; charset=utf-8")
    root = b64encode(newest.root).decode()
    return Checkpoint(size=newest.size, root=root, at=newest.at, note=newest.note)
