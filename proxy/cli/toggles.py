"""`toggles` and `flags`: read, changed, taken back and tried out on a running sidecar."""

from pathlib import Path
from typing import Any

import click
import orjson

from proxy.cli.client import Admin, remote
from proxy.cli.common import HELP, tell_json, tell_table, to_second
from proxy.cli.toggle_changing import Changing, changing
from proxy.cli.toggle_preview import tell_preview
from proxy.cli.toggle_words import assigned, may_be, move, returns, rule_words, shown, toggle_values
from proxy.core.toggles import BASELINES, BY_NAME

SHOWN_RULES = 20
_PAGE = 100


def _rules(value: Path) -> list[Any]:
    """The list in a file, or the one under `rules` of a toggles document."""
    try:
        found = orjson.loads(value.read_bytes())
    except OSError as error:
        raise click.BadParameter(f"{value}: {error.strerror or error}") from error
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(f"{value} is no JSON: {error}") from error
    rules = found.get("rules") if isinstance(found, dict) else found
    if isinstance(rules, list):
        return rules
    raise click.BadParameter(f"{value} should hold a list of rules, each with scope and toggles")


_rules_option = click.option(
    "--rules",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Scoped rules to have instead of the present ones, as a JSON list.",
)
_values_argument = click.argument("values", nargs=-1, metavar="[NAME=VALUE]...", callback=toggle_values)


@click.group(context_settings=HELP)
def toggles() -> None:
    """What everybody gets: look, change, take back, try out.

    docs/toggles_spec.md describes the twelve toggles.
    """


@toggles.command("get")
@click.argument("name", required=False, type=click.Choice(list(BY_NAME)), metavar="[NAME]")
@remote
def get_(api: Admin, name: str | None, *, as_json: bool) -> None:
    """Show what is in force; with a NAME that value alone."""
    answer = api.call("GET", "/v1/toggles")
    if name is not None:
        answer = answer["toggles"][name]
    if as_json:
        tell_json(answer)
    elif name is not None:
        click.echo(shown(answer))
    else:
        _tell(answer)


@toggles.command("set")
@_values_argument
@_rules_option
@changing
def set_(change: Changing, values: dict[str, Any], rules: Path | None) -> None:
    """Change toggles.

    All of them at once or none, effective with the next request. Values are typed like
    exposure_percent=50 policy_mode=null region_scope=eu,us
    """
    body = _wanted(values, rules)
    if not body:
        raise click.UsageError("say what to change, like  fusebox toggles set exposure_percent=50")
    change.make("PATCH", "/v1/toggles", body)


@toggles.command()
@click.argument("name", type=click.Choice(list(BASELINES)))
@changing
def baseline(change: Changing, name: str) -> None:
    """Set all that a baseline names.

    What it does not name stays as it is.
    """
    change.make("POST", f"/v1/toggles/baselines/{name}", {})


@toggles.command()
@click.argument("version", type=click.IntRange(min=1))
@changing(ttl=False)
def revert(change: Changing, version: int) -> None:
    """Go back to how all was at a version.

    `fusebox toggles history` lists them. It becomes a new version. To take back the newest change,
    revert to the version before it.
    """
    change.make("POST", f"/v1/toggles/revert/{version}", {})


@toggles.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100_000), metavar="N")
@remote
def history(api: Admin, limit: int, *, as_json: bool) -> None:
    """Show the versions, the newest first: who changed what, when and why."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while len(found) < limit:
        page = {"limit": str(min(limit - len(found), _PAGE)), "cursor": cursor}
        answer = api.call("GET", "/v1/toggles/history", query=page)
        found += answer["versions"]
        cursor = answer["next"] or ""
        if not cursor:
            break
    if as_json:
        tell_json({"versions": found, "next": cursor or None})
        return
    tell_table(
        ("VERSION", "AT", "BY", "KIND", "CHANGED", "RETURNS", "REASON"),
        (
            (
                it["version"],
                to_second(it["at"]),
                it["by"],
                it["kind"],
                "; ".join(f"{name} {move(name, **diff)}" for name, diff in it["diff"].items()),
                to_second(it["expires_at"]),
                " ".join(str(it["reason"]).split()),
            )
            for it in found
        ),
    )
    if cursor:
        click.echo(f"there are more: --limit {2 * limit}", err=True)


@toggles.command()
@_values_argument
@_rules_option
@click.option("--baseline", type=click.Choice(list(BASELINES)), help="Try this baseline instead.")
@click.option("--revert", type=click.IntRange(min=1), metavar="VERSION", help="Try going back to it instead.")
@remote
def preview(
    api: Admin,
    values: dict[str, Any],
    rules: Path | None,
    baseline: str | None,
    revert: int | None,
    *,
    as_json: bool,
) -> None:
    """Tell what a change would do, and change nothing.

    The requests of the last minutes are decided again: who would get something else, and which
    upstream more calls than it has shown that it can take.
    """
    instead: dict[str, Any] = {}
    if baseline is not None:
        instead["baseline"] = baseline
    if revert is not None:
        instead["revert"] = revert
    asked = _wanted(values, rules)
    if len(instead) + bool(asked) != 1:
        raise click.UsageError(
            "say what to try: toggles like exposure_percent=50, --rules, or else --baseline or --revert"
        )
    answer = api.call("POST", "/v1/toggles/preview", asked | instead)
    if as_json:
        tell_json(answer)
    else:
        tell_preview(answer)


@click.group(context_settings=HELP)
def flags() -> None:
    """Flags of routes: what is off is refused with 503."""


@flags.command("get")
@remote
def get_flags(api: Admin, *, as_json: bool) -> None:
    """Show every flag."""
    answer = api.call("GET", "/v1/flags")
    if as_json:
        tell_json(answer)
    else:
        back = returns(answer)
        states = ((name, "on" if on else "OFF") for name, on in answer["flags"].items())
        tell_table(
            ("FLAG", "STATE", "RETURNS"), ((name, on, back.get(f"flags.{name}")) for name, on in states)
        )


def _switched(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> dict[str, bool]:
    def on_or_off(_: str, text: str) -> bool:
        if text not in {"on", "off"}:
            raise ValueError("should be on or off")
        return text == "on"

    return assigned(words, on_or_off)


@flags.command("set")
@click.argument("values", nargs=-1, required=True, metavar="NAME=on|off...", callback=_switched)
@changing
def set_flags(change: Changing, values: dict[str, bool]) -> None:
    """Switch routes on and off by their flags.

    All of them at once or none, effective with the next request.
    """
    change.make("PATCH", "/v1/flags", {"flags": values})


def _wanted(values: dict[str, Any], rules: Path | None) -> dict[str, Any]:
    body: dict[str, Any] = {"toggles": values} if values else {}
    return body if rules is None else {"toggles": values, "rules": _rules(rules)}


def _tell(answer: dict[str, Any]) -> None:
    metadata = answer["metadata"]
    since = ", ".join(
        f"{word} {' '.join(str(metadata[name]).split())}"
        for word, name in (("since", "updated_at"), ("by", "updated_by"), ("because", "reason"))
        if metadata.get(name)
    )
    click.echo(f"version {answer['version']}{': ' if since else ''}{since}")
    if answer["baseline"]:
        click.echo(f"baseline {answer['baseline']}")
    if answer["over"]:
        click.echo(f"a rollback has laid over these: {answer['over']} (fusebox rollback status)")
    click.echo()
    back = returns(answer)
    tell_table(
        ("TOGGLE", "VALUE", "RETURNS", "MAY BE"),
        ((it, shown(value), back.get(it), may_be(BY_NAME[it])) for it, value in answer["toggles"].items()),
    )
    if rules := answer["rules"]:
        click.echo()
        if "rules" in back:
            click.echo(f"rules return {back['rules']}")
        tell_table(
            ("RULE", "FOR", "TOGGLES"),
            ((at, *rule_words(rule)) for at, rule in enumerate(rules[:SHOWN_RULES])),
        )
        if len(rules) > SHOWN_RULES:
            click.echo(f"and {len(rules) - SHOWN_RULES} more rules: --json shows them", err=True)
