"""Commands that talk to a running sidecar: status, kill, breaker."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any
from urllib.parse import quote

import click
import orjson

from proxy.cli.client import Admin, admin_url, plain_token
from proxy.cli.common import HELP

_OPTIONS = (
    click.option(
        "--admin",
        default="http://127.0.0.1:8081",
        envvar="FUSEBOX_ADMIN",
        callback=admin_url,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="The admin API, by the address in [admin].",
    ),
    click.option(
        "--token",
        default="",
        envvar="FUSEBOX_TOKEN",
        callback=plain_token,
        show_envvar=True,
        metavar="TOKEN",
        help="From `fusebox token create`.",
    ),
    click.option("--json", "as_json", is_flag=True, help="The answer as JSON."),
)


def _remote(work: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the admin API; it is called with an `Admin`."""

    @wraps(work)
    def called(*, admin: str, token: str, **rest: Any) -> None:
        work(api=Admin(url=admin, token=token), **rest)

    for option in reversed(_OPTIONS):
        called = option(called)
    return called


def _json(answer: Any) -> None:
    click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


@click.command(context_settings=HELP)
@_remote
def status(api: Admin, *, as_json: bool) -> None:
    """Show what runs.

    Kill switch, breakers, upstreams and routes.
    """
    answer = api.call("GET", "/v1/status")
    if as_json:
        _json(answer)
        return
    state = "draining" if answer["draining"] else "serving"
    click.echo(
        f"fusebox {answer['version']}, {state} for {answer['uptime_s']:.0f} s, "
        f"{answer['connections']} connections, policy {answer['policy_version']}"
    )
    _tell_kill(answer["kill"])
    if (reload := answer["reload"]) and not reload["ok"]:
        click.echo(f"the reload at {reload['at']} was refused:")
        click.echo("\n".join(f"  {problem}" for problem in reload["problems"]))
    _tell_table(
        ("UPSTREAM", "BREAKER", "SINCE", "IN FLIGHT", "QUEUED", "URL", "WHY"),
        (
            (
                name,
                _breaker_text(breaker),
                _since(breaker),
                it["inflight"],
                it["queued"],
                " ".join(it["urls"]),
                _why(breaker),
            )
            for name, it in answer["upstreams"].items()
            for breaker in (answer["breakers"].get(name),)
        ),
    )
    _tell_table(
        ("ROUTE", "PATH", "KIND", "PRIORITY", "UPSTREAMS", "FLAG"),
        (
            (
                it["name"],
                it["path"],
                it["kind"],
                it["priority"],
                " ".join(it["upstreams"]) or "-",
                f"{it['flag']} {'on' if it['on'] else 'OFF'}" if it["flag"] else "-",
            )
            for it in answer["routes"]
        ),
    )
    if workers := answer["workers"]:
        _tell_table(
            ("WORKER", "PID", "STATE", "SINCE", "CONNECTIONS", "RESTARTS", "LAST FAILURE"),
            (
                (
                    it["number"],
                    it["pid"] or "-",
                    it["state"],
                    f"{it['for_s']:.0f} s",
                    it["connections"],
                    it["restarts"],
                    it["failed"] or "-",
                )
                for it in workers
            ),
        )


@click.command(context_settings=HELP)
@click.argument("action", type=click.Choice(["on", "off", "status"]))
@click.option("--reason", default="", help="Why; needed for on and off.")
@_remote
def kill(api: Admin, action: str, reason: str, *, as_json: bool) -> None:
    """Throw or release the kill switch.

    While it is on, every recommend answer comes from memory and no recommend source is asked.
    Forwarding routes go on; their flags switch those off.
    """
    if action == "status":
        answer = api.call("GET", "/v1/kill")
    else:
        if not reason.strip():
            raise click.UsageError(f'say why:  fusebox kill {action} --reason "…"')
        answer = api.call("PUT" if action == "on" else "DELETE", "/v1/kill", {"reason": reason})
    if as_json:
        _json(answer)
    else:
        _tell_kill(answer)
    if action == "on" and not answer["persisted"]:
        raise click.ClickException(
            "the switch is ON now, but could not be written down: a restart forgets it. "
            "Mend the state directory and say it again"
        )


@click.command(context_settings=HELP)
@click.argument("name")
@click.argument("action", type=click.Choice(["open", "close", "auto"]))
@click.option("--reason", required=True, help="Why.")
@_remote
def breaker(api: Admin, name: str, action: str, reason: str, *, as_json: bool) -> None:
    """Hold a breaker open or closed, or let go.

    NAME is its upstream; with auto it goes by its own judgement again.
    """
    answer = api.call("POST", f"/v1/breakers/{quote(name, safe='')}/{action}", {"reason": reason})
    if as_json:
        _json(answer)
    else:
        click.echo(f"{name}: {_breaker_text(answer)}")


def _tell_kill(kill: dict[str, Any]) -> None:
    since = f", {kill['at']} by {kill['by']}: {kill['reason']}" if kill["at"] else ""
    forgetful = "" if kill["persisted"] else " (a restart forgets this)"
    click.echo(f"kill switch {'ON' if kill['kill'] else 'off'}{since}{forgetful}")


def _breaker_text(breaker: dict[str, Any] | None) -> str:
    if breaker is None:
        return "-"
    text = str(breaker["state"]).replace("_", "-")
    if breaker["forced"]:
        text += " by hand"
    elif breaker["state"] == "closed" and breaker["ramp_share"] < 1:
        text += f", letting users back in: {int(100 * breaker['ramp_share'])} %"
    return f"{text} (dry run)" if breaker["dry_run"] else text


def _since(breaker: dict[str, Any] | None) -> str:
    if breaker is None or not breaker["last"]:
        return "-"
    seconds = int(breaker["last"]["ago_s"])
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _why(breaker: dict[str, Any] | None) -> str:
    """What moved it last and, when that was a step of recovery, what had tripped it."""
    if breaker is None or not (last := breaker["last"]):
        return "-"
    text = str(last["reason"])
    if last["to"] != "open" and (trip := breaker["last_trip"]):
        text += f"; was opened at {trip['at']}: {trip['reason']}"
    return " ".join(text.split())  # a reason may have several lines, a row has one


def _tell_table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    lines = [head, *(tuple(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    click.echo()
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
