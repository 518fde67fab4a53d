"""Audit before effect, in the one place that carries changes out (design rule 1)."""

import asyncio
import logging
from typing import Any, TypeVar

from proxy.admin.calls import Call, Change, Recording
from proxy.core.audit import Outcome
from proxy.ports import StoreError

T = TypeVar("T")

_log = logging.getLogger("fusebox.admin")


async def carry_out(change: Change[T], call: Call, recording: Recording) -> T:
    """The effect's value, recorded as `recording` says.

    StoreError when it cannot be recorded before: then nothing has happened. When the effect fails, or the
    store does, an entry with the outcome `failed` follows, and the failure comes through.
    """
    if recording is Recording.AFTERWARDS:
        now = await change.effect()
        await _afterwards(change, call)
    else:
        number = await _before(change, call, recording)
        try:
            now = await change.effect()
        except BaseException as error:
            _failed(change, call, number, error)
            raise
    _log.info(
        "changed: %s",
        change.action.replace(".", " "),
        extra={
            "by": call.who.name,
            "role": call.who.role.label,
            "reason": change.reason,
            "address": call.address,
            "request_id": call.request_id,
            "target": change.target,
            "changed": change.changed,
        },
    )
    return now


async def _before(change: Change[T], call: Call, recording: Recording) -> int | None:
    trail = call.services.trail
    entry = trail.entry(change.action, **_fields(change, call))
    if recording is Recording.STORED:
        try:
            return await trail.record(entry)
        except StoreError as error:  # which may have it all the same, when it was only too slow
            _failed(change, call, None, error)
            raise
    await asyncio.to_thread(trail.note, entry)
    return None


async def _afterwards(change: Change[T], call: Call) -> None:
    trail = call.services.trail
    try:
        await asyncio.to_thread(trail.note, trail.entry(change.action, Outcome.DONE, **_fields(change, call)))
    except StoreError as error:
        _log.error("%s is in force, but the audit log does not know: %s", change.action, error)


def _failed(change: Change[T], call: Call, number: int | None, error: BaseException) -> None:
    """Into the spool: the store may be what failed. At once: this may run while everything ends."""
    trail = call.services.trail
    said = _fields(change, call) | {"of": number, "reason": str(error) or type(error).__name__}
    try:
        trail.note(trail.entry(change.action, Outcome.FAILED, **said), sync=False)
    except StoreError as another:
        _log.error("%s failed, but the audit log does not know: %s", change.action, another)


def _fields(change: Change[T], call: Call) -> dict[str, Any]:
    return {
        "actor": call.who.name,
        "role": call.who.role.label,
        "target": change.target,
        "before": change.before,
        "after": change.after if change.changed else {**change.after, "changed": False},
        "reason": change.reason,
        "address": call.address,
        "request_id": call.request_id,
    }
