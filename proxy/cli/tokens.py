"""Tokens of the admin API, made and listed in the state directory: no running sidecar is needed."""

import errno
import os
import sys
from pathlib import Path

import click

from proxy.cli.common import HELP, config_option, faults, settings_faults
from proxy.core.roles import Role
from proxy.settings import state_directory
from proxy.storage.tokens import TokenFile

ROLES = [role.label for role in Role]


@click.group(context_settings=HELP)
def token() -> None:
    """Bearer tokens of the admin API. Changes count at once, also for a running sidecar."""


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise click.BadParameter("should be printable and not empty")
    return value.strip()


_name_option = click.option(
    "--name", required=True, callback=_name, help="Whose it is; the log names changes by it."
)


@token.command()
@click.option(
    "--role", required=True, type=click.Choice(ROLES), help="Each holds the rights of those before."
)
@_name_option
@config_option
def create(role: str, name: str, config: Path) -> None:
    """Make a token and print it, this once; its hash is kept."""
    file = _file(config)
    with faults():
        made = file.create(name, Role.named(role))
    try:
        click.echo(f"{name} is {role}; kept as a hash in {file.path}, so copy it now:", err=True)
        if sys.stdout is None:  # `>&-`; click would say nothing to nobody
            raise OSError(errno.EBADF, "stdout is closed")  # noqa: TRY301 - as if writing had found it
        click.echo(made)
    except OSError as error:
        with faults():
            file.revoke(name)
        raise click.ClickException(
            f"the token could not be shown ({error.strerror or error}), so it was revoked: "
            "nobody has seen it. Say it again where stdout can be written"
        ) from error


@token.command("list")
@config_option
def list_(config: Path) -> None:
    """Who has a token, with which role, since when."""
    with faults():
        records = _file(config).records()
    for record in records:
        click.echo(f"{record.name}\t{record.role.label}\t{record.created}")
    if not records:
        click.echo("no tokens yet: fusebox token create --role ROLE --name NAME", err=True)


@token.command()
@_name_option
@config_option
def revoke(name: str, config: Path) -> None:
    """Take a token back."""
    file = _file(config)
    with faults():
        found = file.revoke(name)
    if not found:
        raise click.ClickException(f"no token is named {name!r}: see fusebox token list")
    click.echo(f"revoked {name}")


def _file(config: Path) -> TokenFile:
    with settings_faults():
        return TokenFile(state_directory(config, os.environ) / "tokens.json")
