"""SQL templates over the event log, answered here: no running sidecar is needed."""

import csv
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from proxy.cli.common import (
    HELP,
    Duration,
    config_option,
    faults,
    json_option,
    settings_faults,
    tell_json,
    tell_table,
)
from proxy.clock import wall
from proxy.eventlog.files import NDJSON
from proxy.eventlog.query import Queries, Result
from proxy.eventlog.sources import PARQUET
from proxy.eventlog.templates import template, templates
from proxy.settings import events

_FORMATS = ("table", "json", "csv")


class Moment(click.ParamType[float]):
    """A time like 2026-11-25T10:00:00Z, or so long ago: `2h`. The value is wall time."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            at = None
        if at is not None and at.tzinfo is not None:
            return at.timestamp()
        if at is not None:
            self.fail(f"{value} lacks a time zone: write {value}Z for UTC", param, ctx)
        try:
            return wall() - Duration().convert(value, param, ctx)
        except click.UsageError:
            self.fail(
                "should be a time like 2026-11-25T10:00:00Z, or so long ago: 90s, 10m, 2h, 7d", param, ctx
            )


def _pairs(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> dict[str, str]:
    given = {}
    for pair in value:
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} should be name=value", ctx, param)
        given[name] = text
    return given


directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="The event log.  [default: as the settings say]",
)


@click.command(context_settings=HELP)
@click.argument("name")
@click.option(
    "--since", type=Moment(), default="10m", show_default=True, help="From when: a time, or so long ago."
)
@click.option("--until", type=Moment(), help="Until when, not included.  [default: now]")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_pairs,
    help="Of the query; repeatable.",
)
@click.option("--format", "form", type=click.Choice(_FORMATS), default="table", show_default=True)
@directory_option
@config_option
@json_option
def query(
    name: str,
    since: float,
    until: float | None,
    params: dict[str, str],
    form: str,
    directory: Path | None,
    config: Path,
    *,
    as_json: bool,
) -> None:
    """Ask the event log the query NAME; `list` tells which there are.

    What is in the files counts, up to the last 0.1 s. --json is --format json.
    """
    form = "json" if as_json else form
    if name == "list":
        _tell_list(form)
        return
    with faults():
        asked = template(name)
        log = directory or directory_of(config)
        found = Queries(log, since, until or wall()).run(asked, params)
    _TELLERS[form](found)
    if not any((log / part).exists() for part in (NDJSON, PARQUET)):
        click.echo(f"{log} holds no event at all: is it the log of the sidecar that you mean?", err=True)
    if found.torn:
        click.echo(f"{found.torn} unreadable lines were left out: a writer was killed", err=True)


def directory_of(config: Path) -> Path:
    """Where the event log of these settings is; tells their faults and ends."""
    with settings_faults():
        return events(config, os.environ)[1]


def _tell_list(form: str) -> None:
    if form == "json":
        tell_json([{"name": it.name, "about": it.about, "params": it.params} for it in templates().values()])
        return
    tell_table(
        ("QUERY", "PARAMETERS", "ANSWERS"),
        ((it.name, " ".join(map(_param, it.params)), it.about) for it in templates().values()),
    )


def _param(param: Any) -> str:
    return param.name if param.default is None else f"{param.name}={param.default}"


def _tell_table(found: Result) -> None:
    tell_table(
        tuple(name.upper() for name in found.columns),
        (tuple(f"{it:.6g}" if isinstance(it, float) else it for it in row) for row in found.rows),
    )


def _tell_json(found: Result) -> None:
    tell_json([dict(zip(found.columns, row, strict=True)) for row in found.rows])


def _tell_csv(found: Result) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(found.columns)
    writer.writerows(found.rows)


_TELLERS: dict[str, Callable[[Result], None]] = {
    "table": _tell_table,
    "json": _tell_json,
    "csv": _tell_csv,
}
