"""What several commands share: help, options, output, faults as sentences instead of tracebacks."""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import zip_longest
from math import isnan
from pathlib import Path
from typing import Any, TextIO, cast

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


class Amount(click.FloatRange):
    """A number within a range; NaN is within none, though no comparison says so."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found: float = super().convert(value, param, ctx)
        if isnan(found):
            self.fail(f"{value} is no number", param, ctx)
        return found


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


def to_second(at: str | None) -> str | None:
    """RFC 3339 for a table: nobody reads the fraction of a second, and the row gets too long by it."""
    return at and re.sub(r"\.[0-9]+", "", at)


def tell_table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    """On stdout, for a person: columns as wide as they need be; None and nothing are shown as `-`.

    On a terminal that is too narrow cells go on below, where breaking between words is enough.
    """
    lines = [head, *(tuple("-" if it is None or it == "" else str(it) for it in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if sys.stdout.isatty():
        _narrow(widths, lines, shutil.get_terminal_size().columns - 2 * (len(widths) - 1))
    for line in lines:
        parts = [_folded(cell, width) for cell, width in zip(line, widths, strict=True)]
        for cells in zip_longest(*parts, fillvalue=""):
            click.echo(
                "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            )


def _narrow(widths: list[int], lines: list[tuple[str, ...]], room: int) -> None:
    """Make the columns fit that have most to give; all stay as they are where words are too long for that."""
    least = [
        max(len(word) for cell in column for word in cell.split()) for column in zip(*lines, strict=True)
    ]
    if sum(least) > room:
        return
    while sum(widths) > room:
        most = max(range(len(widths)), key=lambda at: widths[at] - least[at])
        widths[most] -= 1


def _folded(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False)


class Main(click.Group):
    """The outermost command. Output that could not be written is one line on stderr and exit 1,
    whichever command it was of: a full disk must not look like success.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        if sys.stdout is None:  # `>&-`: whoever says so wants the exit code
            return super().main(*args, **kwargs)
        output = _Output(sys.stdout)
        sys.stdout = cast("TextIO", output)
        try:
            return super().main(*args, **kwargs)
        except (OSError, SystemExit) as ended:
            lost = output.ended()
            if lost is None or (isinstance(ended, SystemExit) and ended.code):  # the latter has said why
                raise
            click.echo(f"fusebox: stdout cannot be written: {lost.strerror or lost}", err=True)
            sys.exit(1)


class _Output:
    """A stdout that remembers why it failed: of an OSError alone nobody can tell whose it is."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self._lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)

    def write(self, text: str) -> int:
        with self._watched():
            return self._stdout.write(text)

    def flush(self) -> None:
        with self._watched():
            self._stdout.flush()

    def ended(self) -> OSError | None:
        """What kept some of it from going out, if anything did; nothing is written after this."""
        with suppress(OSError):
            self.flush()
        if self._lost is not None:
            # The interpreter flushes once more as it ends; let that succeed, into nothing.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stdout.fileno())
            os.close(nowhere)
        return self._lost

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._lost = self._lost or error
            raise


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
