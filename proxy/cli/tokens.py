"""Tokens of the admin API, made and listed in the state directory: no running sidecar is needed."""

import errno
import os
import sys
from pathlib import Path

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
from proxy.cli.recording import recorder
from proxy.clock import wall
from proxy.core.roles import Role
from proxy.settings import state_directory
from proxy.storage.token_use import last_used
from proxy.storage.tokens import TokenFile, TokenRecord

ROLES = [role.label for role in Role]


@click.group(context_settings=HELP)
def token() -> None:
    """Bearer tokens of the admin API. Changes count at once, also for a running sidecar."""


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise click.BadParameter("should be printable and not empty")
    if value.strip().startswith("oidc:"):
        raise click.BadParameter("oidc: is how the log calls people that the issuer in [oidc] vouches for")
    return value.strip()


_name_option = click.option(
    "--name", required=True, callback=_name, help="Whose it is; the log names changes by it."
)
_reason_option = click.option("--reason", default="", help="Why, for the audit log.")


@token.command()
@click.option(
    "--role", required=True, type=click.Choice(ROLES), help="Each holds the rights of those before."
)
@_name_option
@click.option(
    "--ttl",
    type=Duration(),
    metavar="TIME",
    help="How long it counts, like 12h or 90d.  [default: until revoked]",
)
@_reason_option
@config_option
@json_option
def create(role: str, name: str, ttl: float | None, reason: str, config: Path, *, as_json: bool) -> None:
    """Make a token and print it, this once; its hash is kept."""
    directory = _state(config)
    file = TokenFile(directory / "tokens.json")
    with faults(), recorder(directory, "token.create", reason) as record:
        made = file.create(name, Role.named(role), ttl_s=ttl, record=record)
        expires = next(it.expires for it in file.records() if it.name == name)
        try:
            if as_json:
                tell_json({"name": name, "role": role, "expires": expires, "token": made})
            else:
                until = f" until {expires}" if expires else ""
                click.echo(
                    f"{name} is {role}{until}; kept as a hash in {file.path}, so copy it now:", err=True
                )
                if sys.stdout is None:  # `>&-`; click would say nothing to nobody
                    raise OSError(errno.EBADF, "stdout is closed")  # noqa: TRY301 - as if writing had found it
                click.echo(made)
        except OSError as error:
            file.withdraw(name)
            raise click.ClickException(
                f"the token could not be shown ({error.strerror or error}), so it was revoked: "
                "nobody has seen it. Say it again where stdout can be written"
            ) from error


@token.command("list")
@config_option
@json_option
def list_(config: Path, *, as_json: bool) -> None:
    """Who has a token, with which role; since when, until when, last used when."""
    directory = _state(config)
    with faults():
        records = TokenFile(directory / "tokens.json").records()
    used = last_used(directory / "token_use.json")
    rows = [
        {
            "name": it.name,
            "role": it.role.label,
            "state": _state_of(it),
            "created": it.created,
            "expires": it.expires,
            "revoked": it.revoked,
            "last_used": used.get(it.name, ""),
        }
        for it in records
    ]
    if as_json:
        tell_json(rows)
    elif rows:
        head = ("NAME", "ROLE", "STATE", "CREATED", "EXPIRES", "REVOKED", "LAST USED")
        tell_table(head, (tuple(row.values()) for row in rows))
    else:
        click.echo("no tokens yet: fusebox token create --role ROLE --name NAME", err=True)


@token.command()
@_name_option
@_reason_option
@config_option
@json_option
def revoke(name: str, reason: str, config: Path, *, as_json: bool) -> None:
    """Take a token back.

    Its name stays taken, so that it goes on to mean what it meant in the log.
    """
    directory = _state(config)
    file = TokenFile(directory / "tokens.json")
    with faults(), recorder(directory, "token.revoke", reason) as record:
        found = file.revoke(name, record=record)
    if not found:
        raise click.ClickException(f"no token is named {name!r}, or it is revoked: see fusebox token list")
    if as_json:
        tell_json({"name": name, "revoked": True})
    else:
        click.echo(f"revoked {name}")


def _state_of(record: TokenRecord) -> str:
    return record.refused(wall()) or "valid"


def _state(config: Path) -> Path:
    with settings_faults():
        return state_directory(config, os.environ)
