"""Overrides of toggles for single requests, signed where the key is: no running sidecar is needed."""

import errno
import getpass
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import click

from proxy.cli.common import HELP, Duration, config_option, faults, json_option, settings_faults, tell_json
from proxy.cli.recording import spooling
from proxy.cli.toggle_words import shown, toggle_values
from proxy.clock import rfc3339, wall
from proxy.core import override as core
from proxy.core.override import MAX_NAME, Override, Overrides
from proxy.runtime.signing import signing_key
from proxy.settings import overrides, state_directory

_KEY = "signing.key"


@click.group(context_settings=HELP)
def override() -> None:
    """Toggles for single requests, for testing."""


def _name(_: click.Context, __: click.Parameter, value: str | None) -> str:
    if value is None:
        try:
            value = getpass.getuser()[:MAX_NAME]
        except (KeyError, OSError):  # nobody knows this uid by name
            value = f"uid {os.getuid()}"
    if not value.strip() or not value.isprintable() or len(value) > MAX_NAME:
        raise click.BadParameter(f"should be printable, of 1 to {MAX_NAME} characters")
    return value.strip()


@override.command()
@click.option(
    "--set",
    "toggles",
    multiple=True,
    metavar="K=V",
    callback=toggle_values,
    help="A toggle and its value, as often as needed.",
)
@click.option(
    "--ttl", type=Duration(), default="10m", show_default=True, metavar="TIME", help="How long it counts."
)
@click.option(
    "--name", callback=_name, metavar="NAME", help="Who it is for; it stands in it.  [default: your user]"
)
@click.option(
    "--explain", is_flag=True, help="It need not set anything: only to be told how answers come about."
)
@click.option("--reason", default="", help="Why, for the audit log.")
@config_option
@json_option
def sign(
    toggles: dict[str, Any],
    ttl: float,
    name: str,
    reason: str,
    config: Path,
    *,
    explain: bool,
    as_json: bool,
) -> None:
    """Print a value for the header X-Fusebox-Override, alone on the last line.

    Requests that carry it are decided with these toggles, and with X-Fusebox-Explain: 1 their answers
    tell why in X-Fusebox-Explanation. Making it is recorded first.
    """
    with settings_faults():
        allowed, directory = overrides(config, os.environ), state_directory(config, os.environ)
    _check(toggles, ttl, allowed, explain=explain)
    with faults(), spooling(directory, "override.sign", reason) as note:
        key = signing_key(allowed, directory / _KEY)
        now = int(wall())
        made = Override(
            f"o-{secrets.token_hex(6)}", name, now, now + int(ttl), tuple(sorted(toggles.items()))
        )
        until = rfc3339(made.until)
        note(made.id, {"by": name, "until": until} | toggles)
        header = core.sign(key, made)
        if sys.stdout is None:  # `>&-`; click would say nothing to nobody
            raise click.ClickException(f"it could not be shown: {os.strerror(errno.EBADF)}")
        if as_json:
            tell_json({"id": made.id, "by": name, "until": until, "toggles": toggles, "header": header})
            return
        said = " ".join(f"{each}={shown(value)}" for each, value in toggles.items()) or "sets nothing"
        more = " -H 'X-Fusebox-Explain: 1'" if explain else ""
        click.echo(
            f"{made.id}: {said}, until {until}; send it as  -H 'X-Fusebox-Override: …'{more}", err=True
        )
        click.echo(header)


def _check(toggles: dict[str, Any], ttl: float, allowed: Overrides, *, explain: bool) -> None:
    """All that settings have against it, at once."""
    if not allowed.enabled:
        raise click.ClickException("overrides are switched off: [overrides] enabled is false")
    if not toggles and not explain:
        raise click.UsageError("it would set nothing: say --set K=V, or --explain")
    found = core.faults(toggles, allowed)
    if ttl > allowed.max_ttl_s:
        found.append(f"--ttl should be at most {allowed.max_ttl_s}s by [overrides] max_ttl_s")
    if found:
        raise click.ClickException("\n  ".join(["not allowed:", *found]) if len(found) > 1 else found[0])
