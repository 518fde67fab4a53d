"""`drill`: exercises on a running sidecar that touch nobody else."""

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from proxy.cli import drill_rollback
from proxy.cli.client import Admin, remote
from proxy.cli.common import HELP, Amount, config_option, faults, settings_faults, tell_json, tell_table
from proxy.cli.drill_clients import Round, Target, ask_all
from proxy.cli.drill_targets import elsewhere, here, ids_option, k_option, url_option, users_of
from proxy.clock import monotonic
from proxy.core.drill import MODES, Criterion, Tally, across, switched_off
from proxy.core.rollback.exercises import NAMES
from proxy.settings import Settings, load

_KEYS = tuple(dict.fromkeys(mode.key for mode in MODES))


@click.group(context_settings=HELP)
def drill() -> None:
    """Exercise a running sidecar.

    Nobody but the drill gets anything else than before, and nothing of it is judged.
    """


def _headers(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for word in words:
        key, header = word.partition("=")[::2]
        if key not in _KEYS or not header.strip() or not header.isascii() or not header.isprintable():
            raise click.BadParameter(f"should be like MODE=HEADER, MODE one of {', '.join(_KEYS)}")
        found[key] = header.strip()
    return found


@drill.command("toggles")
@url_option
@click.option("--users", default=20, show_default=True, type=click.IntRange(1, 1000), metavar="N")
@ids_option
@click.option(
    "--requests",
    default=3,
    show_default=True,
    type=click.IntRange(2, 100),
    metavar="N",
    help="Of each user in each mode.",
)
@k_option
@click.option(
    "--seconds",
    default=30.0,
    show_default=True,
    type=Amount(1, 600),
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
    asking = Round(users=users_of(ids, users), times=requests, until=monotonic() + seconds)
    criteria = _kill_switch(api)
    if headers:
        target = elsewhere(url, k)
    else:
        with settings_faults():
            settings = load(config, os.environ)
        target = here(settings, url, k)
        headers = _signed(settings, seconds)
    modes = [mode for mode in MODES if mode.key in headers]
    tallies = asyncio.run(ask_all(target, modes, headers, asking, clock=monotonic))
    criteria = [*(it for tally in tallies for it in tally.criteria()), *across(tallies), *criteria]
    _tell(target, tallies, criteria, as_json=as_json)


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


for _name in NAMES:
    drill.add_command(drill_rollback.command(_name))
