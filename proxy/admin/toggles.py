"""Toggles and flags: what each endpoint does. Annotations and docstrings are also the API's documentation."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from proxy.admin.calls import Call, Change, Recording, Thrown
from proxy.admin.changes import carry_out
from proxy.admin.problems import Fault, Problem
from proxy.admin.requests import (
    BaselineChange,
    BaselineName,
    FlagsChange,
    HistoryQuery,
    Reason,
    TogglesChange,
    VersionNumber,
)
from proxy.control import (
    KillRefused,
    Plan,
    ReturnStatus,
    TogglesNow,
    TogglesRefused,
    TogglesStale,
    UnknownBaseline,
    UnknownVersion,
    Wanted,
)
from proxy.control.toggle_plans import baseline, flags, patch
from proxy.control.toggle_versions import Kind
from proxy.core.audit import Scalar
from proxy.core.roles import Role

_TOLD = 200
"""Characters of a value in the audit log; the history has the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagsNow:
    """Every flag that a route asks for, and those that stand although none does. True is on."""

    version: int
    flags: Mapping[str, bool]
    reverts: tuple[ReturnStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A value in two versions; of many rules their number."""

    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLine:
    """A version: who made it, when, why and how, what it changed; when that returns, null: it stays."""

    version: int
    at: str
    by: str
    reason: str
    kind: Kind
    diff: Mapping[str, Difference]
    expires_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Versions, the newest first. `next` goes into `cursor`; null: that was all."""

    versions: tuple[VersionLine, ...]
    next: str | None


async def read_toggles(call: Call) -> TogglesNow:
    """The toggles in force, with rules and flags, and what of them returns by itself."""
    return call.services.toggles.read()


async def change_toggles(call: Call, body: TogglesChange) -> Change[TogglesNow]:
    """Change toggles.

    All at once or none, in force for every next request when this is answered, and kept over restarts.
    Needs `If-Match`. `kill_switch` needs the role commander where it changes something; true takes effect
    before all else, whatever becomes of the rest.
    """
    return await _change(call, _patched(body), body.reason, "toggles.patch", "toggles")


async def throw_by_change(call: Call, body: TogglesChange) -> Thrown | None:
    """What of `change_toggles` waits for nothing."""
    return await _first(call, _patched(body), body.reason)


async def set_baseline(call: Call, path: BaselineName, body: BaselineChange) -> Change[TogglesNow]:
    """Set all that a baseline names; what it does not name stays.

    emergency, degraded, content_only, collaborative_only, normal. As with any change, the kill switch needs
    the role commander.
    """
    return await _change(call, _baseline(path, body), body.reason, "toggles.baseline", path.name)


async def throw_by_baseline(call: Call, path: BaselineName, body: BaselineChange) -> Thrown | None:
    """What of `set_baseline` waits for nothing."""
    return await _first(call, _baseline(path, body), body.reason)


async def revert_toggles(call: Call, path: VersionNumber, body: Reason) -> Change[TogglesNow]:
    """Make all as it was in a version: toggles, rules, flags, the frozen experiment.

    It becomes a new version, and nothing returns by itself any more. Where the kill switch was another then,
    it needs the role commander.
    """
    try:
        wanted = await call.services.toggles.revert_to(path.version)
    except UnknownVersion as error:
        raise Problem("unknown_version", str(error)) from error
    return await _change(call, wanted, body.reason, "toggles.revert", f"version {path.version}")


async def read_history(call: Call, query: HistoryQuery) -> History:
    """Versions of the toggles, the newest first.

    Kills and reloads are versions too. Numbers have gaps.
    """
    before = int(query.cursor) if query.cursor else None
    lines, more = await call.services.toggles.history(before=before, limit=query.limit)
    versions = tuple(
        VersionLine(
            version=it.version,
            at=it.at,
            by=it.actor,
            reason=it.reason,
            kind=it.kind,  # type: ignore[arg-type]  # as it was written
            diff={name: Difference(**each) for name, each in orjson.loads(it.diff).items()},
            expires_at=it.expires_at or None,
        )
        for it in lines
    )
    return History(versions=versions, next=None if more is None else str(more))


async def read_flags(call: Call) -> FlagsNow:
    """The flags of routes."""
    return _flags(call)


async def change_flags(call: Call, body: FlagsChange) -> Change[FlagsNow]:
    """Switch routes on and off by their flags.

    All at once or none, in force for every next request when this is answered.
    """
    wanted = flags(body.flags, body.ttl_s)
    return await _change(call, wanted, body.reason, "toggles.flags", "flags", answer=_flags)


def _patched(body: TogglesChange) -> Wanted:
    return patch(body.toggles, body.rules, body.ttl_s)


def _baseline(path: BaselineName, body: BaselineChange) -> Wanted:
    try:
        return baseline(path.name, body.ttl_s)
    except UnknownBaseline as error:
        raise Problem("unknown_baseline", str(error)) from error


def _flags(call: Call) -> FlagsNow:
    toggles = call.services.toggles
    return FlagsNow(version=toggles.version, flags=toggles.flags, reverts=toggles.reverts)


async def _first(call: Call, wanted: Wanted, reason: str) -> Thrown | None:
    """Throw the kill switch if that is asked for, recorded as `PUT /v1/kill` is."""
    if not wanted.kill or call.services.kill.status.kill:
        return None
    _allowed(call, on=True)
    version = 0

    async def effect() -> None:
        nonlocal version
        version = await call.services.toggles.throw(reason=reason, by=call.who.name)

    change = Change(
        action="kill.on",
        target="kill",
        before={"kill": False},
        after={"kill": True},
        reason=reason,
        effect=effect,
    )
    await carry_out(change, call, Recording.AFTERWARDS)
    all_of_it = len(wanted.values) == 1 and wanted.ttl_s is None
    return Thrown(version, call.services.toggles.read() if all_of_it else None)


async def _change(
    call: Call,
    wanted: Wanted,
    reason: str,
    action: str,
    target: str,
    answer: Callable[[Call], Any] | None = None,
) -> Change[Any]:
    plan = await _planned(call, wanted)
    if plan.kill is not None:
        _allowed(call, on=plan.kill)
    diff = {name: (_told(each["before"]), _told(each["after"])) for name, each in plan.diff.items()}

    async def effect() -> Any:
        now = await _carried_out(call, plan, reason)
        return answer(call) if answer else now

    return Change(
        action=action,
        target=target,
        before={name: had for name, (had, _) in diff.items()},
        after={name: has for name, (_, has) in diff.items()},
        reason=reason,
        effect=effect,
    )


async def _planned(call: Call, wanted: Wanted) -> Plan:
    thrown = call.thrown is not None
    try:
        # In a thread: ten thousand rules take a while to check, and requests are served here.
        plan = await asyncio.to_thread(call.services.toggles.plan, wanted, thrown=thrown)
    except TogglesRefused as error:
        raise refused(error) from error
    if call.version is not None and plan.looked_at != call.version:
        raise _stale(call, "the toggles have changed meanwhile")
    return plan


async def _carried_out(call: Call, plan: Plan, reason: str) -> TogglesNow:
    toggles = call.services.toggles
    try:
        return await toggles.carry_out(plan, reason=reason, by=call.who.name, strict=call.version is not None)
    except TogglesRefused as error:  # by what came in between
        raise refused(error) from error
    except TogglesStale as error:
        raise _stale(call, str(error)) from error
    except KillRefused as error:
        detail = f"{error}. All else is in force, as version {toggles.version}." if plan.more else str(error)
        raise Problem("kill_not_released", detail) from error


def _allowed(call: Call, *, on: bool) -> None:
    """What moves the kill switch needs the role that may use it."""
    if call.who.role < Role.COMMANDER:
        what = "throw" if on else "release"
        detail = f"This would {what} the kill switch, which needs the role commander; nothing was changed."
        raise Problem("forbidden", detail)


def refused(error: TogglesRefused) -> Problem:
    """Every reason at once."""
    faults = [
        Fault(at=".".join(map(str, it.place)) or "body", detail=f"{it.message}{it.way_out}")
        for it in error.faults
    ]
    return Problem("toggles_refused", "; ".join(f"{it.at}: {it.detail}" for it in faults), errors=faults)


def _stale(call: Call, why: str) -> Problem:
    detail = f"{why[:1].upper()}{why[1:]}: look again, then decide."
    return Problem("version_mismatch", detail, version=call.services.toggles.version)


def _told(value: Any) -> Scalar:
    """A value in the audit log."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return orjson.dumps(value).decode()[:_TOLD]
