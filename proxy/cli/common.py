"""What several commands share: help, options, output, faults as sentences instead of tracebacks."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson

from proxy.errors import FuseboxError, SettingsError

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default="config/fusebox.toml",
    envvar="FUSEBOX_CONFIG",
    show_default=True,
    show_envvar=True,
    metavar="FILE",
    help="The settings file.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="The answer as JSON.")

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class Duration(click.ParamType[float]):
    """Like `90d`: a whole number and one of s, m, h, d, w. The value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]{1,6})([smhdw])", str(value))
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 0 < seconds <= 100 * 365 * _UNITS["d"]:
            self.fail("should be like 12h or 90d: a whole number of s, m, h, d or w", param, ctx)
        return float(seconds)


def tell_json(answer: Any) -> None:
    """On stdout, for a program; dataclasses are written as objects."""
    click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def tell_table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """On stdout, for a person: columns as wide as they need be; None and nothing are shown as `-`."""
    lines = [head, *(tuple("-" if it is None or it == "" else str(it) for it in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def settings_faults(*, as_json: bool = False) -> Iterator[None]:
    """Tell every fault of the settings and exit 2: on stderr in words, or on stdout for a program."""
    try:
        yield
    except SettingsError as error:
        if as_json:
            told = [
                {"file": it.file, "path": it.path, "message": it.message, "hint": it.hint}
                for it in error.problems
            ]
            tell_json({"ok": False, "problems": told})
            raise click.exceptions.Exit(2) from error
        for problem in error.problems:
            click.echo(str(problem), err=True)
        count = len(error.problems)
        click.echo(f"{count} problem{'s' if count > 1 else ''}: nothing was done", err=True)
        raise click.exceptions.Exit(2) from error


@contextmanager
def faults() -> Iterator[None]:
    """Tell what the project itself refuses in one sentence and exit 1."""
    try:
        yield
    except FuseboxError as error:
        raise click.ClickException(str(error)) from error
