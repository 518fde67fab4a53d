"""Aggregates: each day's answers summed by the hour and segment, kept for longer than the events.

    DIRECTORY/parquet/aggregate/event_date=2026-11-25/aggregate.parquet

A day is summed once it is over, and anew whenever events of it came since. Its file is replaced whole.
"""

import os
import secrets
import shutil
from pathlib import Path

from proxy.core.events import COLUMNS
from proxy.eventlog.duck import connected, days, quoted
from proxy.eventlog.sources import PARQUET, STAGING, partitions

NAME = "aggregate.parquet"
_HOUR_MS = 3_600_000
_KEY = ("shadow", "side", "route", "arm", "region", "cohort", "client")
_SUMS = {
    "requests": "CAST(SUM(weight) AS BIGINT)",
    "failed": "CAST(SUM(CASE WHEN failed THEN weight ELSE 0 END) AS BIGINT)",
    "answers": "CAST(SUM(CASE WHEN coverage IS NULL THEN 0 ELSE weight END) AS BIGINT)",
    "coverage_sum": "SUM(coverage * weight)",
    "underfilled": "CAST(SUM(CASE WHEN k_returned < k THEN weight ELSE 0 END) AS BIGINT)",
    "late_75": "CAST(SUM(CASE WHEN latency_ms > 75 THEN weight ELSE 0 END) AS BIGINT)",
    "late_200": "CAST(SUM(CASE WHEN latency_ms > 200 THEN weight ELSE 0 END) AS BIGINT)",
    "p95_latency": "QUANTILE_DISC(latency_ms, 0.95)",
}


def aggregate(directory: Path, today: str) -> int:
    """Sum the days before `today` (UTC) that need it; how many those were. For who holds the compacting lock.

    OSError when it cannot be written; then the day stays as it was.
    """
    events: dict[str, list[Path]] = {}
    for day, path in partitions(directory, "ranking"):
        events.setdefault(day, []).append(path)
    summed = {day: path.stat().st_mtime_ns for day, path in partitions(directory, "aggregate")}
    made = 0
    for day, files in events.items():
        newest = max(path.stat().st_mtime_ns for path in files)
        if day < today and newest > summed.get(day, 0):
            _sum(directory, day, files)
            made += 1
    return made


def _sum(directory: Path, day: str, files: list[Path]) -> None:
    staged = directory / STAGING / secrets.token_hex(8)
    staged.mkdir(mode=0o700, parents=True)
    made = staged / NAME
    columns = ", ".join(_column(name) for name in COLUMNS["aggregate"] if name != "event_date")
    with connected() as connection:
        connection.execute(
            f"COPY (FROM {days(files)} SELECT {columns} GROUP BY ALL ORDER BY ALL) "
            f"TO '{quoted(made)}' (FORMAT parquet, COMPRESSION zstd)"
        )
    made.chmod(0o600)
    target = directory / PARQUET / "aggregate" / f"event_date={day}" / NAME
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.replace(target)
    shutil.rmtree(staged, ignore_errors=True)


def _column(name: str) -> str:
    if name == "timestamp_ms":
        return f"timestamp_ms // {_HOUR_MS} * {_HOUR_MS} AS timestamp_ms"
    return name if name in _KEY else f"{_SUMS[name]} AS {name}"
