"""Reading the log: found by what happened, sealed fields opened for who may see them."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from proxy.clock import rfc3339
from proxy.control.audit_verify import verify
from proxy.core.audit import Row
from proxy.core.checkpoint import Verifier
from proxy.core.sealing import Sealer, open_box
from proxy.ports.audit import AuditPage, LastSigned
from proxy.ports.records import AuditFilter, AuditRecords, Journal, StoredCheckpoint

MOST = 500
"""Entries on one page."""


class AuditReading:
    """The log for the admin API (`ports.audit.AuditReader`)."""

    def __init__(
        self,
        journal: Journal,
        sealer: Sealer,
        verifiers: Sequence[Verifier],
        *,
        last: LastSigned | None = None,
    ) -> None:
        """With `last`, verifying asks for the checkpoint remembered there as well."""
        self._last = last
        self._journal = journal
        self._sealer = sealer
        self._verifiers = verifiers

    async def find(
        self, wanted: AuditFilter, *, subject: str = "", before: int | None = None, limit: int, opened: bool
    ) -> AuditPage:
        """Entries with numbers below `before`, the newest first; sealed fields are opened when `opened`.

        `subject` finds what is sealed under that person's key, so only together with `opened`: else asking
        would tell who is in the log. `since` and `until` may be any RFC 3339 time. ValueError otherwise.
        """
        if subject and not opened:
            raise ValueError("only who may open sealed fields may look for a subject")
        asked = replace(wanted, since=moment(wanted.since), until=moment(wanted.until))
        size = max(1, min(limit, MOST))

        def page(log: AuditRecords) -> AuditPage:
            sought = asked
            if subject:
                key = log.key_by_tag(self._sealer.tag(subject))
                if key is None or asked.key_id not in {"", key.key_id}:
                    return AuditPage(entries=(), next=None)
                sought = replace(asked, key_id=key.key_id)
            rows = log.find(sought, before=before, limit=size + 1)
            shown = map(Shown(log, self._sealer if opened else None), rows[:size])
            return AuditPage(entries=tuple(shown), next=rows[size - 1].seq if len(rows) > size else None)

        return await self._journal.read(lambda records: page(records.audit))

    async def verify(self) -> Mapping[str, Any]:
        """Verify the whole log; `Report.values`. Takes some 15 s for a million entries."""
        # read before the store, which may only be further then
        note = await asyncio.to_thread(self._last.read) if self._last else ""
        external = [(self._last.name, note)] if self._last and note else []
        report = await self._journal.read(
            lambda records: verify(records.audit, self._verifiers, external, self._sealer)
        )
        return report.values()

    async def checkpoint(self) -> StoredCheckpoint | None:
        """The newest; None before the first."""
        return await self._journal.read(lambda records: records.audit.last_checkpoint())


class Shown:
    """Rows as readers see them: the entry, with `sealed` as true, `erased` as true, or the fields in place.

    One of these per transaction: it remembers keys. Without a sealer nothing is opened.
    """

    def __init__(self, log: AuditRecords, sealer: Sealer | None) -> None:
        self._log = log
        self._sealer = sealer
        self._keys: dict[str, bytes | None] = {}

    def __call__(self, row: Row) -> dict[str, Any]:
        try:
            values: dict[str, Any] = orjson.loads(row.entry)
            sealed = values.pop("sealed", None)
        except (ValueError, TypeError, AttributeError):
            return {"seq": row.seq, "at": row.at, "action": row.action, "damaged": True}
        if sealed is None:
            return values
        if self._log.key_by_id(row.key_id) is None:
            return values | {"erased": True}
        if self._sealer is None:
            return values | {"sealed": True}
        try:
            box = open_box(self._key(row.key_id), row.key_id, values["action"], sealed["box"])
            values |= orjson.loads(box)
        except (ValueError, TypeError, KeyError):
            values["damaged"] = True
        return values

    def _key(self, key_id: str) -> bytes:
        if (known := self._keys.get(key_id)) is not None:
            return known
        key = self._log.key_by_id(key_id)
        if key is None or self._sealer is None:
            raise ValueError("no key")
        found = self._sealer.unwrap(key.key_id, key.tag, key.wrapped)
        self._keys[key_id] = found
        return found


def matching(log: AuditRecords, wanted: AuditFilter, first: int = 0) -> Iterator[Row]:
    """Every row from `first` on that fits, in order; `since` and `until` as labels, see `moment`."""
    exact = {name: value for name in _EXACT if (value := getattr(wanted, name))}
    prefix = wanted.action if wanted.action.endswith(".") else ""
    if wanted.action and not prefix:
        exact["action"] = wanted.action
    until = wanted.until or "~"  # behind every label
    for row in log.walk(first, _NEWEST):
        if (
            wanted.since <= row.at < until
            and row.action.startswith(prefix)
            and all(getattr(row, name) == value for name, value in exact.items())
        ):
            yield row


_EXACT = ("actor", "target", "outcome", "request_id", "key_id")
_NEWEST = 2**62
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def moment(text: str) -> str:
    """An RFC 3339 time or date as the log labels it, UTC with microseconds; ValueError says what is wrong."""
    if not text:
        return ""
    try:
        found = datetime.fromisoformat(f"{text}T00:00:00" if _DATE.fullmatch(text) else text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        return rfc3339(found.timestamp())
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:40]!r} is no time: like 2026-01-31 or 2026-01-31T12:00:00Z") from error
