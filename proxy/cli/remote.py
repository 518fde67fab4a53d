"""Commands that talk to a running sidecar: status, kill, breaker."""

from typing import Any
from urllib.parse import quote

import click

from proxy.cli.client import Admin, remote
from proxy.cli.common import HELP, tell_json, tell_table
from proxy.cli.rollback_words import rollback_words
from proxy.cli.toggle_words import held_words, shown, shown_at


@click.command(context_settings=HELP)
@remote
def status(api: Admin, *, as_json: bool) -> None:
    """Show what runs.

    Kill switch, troubles, breakers, upstreams, routes and workers.
    """
    answer = api.call("GET", "/v1/status")
    if as_json:
        tell_json(answer)
        return
    state = "draining" if answer["draining"] else "serving"
    click.echo(
        f"fusebox {answer['version']}, {state} for {answer['uptime_s']:.0f} s, "
        f"{answer['connections']} connections, policy {answer['policy_version']}"
    )
    _tell_kill(answer["kill"])
    _tell_toggles(answer["toggles"])
    if (reload := answer["reload"]) and not reload["ok"]:
        click.echo(f"the reload at {reload['at']} was refused:")
        click.echo("\n".join(f"  {problem}" for problem in reload["problems"]))
    if (found := answer.get("rollback")) is not None:
        for line in rollback_words(found):
            click.echo(line)
    for trouble in answer["troubles"]:
        click.echo(f"trouble: {trouble}")
    for held in answer["held"]:
        click.echo(held_words(held))
    click.echo()
    tell_table(
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
    click.echo()
    tell_table(
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
    if shadows := answer["shadows"]:
        click.echo()
        tell_table(
            (
                "SHADOW OF",
                "PERCENT",
                "TO",
                "COMPARED",
                "SAME",
                "OVERLAP",
                "RANK",
                "MS",
                "REAL MS",
                "FAILED",
                "SKIPPED",
            ),
            (_shadow_row(route, it) for route, it in shadows.items()),
        )
    if workers := answer["workers"]:
        tell_table(
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
@remote
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
        tell_json(answer)
    else:
        _tell_kill(answer)
    if action == "on" and not answer["persisted"]:
        raise click.ClickException(
            "the switch is ON now, but could not be written down: a restart forgets it. "
            "Mend the state directory; it is tried again every second, and status tells until it succeeds"
        )


@click.command(context_settings=HELP)
@click.argument("name")
@click.argument("action", type=click.Choice(["open", "close", "auto"]))
@click.option("--reason", required=True, help="Why.")
@remote
def breaker(api: Admin, name: str, action: str, reason: str, *, as_json: bool) -> None:
    """Hold a breaker open or closed, or let go.

    NAME is its upstream; with auto it goes by its own judgement again.
    """
    answer = api.call("POST", f"/v1/breakers/{quote(name, safe='')}/{action}", {"reason": reason})
    if as_json:
        tell_json(answer)
    else:
        click.echo(f"{name}: {_breaker_text(answer)}")


def _shadow_row(route: str, it: dict[str, Any]) -> tuple[object, ...]:
    results = it["results"]
    means = (it[name] for name in ("overlap", "rank_agreement", "shadow_ms", "real_ms"))
    return (
        route,
        f"{it['percent']:g}",
        it["to"] or "second plan",
        it["compared"],
        it["same"],
        *("-" if mean is None else f"{mean:.3g}" for mean in means),
        results.get("failed", 0) + results.get("timeout", 0),
        sum(count for result, count in results.items() if result.startswith("skipped_")),
    )


def _tell_toggles(toggles: dict[str, Any]) -> None:
    """What is not as usual, who wanted it so, and when it returns: an incident begins with this."""
    told = [f"{name}={shown(value)}" for name, value in toggles["changed"].items()]
    if rules := toggles["rules"]:
        told.append(shown_at("rules", rules))
    if told:
        why = " ".join(str(toggles["reason"]).split())
        click.echo(f"toggles {', '.join(told)}; last change {toggles['at']} by {toggles['by']}: {why}")
    if frozen := toggles["frozen"]:
        click.echo(f"experiment {frozen} is frozen")
    for it in toggles["reverts"]:
        click.echo(f"returns {it['at']}: {', '.join(it['names'])}")


def _tell_kill(kill: dict[str, Any]) -> None:
    since = f", {kill['at']} by {kill['by']}: {kill['reason']}" if kill["at"] else ""
    forgetful = "" if kill["persisted"] else " (a restart forgets this)"
    click.echo(f"kill switch {'ON' if kill['kill'] else 'off'}{since}{forgetful}")
    if said := kill["rollback"]:
        click.echo(f"answers come from memory all the same: {said}")


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
