"""`fusebox postmortem`: all that tells of an incident, in one zip.

What a running sidecar knows comes from its API, everything else from files; whatever cannot be had is named
in the manifest with the reason, and the rest is there all the same.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from proxy.cli.client import Admin, remote
from proxy.cli.common import HELP, config_option, faults, settings_faults, tell_json
from proxy.cli.postmortem_kit import Kit
from proxy.cli.postmortem_plots import drawn
from proxy.cli.postmortem_text import Incident, report
from proxy.cli.query import Moment, directory_option
from proxy.clock import rfc3339, wall
from proxy.core.transitions import ROLLBACK
from proxy.errors import FuseboxError, SettingsError
from proxy.eventlog.query import Queries
from proxy.eventlog.templates import template, templates
from proxy.settings import events, state_directory

_ASKED = {
    "status": "/v1/status",
    "rollback": "/v1/rollback",
    "triggers": "/v1/triggers",
    "breakers": "/v1/breakers",
    "toggles": "/v1/toggles",
}
"""What a running sidecar is asked, by the name of the part."""
_ACTIONS = ("kill.", "toggles.", "breaker.", "rollback.", "drill.", "settings.", "sidecar.", "override.")
"""Of the audit log, what operators and the sidecar did; actions of users are theirs."""
_STATE = ("kill.json", "toggles.json", "rollback.json")
_PAGE = "500"
_PAGES = 10
_STEPS = 120  # of the plots, about

_ROLLED = (("ROLLED_BACK", "MANUAL_OVERRIDE"), ("DEGRADED",))
"""States whose beginning before and after are compared by, the best first."""


@click.command(context_settings=HELP)
@click.option(
    "--since", type=Moment(), default="2h", show_default=True, help="From when: a time, or so long ago."
)
@click.option("--until", type=Moment(), help="Until when, not included.  [default: now]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The new file.  [default: postmortem-TIME.zip]",
)
@directory_option
@config_option
@remote
def postmortem(
    api: Admin,
    since: float,
    until: float | None,
    out: Path | None,
    directory: Path | None,
    config: Path,
    *,
    as_json: bool,
) -> None:
    """Write what tells of an incident into one zip.

    Timeline, history of toggles, triggers, results of the queries, samples of events, plots, and a report
    to go on from. Without a running sidecar it is made of files alone; manifest.json says what is missing.
    """
    kit = Kit(since, until or wall())
    file = out or Path(f"postmortem-{rfc3339(kit.until)[:19].replace('-', '').replace(':', '')}Z.zip")
    _ask(kit, api)
    place = directory or _told(kit, "queries", config)
    _copy_state(kit, config)
    if place is not None:
        _query(kit, place)
    _tell(kit, config, place)
    with faults():
        kit.write(file)
    if as_json:
        tell_json({"file": str(file), "parts": kit.names, "missing": kit.missing})
        return
    click.echo(f"{file}: {len(kit.names)} parts")
    for name, why in kit.missing.items():
        click.echo(f"missing: {name}: {why}", err=True)


def _ask(kit: Kit, api: Admin) -> None:
    """What the running sidecar says."""
    for name, path in _ASKED.items():
        try:
            kit.add_json(f"now/{name}.json", f"GET {path} when this was made", api.call("GET", path))
        except click.ClickException as error:
            kit.lacks(f"now/{name}.json", error.message)
            if name == "status":  # so it would be with the others
                return
    window = {"since": rfc3339(kit.since), "until": rfc3339(kit.until)}
    try:
        history = list(_pages(api, "/v1/toggles/history", "versions", {}))
        kit.add_json("toggles_history.json", "versions of the toggles, the newest first", history)
        entries: list[dict[str, Any]] = []
        for action in _ACTIONS:
            entries += _pages(api, "/v1/audit", "entries", window | {"action": action})
        kit.add_json("audit.json", "what operators and the sidecar did, from the audit log", entries)
    except click.ClickException as error:
        kit.lacks("toggles_history.json, audit.json", error.message)


def _pages(api: Admin, path: str, field: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    cursor = ""
    for _ in range(_PAGES):
        page = api.call("GET", path, query={**query, "cursor": cursor, "limit": _PAGE})
        yield from page[field]
        cursor = page["next"] or ""
        if not cursor:
            return


def _told(kit: Kit, name: str, config: Path) -> Path | None:
    """The directory of the event log, None where there is none."""
    try:
        return events(config, os.environ)[1]
    except SettingsError as error:
        kit.lacks(name, str(error))
        return None


def _copy_state(kit: Kit, config: Path) -> None:
    """What would hold after a restart; tokens and keys stay where they are."""
    with settings_faults():
        state = state_directory(config, os.environ)
    for name in _STATE:
        try:
            kit.add(f"state/{name}", "as the state directory has it", (state / name).read_bytes())
        except OSError as error:
            kit.lacks(f"state/{name}", f"{state / name}: {error.strerror}")


def _query(kit: Kit, directory: Path) -> None:
    """Results of all queries, samples, plots."""
    try:
        asked = Queries(directory, kit.since, kit.until)
    except FuseboxError as error:
        kit.lacks("queries", str(error))
        return
    step_s = max(1, round((kit.until - kit.since) / _STEPS))
    given = {
        "health": {"step_s": str(step_s)},
        "traffic": {"step_s": str(step_s)},
        "answers": {"worst": "1"},
        "triggers": {},
    }
    moves = _rows(asked, "triggers", {})
    rolled = _rolled(moves)
    if rolled is not None:
        given["efficacy"] = {"rollback_time": rfc3339(rolled["timestamp_ms"] / 1000)}
    for name, query in templates().items():
        if name == "efficacy" and rolled is None:
            kit.lacks("queries/efficacy.json", "no rollback between the two times")
            continue
        try:
            kit.add_json(f"queries/{name}.json", query.about, _rows(asked, name, given.get(name, {})))
        except FuseboxError as error:
            kit.lacks(f"queries/{name}.json", str(error))
    kit.add_json("samples/answers.json", "the latest answers, good and bad", _rows(asked, "answers", {}))
    try:
        for name, picture in drawn(kit.read("queries/health.json") or [], moves, step_s).items():
            kit.add(f"plots/{name}.png", f"{name} in steps of {step_s} s; red: the rollback moved", picture)
    except FuseboxError as error:
        kit.lacks("plots", str(error))


def _rolled(moves: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The first move that took something back."""
    of_rollback = [it for it in moves if it["subject"] == ROLLBACK]
    found = (it for states in _ROLLED for it in of_rollback if it["state_after"] in states)
    return next(found, None)


def _rows(asked: Queries, name: str, given: Mapping[str, str]) -> Sequence[dict[str, Any]]:
    found = asked.run(template(name), given)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def _tell(kit: Kit, config: Path, directory: Path | None) -> None:
    """The timeline and the report, made of all the others."""
    incident = Incident.of(kit)
    kit.add_json("timeline.json", "all that changed, in its order", incident.timeline)
    kit.add("timeline.txt", "the same, to read", incident.lines().encode())
    kit.add(
        "report.md", "to go on from: what is known stands there", report(incident, config, directory).encode()
    )
