"""The command `fusebox` and what it does here: run, check, demonstrate.

Exit codes (contract): 0 done, 1 refused or failed, 2 usage or settings that cannot be used.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from proxy import __version__
from proxy.cli.common import HELP, Amount, Main, config_option, json_option, settings_faults, tell_json

ELSEWHERE = {
    "audit": "proxy.cli.audit",
    "breaker": "proxy.cli.remote",
    "drill": "proxy.cli.drill",
    "events": "proxy.cli.events",
    "flags": "proxy.cli.toggles",
    "kill": "proxy.cli.remote",
    "override": "proxy.cli.override",
    "postmortem": "proxy.cli.postmortem",
    "query": "proxy.cli.query",
    "simulate": "proxy.cli.simulate",
    "rollback": "proxy.cli.rollback",
    "status": "proxy.cli.remote",
    "store": "proxy.cli.store",
    "toggles": "proxy.cli.toggles",
    "token": "proxy.cli.tokens",
    "triggers": "proxy.cli.rollback",
}
"""Commands by the module that holds them under their name, imported when one is asked for."""

SHELLS = ("bash", "zsh", "fish")


class Commands(Main):
    """The commands of this module and, by name, those of `ELSEWHERE`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*ELSEWHERE, *super().list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(ELSEWHERE[cmd_name]), cmd_name)
        return command


@click.group(cls=Commands, context_settings=HELP)
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
    """Run the sidecar; its log on stdout is JSON lines.

    SIGTERM drains and ends it, SIGHUP reads the settings again, SIGUSR2 replaces the workers one by
    one.
    """
    from proxy.runtime.serve import serve as run  # noqa: PLC0415 - other commands need not wait for it

    sys.exit(run(config, workers))


@main.command()
@config_option
@json_option
def check(config: Path, *, as_json: bool) -> None:
    """Tell every mistake in the settings.

    Also those in the popularity list and the toggles document that they point to. A state
    directory that cannot be used is told as a warning.
    """
    from proxy.settings import load  # noqa: PLC0415 - as above

    with settings_faults(as_json=as_json):
        found = load(config, os.environ)
    from proxy.ports import StoreError  # noqa: PLC0415 - as above
    from proxy.storage import directory  # noqa: PLC0415 - as above

    counts: dict[str, Any] = {
        "routes": len(found.routes),
        "upstreams": len(found.upstreams),
        "films": len(found.popularity),
    }
    warnings = []
    try:
        directory.try_make(found.state_directory)
    except StoreError as error:
        warnings.append(
            f"{config}: state.directory: {error}: a warning, since that may be so here and now only; "
            "whoever runs `fusebox serve` has to be able to write there"
        )
    if found.events.directory:
        try:
            directory.try_make(found.events_directory)
        except StoreError as error:
            warnings.append(f"{config}: events.directory: {error}: a warning; events would be lost")
    if as_json:
        tell_json({"ok": True, "file": str(config), "problems": [], "warnings": warnings} | counts)
    else:
        click.echo(
            f"{config}: ok ({counts['routes']} routes, {counts['upstreams']} upstreams, "
            f"{counts['films']} films in the popularity list)"
        )
        for warning in warnings:
            click.echo(warning, err=True)


@main.command()
@click.option(
    "--port", default=0, show_default="any free one", type=click.IntRange(0, 65_535), metavar="PORT"
)
@click.option(
    "--seconds",
    default=40.0,
    show_default=True,
    type=Amount(min=12, max=3600),
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


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes a shell complete our commands.

    \b
    bash:  fusebox completion bash >> ~/.bashrc
    zsh:   fusebox completion zsh >> ~/.zshrc
    fish:  fusebox completion fish > ~/.config/fish/completions/fusebox.fish
    """  # noqa: D301 - click wants the character itself
    made = get_completion_class(shell)
    if made is None:  # not for the shells above
        raise click.ClickException(f"this version of click knows no completion for {shell}")
    click.echo(made(main, {}, "fusebox", "_FUSEBOX_COMPLETE").source())
