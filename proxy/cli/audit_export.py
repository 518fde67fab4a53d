"""Entries of the audit log as files: JSON lines, and CSV that a spreadsheet takes for nothing else."""

import csv
from collections.abc import Iterator
from typing import IO, Any

import orjson

from proxy.control.audit_reading import Shown, matching
from proxy.core.sealing import Sealer
from proxy.ports.records import AuditFilter, AuditRecords, Store

FORMATS = ("jsonl", "csv")
PAGE = 500


def shown(store: Store, wanted: AuditFilter, sealer: Sealer | None) -> Iterator[dict[str, Any]]:
    """Entries in order, sealed fields opened with a sealer.

    Read page by page: whoever takes them slowly holds no snapshot of the store.
    """
    first = 0
    while True:
        page = store.read(lambda it, first=first: _page(it.audit, wanted, sealer, first))  # type: ignore[misc]
        yield from page
        if len(page) < PAGE:
            return
        first = page[-1]["seq"] + 1


def _page(log: AuditRecords, wanted: AuditFilter, sealer: Sealer | None, first: int) -> list[dict[str, Any]]:
    show = Shown(log, sealer)
    found: list[dict[str, Any]] = []
    for row in matching(log, wanted, first):
        found.append(show(row))
        if len(found) == PAGE:
            break
    return found


_CELLS = (
    "seq", "at", "action", "outcome", "actor", "role", "subject", "target", "before", "after", "reason",
    "address", "request_id", "instance", "status", "sample", "of", "sealed", "erased", "damaged",
)  # fmt: skip
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - spreadsheets take the wide ones, too


def write(file: IO[str], form: str, entries: Iterator[dict[str, Any]]) -> int:
    """Write them in one of `FORMATS`; how many there were."""
    count = 0
    if form == "jsonl":
        for count, entry in enumerate(entries, 1):  # noqa: B007 - the last one is the answer
            file.write(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS).decode() + "\n")
        return count
    rows = csv.writer(file)
    rows.writerow(_CELLS)
    for count, entry in enumerate(entries, 1):  # noqa: B007
        rows.writerow([_cell(entry.get(name)) for name in _CELLS])
    return count


def _cell(value: Any) -> Any:
    """What a spreadsheet would take for a formula gets an apostrophe (OWASP, CSV injection)."""
    if isinstance(value, dict):
        value = orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
