"""`drill`: exercises on a running sidecar that touch nobody else."""

import asyncio
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from proxy.cli.client import Admin, admin_url, remote
from proxy.cli.common import HELP, config_option, faults, settings_faults, tell_json, tell_table
from proxy.cli.drill_clients import Round, Target, ask_all
from proxy.clock import monotonic
from proxy.core.drill import MODES, Criterion, Tally, across, switched_off
from proxy.core.policy import Identity
from proxy.settings import Settings, load, split_address

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_KEYS = tuple(dict.fromkeys(mode.key for mode in MODES))


@click.group(context_settings=HELP)
def drill() -> None:
    """Exercise a running sidecar.

    Nobody but the drill gets anything else than before, and nothing of it is judged.
    """


def _url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    return None if value is None else admin_url(context, parameter, value)


def _headers(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for word in words:
        key, header = word.partition("=")[::2]
        if key not in _KEYS or not header.strip() or not header.isascii() or not header.isprintable():
            raise click.BadParameter(f"should be like MODE=HEADER, MODE one of {', '.join(_KEYS)}")
        found[key] = header.strip()
    return found


@drill.command("toggles")
@click.option(
    "--url", callback=_url, metavar="URL", help="Where recommendations are.  [default: by the settings]"
)
@click.option("--users", default=20, show_default=True, type=click.IntRange(1, 1000), metavar="N")
@click.option(
    "--ids",
    default="u###",
    show_default=True,
    metavar="IDS",
    help="Whom collaborative filtering knows: u### is u001, u002 …; @FILE has one on each line.",
)
@click.option(
    "--requests",
    default=3,
    show_default=True,
    type=click.IntRange(2, 100),
    metavar="N",
    help="Of each user in each mode.",
)
@click.option(
    "--k", default=10, show_default=True, type=click.IntRange(1, 200), metavar="N", help="Films for each."
)
@click.option(
    "--seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(1, 600),
    help="It takes no longer; what it did not come to fails it.",
)
@click.option(
    "--override",
    "headers",
    multiple=True,
    callback=_headers,
    metavar="MODE=HEADER",
    help=f"Made by `fusebox override sign`, where the settings are not; MODE is one of {', '.join(_KEYS)}.",
)
@config_option
@remote
def toggles_(
    api: Admin,
    url: str | None,
    users: int,
    ids: str,
    requests: int,
    k: int,
    seconds: float,
    headers: dict[str, str],
    config: Path,
    *,
    as_json: bool,
) -> None:
    """Verify what each mode of the toggles gives to users.

    Normal, content only, collaborative only, emergency popularity, normal again: full answers, whole
    fields, really made by that mode, nobody moved, every request answered. Signed overrides set the
    modes. The kill switch is looked at, which takes a token, and not thrown. Exit code 1 when a
    criterion does not hold.
    """
    asking = Round(users=_users(ids, users), times=requests, until=monotonic() + seconds)
    criteria = _kill_switch(api)
    if headers:
        target = _elsewhere(url, k)
    else:
        with settings_faults():
            settings = load(config, os.environ)
        target = _here(settings, url, k)
        headers = _signed(settings, seconds)
    modes = [mode for mode in MODES if mode.key in headers]
    tallies = asyncio.run(ask_all(target, modes, headers, asking, clock=monotonic))
    criteria = [*(it for tally in tallies for it in tally.criteria()), *across(tallies), *criteria]
    _tell(target, tallies, criteria, as_json=as_json)


def _users(ids: str, count: int) -> list[str]:
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


def _kill_switch(api: Admin) -> list[Criterion]:
    """Nothing without a token: nobody but a viewer may look."""
    if not api.token:
        return []
    found = api.call("GET", "/v1/kill")
    if found["kill"]:
        raise click.ClickException(
            f"the kill switch is ON ({found['reason']}): no override lifts it, so there is nothing to verify"
        )
    return [switched_off(persisted=found["persisted"])]


def _elsewhere(url: str | None, k: int) -> Target:
    if url is None or not urlsplit(url).path:
        raise click.UsageError(
            "with --override say --url with its path, like http://host:8080/recommendations"
        )
    return Target(url=url, identity=Identity().user[0], k=k)


def _here(settings: Settings, url: str | None, k: int) -> Target:
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


def _signed(settings: Settings, seconds: float) -> dict[str, str]:
    """A header for each mode, in the audit log before anybody has it."""
    from proxy.cli.drill_overrides import signed  # noqa: PLC0415 - headers made elsewhere need none of it

    with faults():
        return signed(settings, seconds)


def _tell(target: Target, tallies: list[Tally], criteria: list[Criterion], *, as_json: bool) -> None:
    failed = sum(not it.holds for it in criteria)
    reports = [tally.report() for tally in tallies]
    if as_json:
        tell_json({"ok": not failed, "url": target.url, "criteria": criteria, "modes": reports})
    else:
        tell_table(
            ("MODE", "CRITERION", "HOLDS", "SEEN", "WANTED"),
            ((it.mode, it.name, "yes" if it.holds else "NO", it.seen, it.wanted) for it in criteria),
        )
        click.echo()
        tell_table(
            ("MODE", "ANSWERS", "ITEMS BY", "POLICY", "LEVEL"),
            (
                (
                    it.mode,
                    f"{it.answered} of {it.asked}",
                    _counts(it.items),
                    _counts(it.policies),
                    _counts(it.levels),
                )
                for it in reports
            ),
        )
        for it in reports:
            for fault in it.faults:
                click.echo(f"{it.mode}: {fault}")
        click.echo()
        click.echo(
            f"{'NOT ok' if failed else 'ok'}: {len(criteria) - failed} of {len(criteria)} criteria hold"
        )
    if failed:
        raise click.exceptions.Exit(1)


def _counts(found: Any) -> str:
    return ", ".join(f"{name} {n}" for name, n in found.items())
