"""`drill rollback|coverage|latency|error|recovery`: the shadow tests of the rollback, on a running sidecar.

The sidecar breaks what it is about, for requests of the drill alone; the command makes those requests.
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from proxy.cli.client import Admin, remote
from proxy.cli.common import Amount, config_option, settings_faults, tell_json, tell_table
from proxy.cli.drill_clients import Target, ask_evenly
from proxy.cli.drill_targets import elsewhere, here, ids_option, k_option, url_option, users_of
from proxy.core.drill import Answered, Criterion, Mode, Tally, during
from proxy.core.rollback.exercises import EXERCISES, Clocks, Name
from proxy.settings import load

_LOOK_S = 0.25
_CLOCKS = {field.name: field.default for field in fields(Clocks)}


def _clocks(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for word in words:
        name, seconds = word.partition("=")[::2]
        try:
            found[name] = float(seconds)
        except ValueError:
            name = ""
        if name not in _CLOCKS:
            raise click.BadParameter(f"should be like hold_s=5, one of {', '.join(_CLOCKS)}")
    return found


def command(name: Name) -> click.Command:
    """The command of one drill."""

    @click.command(
        name,
        help=f"""Drill: {EXERCISES[name].does}.

        Only requests of the drill, which this command makes, meet the fault and the rollback; real ones
        go on as ever. A kill or a real breach ends it. Prints each acceptance criterion with what was
        seen. Exit code 1 when one does not hold.
        """,
    )
    @click.option("--reason", required=True, help="Why.")
    @url_option
    @click.option("--users", default=40, show_default=True, type=click.IntRange(1, 1000), metavar="N")
    @ids_option
    @click.option(
        "--per-s",
        default=20.0,
        show_default=True,
        type=Amount(1, 200),
        metavar="N",
        help="Requests.",
    )
    @k_option
    @click.option(
        "--clock",
        "clocks",
        multiple=True,
        callback=_clocks,
        metavar="NAME=SECONDS",
        help=f"Other than {', '.join(f'{key}={value:g}' for key, value in _CLOCKS.items())}.",
    )
    @config_option
    @remote
    def drilled(
        api: Admin,
        reason: str,
        url: str | None,
        users: int,
        ids: str,
        per_s: float,
        k: int,
        clocks: dict[str, float],
        config: Path,
        *,
        as_json: bool,
    ) -> None:
        target = _target(url, k, config)
        asking = users_of(ids, users)
        begun = api.call("POST", "/v1/drills", {"name": name, "reason": reason, "clocks": clocks})
        watched = _Watched(api, begun, tell=not as_json, k=k)
        try:
            asyncio.run(watched.exercised(target, asking, per_s))
        finally:
            if not watched.over:
                api.call("DELETE", "/v1/drills", {"reason": "the command has ended before the drill"})
        _tell(target, watched, as_json=as_json)

    return drilled


def _target(url: str | None, k: int, config: Path) -> Target:
    if url is not None and urlsplit(url).path and not config.exists():
        return elsewhere(url, k)
    with settings_faults():
        return here(load(config, os.environ), url, k)


class _Watched:
    """A drill as its command sees it: what the sidecar says of it, and what its requests are answered."""

    def __init__(self, api: Admin, begun: dict[str, Any], *, tell: bool, k: int) -> None:
        self.drill = begun["drill"]
        self.states: dict[str, Tally] = {}
        """By the states of the drill's engine, in the order they came."""
        self._api = api
        self._override = begun["override"]
        self._tells = tell
        self._told = 0
        self._k = k

    @property
    def over(self) -> bool:
        return bool(self.drill["over"])

    async def exercised(self, target: Target, users: list[str], per_s: float) -> None:
        """Until it is over, which the sidecar sees to."""
        asking = ask_evenly(target, self._override, users, per_s, self._answered, lambda: self.over)
        await asyncio.gather(asking, self._followed())

    def _answered(self, one: Answered) -> None:
        state = self.drill["state"]
        tally = self.states.get(state)
        if tally is None:
            tally = self.states[state] = Tally(Mode(state, state, {}), self._k)
        tally.add(one)

    async def _followed(self) -> None:
        while not self.over:
            await asyncio.sleep(_LOOK_S)
            found = await asyncio.to_thread(self._api.call, "GET", "/v1/drills")
            if found["drill"] is None or found["drill"]["id"] != self.drill["id"]:
                raise click.ClickException("the sidecar knows nothing of this drill: was it restarted?")
            self.drill = found["drill"]
            for move in self.drill["moves"][self._told :]:
                if self._tells:
                    says = f"{move['before']} → {move['to']}: {move['reason']}"
                    click.echo(f"{move['after_s']:7.2f} s  {says}")
            self._told = len(self.drill["moves"])

    def criteria(self) -> list[Criterion]:
        return [*(Criterion(**it) for it in self.drill["criteria"]), *during(list(self.states.values()))]


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in found.items())


def _tell(target: Target, watched: _Watched, *, as_json: bool) -> None:
    criteria = watched.criteria()
    failed = sum(not it.holds for it in criteria)
    reports = [tally.report() for tally in watched.states.values()]
    if as_json:
        told = {"ok": not failed, "url": target.url, "drill": watched.drill}
        tell_json(told | {"criteria": criteria, "states": reports})
    else:
        click.echo()
        tell_table(
            ("CRITERION", "HOLDS", "SEEN", "WANTED"),
            ((it.name, "yes" if it.holds else "NO", it.seen, it.wanted) for it in criteria),
        )
        click.echo()
        tell_table(
            ("STATE", "ANSWERS", "LEVEL"),
            ((it.mode, f"{it.answered} of {it.asked}", _counts(it.levels)) for it in reports),
        )
        for it in reports:
            for fault in it.faults:
                click.echo(f"{it.mode}: {fault}")
        click.echo()
        holding = f"{len(criteria) - failed} of {len(criteria)} criteria hold"
        click.echo(f"{'NOT ok' if failed else 'ok'}: {holding}")
    if failed:
        raise click.exceptions.Exit(1)
