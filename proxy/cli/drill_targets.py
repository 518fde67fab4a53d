"""Whom a drill asks, and on whose behalf."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from proxy.cli.client import admin_url
from proxy.cli.drill_clients import Target
from proxy.core.policy import Identity
from proxy.settings import Settings, split_address

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def _url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """What `--url` takes."""
    return None if value is None else admin_url(context, parameter, value)


url_option = click.option(
    "--url", callback=_url, metavar="URL", help="Where recommendations are.  [default: by the settings]"
)
ids_option = click.option(
    "--ids",
    default="u###",
    show_default=True,
    metavar="IDS",
    help="Whom collaborative filtering knows: u### is u001, u002 …; @FILE has one on each line.",
)
k_option = click.option(
    "--k", default=10, show_default=True, type=click.IntRange(1, 200), metavar="N", help="Films for each."
)


def users_of(ids: str, count: int) -> list[str]:
    """The users that `--ids` and `--users` name."""
    if ids.startswith("@"):
        try:
            lines = Path(ids[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{ids[1:]}: {getattr(error, 'strerror', None) or error}") from error
        found = list(dict.fromkeys(filter(None, map(str.strip, lines))))[:count]
    else:
        digits = ids.count("#")
        if not digits or "#" * digits not in ids:
            raise click.BadParameter("--ids should have #s side by side, like u###, or be @FILE")
        found = [ids.replace("#" * digits, f"{number:0{digits}}") for number in range(1, count + 1)]
    if not found or not all(user.isascii() and user.isprintable() for user in found):
        raise click.BadParameter("--ids should give at least one user, of printable ASCII")
    return found


def elsewhere(url: str | None, k: int) -> Target:
    """By `--url` alone, where settings are not at hand."""
    if url is None or not urlsplit(url).path:
        raise click.UsageError(
            "with --override say --url with its path, like http://host:8080/recommendations"
        )
    return Target(url=url, identity=Identity().user[0], k=k)


def here(settings: Settings, url: str | None, k: int) -> Target:
    """By the settings; `--url` may be of another address, or name another route."""
    paths = [route.path for route in settings.routes if route.kind == "recommend"]
    if not paths:
        raise click.ClickException("no route of the settings recommends anything")
    if url is None:
        host, port = split_address(settings.listen.address)
        host = _ANYWHERE.get(host, host)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if not urlsplit(url).path:
        url += paths[0]
    return Target(url=url, identity=settings.identity.user[0], k=k)
