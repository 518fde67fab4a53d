"""What several commands share: help, the settings file, faults as sentences instead of tracebacks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

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


@contextmanager
def settings_faults() -> Iterator[None]:
    """Tell every fault of the settings on stderr and exit 2."""
    try:
        yield
    except SettingsError as error:
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
