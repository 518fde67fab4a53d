"""The command `fusebox` and what it does here: run, check, demonstrate.

Exit codes (contract): 0 done, 1 refused or failed, 2 usage or settings that cannot be used.
"""

import os
import sys
from pathlib import Path

import click

from proxy import __version__
from proxy.cli.common import HELP, config_option, settings_faults
from proxy.cli.remote import breaker, kill, status
from proxy.cli.tokens import token
from proxy.settings import load


@click.group(context_settings=HELP)
@click.version_option(__version__, prog_name="fusebox")
def main() -> None:
    """A safety sidecar in front of a recommender and the services around it."""


@main.command()
@config_option
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Processes that carry the traffic, up to 256; about one per core. Without it one process does all.",
)
def serve(config: Path, workers: int | None) -> None:
    """Run the sidecar.

    SIGTERM drains and ends it, SIGHUP reads the settings again, SIGUSR2 replaces the workers one by
    one.
    """
    from proxy.runtime.serve import serve as run  # noqa: PLC0415 - other commands need not wait for it

    sys.exit(run(config, workers))


@main.command()
@config_option
def check(config: Path) -> None:
    """Tell every mistake in the settings.

    Also those in the popularity list and the toggles document that they point to.
    """
    with settings_faults():
        found = load(config, os.environ)
    click.echo(
        f"{config}: ok ({len(found.routes)} routes, {len(found.upstreams)} upstreams, "
        f"{len(found.popularity)} films in the popularity list)"
    )


@main.command()
@click.option(
    "--port", default=0, show_default="any free one", type=click.IntRange(0, 65_535), metavar="PORT"
)
@click.option(
    "--seconds",
    default=40.0,
    show_default=True,
    type=click.FloatRange(min=12, max=3600),
    help="How long it runs.",
)
@click.option("--unattended", is_flag=True, help="Plain lines; exit 1 when a promise breaks.")
def demo(port: int, seconds: float, unattended: bool) -> None:  # noqa: FBT001 - click's calling convention
    """Show it surviving an incident.

    Sidecar, example upstreams and traffic, all started here and ended again.
    """
    try:
        from proxy.demo import run_demo  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError as error:
        if error.name not in {"numpy", "rich"}:
            raise
        raise click.ClickException(
            f"the demo needs {error.name}: install it with  pip install 'fusebox[demo]'"
        ) from error
    sys.exit(run_demo(port, seconds, unattended))


for command in (status, kill, breaker, token):
    main.add_command(command)
