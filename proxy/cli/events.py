"""The files of the event log: how many there are, and made Parquet. No running sidecar is needed."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from proxy.cli.common import HELP, config_option, faults, json_option, tell_json, tell_table
from proxy.cli.query import directory_of, directory_option
from proxy.clock import rfc3339, wall
from proxy.eventlog.compaction import compact as compacted
from proxy.eventlog.files import NDJSON, listed
from proxy.eventlog.sources import KINDS, STREAMS, partitions


@click.group(context_settings=HELP)
def events() -> None:
    """Look after the event log.

    What is in it  fusebox query  tells.
    """


def _options(command: Callable[..., None]) -> Callable[..., None]:
    return directory_option(config_option(json_option(command)))


@events.command()
@_options
def compact(directory: Path | None, config: Path, *, as_json: bool) -> None:
    """Make Parquet by day of all NDJSON files that are finished.

    Beside a running sidecar, as often as you like: a cron job once an hour is usual. Killed at any moment,
    it loses nothing and doubles nothing.
    """
    with faults():
        done = compacted(directory or directory_of(config), wall())
    if as_json:
        tell_json(asdict(done))
        return
    click.echo(
        f"{done.files} files, {done.events} events: {done.bytes_before} bytes are {done.bytes_after} in "
        f"{done.parquet} of Parquet"
    )
    if done.days:
        click.echo(f"{done.days} days are summed")
    if done.torn:
        click.echo(f"{done.torn} unreadable lines were left out: a writer was killed")


@events.command()
@_options
def status(directory: Path | None, config: Path, *, as_json: bool) -> None:
    """Tell which files there are, how large, and since when."""
    place = directory or directory_of(config)
    rows = [{"kind": kind, **_of(place, kind)} for kind in KINDS]
    if as_json:
        tell_json({"directory": str(place), "kinds": rows})
        return
    click.echo(f"{place}")
    tell_table(
        ("KIND", "NDJSON", "BYTES", "NEWEST", "PARQUET", "BYTES", "DAYS"),
        (
            (
                row["kind"],
                row["ndjson"],
                row["ndjson_bytes"],
                row["newest"],
                row["parquet"],
                row["parquet_bytes"],
                row["days"],
            )
            for row in rows
        ),
    )


def _of(directory: Path, kind: Any) -> dict[str, Any]:
    lines = [path for stream in STREAMS[kind] for path in listed(directory / NDJSON / stream)]
    days = partitions(directory, kind)
    newest = max((path.stat().st_mtime for path in lines), default=None)
    return {
        "ndjson": len(lines),
        "ndjson_bytes": _bytes(lines),
        "newest": newest and rfc3339(newest)[:19] + "Z",
        "parquet": len(days),
        "parquet_bytes": _bytes(path for _, path in days),
        "days": f"{days[0][0]} … {days[-1][0]}" if days else None,
    }


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)
