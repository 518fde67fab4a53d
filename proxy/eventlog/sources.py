"""Which files a query reads: NDJSON that is not compacted yet, and Parquet; an event is in exactly one.

DIRECTORY/ndjson/STREAM/….ndjson                          of each process
DIRECTORY/parquet/KIND/event_date=2026-11-25/….parquet    what was compacted
DIRECTORY/compacting.json                                 what is just becoming the one from the other
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import orjson

from proxy.core.events import Kind
from proxy.eventlog.files import NDJSON, listed

PARQUET = "parquet"
STAGING = "staging"
JOURNAL = "compacting.json"
"""Which files of NDJSON do not count any more, and which Parquet does that is not in its place yet."""
KINDS: Sequence[Kind] = get_args(Kind)
STREAMS: Mapping[Kind, tuple[str, ...]] = {
    kind: (kind, "error_critical") if kind == "error" else (kind,) for kind in KINDS
}
"""The streams of each kind."""

_DAY = re.compile(r"event_date=(\d{4}-\d\d-\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The files of one kind."""

    ndjson: Sequence[Path] = ()
    parquet: Sequence[Path] = ()


def sources(directory: Path, *, since: float, days: tuple[str, str]) -> dict[Kind, Sources]:
    """By kind, without those that hold nothing from wall time `since` on, or of `days` (first, last).

    For whoever holds the lock, so that they stay as they are.
    """
    gone, came = _decided(directory)
    return {
        kind: Sources(
            ndjson=[
                path
                for stream in STREAMS[kind]
                for path in listed(directory / NDJSON / stream)
                if path not in gone and path.stat().st_mtime >= since
            ],
            parquet=[
                path
                for day, path in (*partitions(directory, kind), *came.get(kind, ()))
                if days[0] <= day <= days[1]
            ],
        )
        for kind in KINDS
    }


def _decided(directory: Path) -> tuple[set[Path], dict[str, list[tuple[str, Path]]]]:
    """What the journal of a compaction that was killed says of NDJSON, and of Parquet by kind."""
    try:
        entry = orjson.loads((directory / JOURNAL).read_bytes())
    except FileNotFoundError:
        return set(), {}
    came: dict[str, list[tuple[str, Path]]] = {}
    for staged, place in entry["outputs"]:
        path = directory / staged
        if path.exists() and (day := _DAY.fullmatch(path.parent.name)):
            came.setdefault(Path(place).parts[1], []).append((day[1], path))
    return {directory / name for name in entry["inputs"]}, came


def partitions(directory: Path, kind: Kind) -> list[tuple[str, Path]]:
    """(day, file) of what was compacted, the oldest first."""
    files = sorted((directory / PARQUET / kind).glob("event_date=*/*.parquet"))
    return [(day[1], path) for path in files if (day := _DAY.fullmatch(path.parent.name))]
