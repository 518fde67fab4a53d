"""`rollback` and `triggers`: where it stands and why, and what a person orders."""

from typing import Any

import click

from proxy.cli.client import Admin, remote
from proxy.cli.common import HELP, tell_json, tell_table, to_second
from proxy.cli.rollback_words import patch_words, rollback_words, share_row, verdict_row
from proxy.cli.toggle_preview import tell_preview
from proxy.core.toggles import BASELINES

SHOWN_MOVES = 10
PREVIEW_S = 5.0
"""What an order waits for its preview; whoever rolls back is in a hurry."""


@click.group(context_settings=HELP)
def rollback() -> None:
    """Bad changes taken back: look, order, let go.

    docs/rollback_spec.md says how it decides by itself.
    """


@rollback.command()
@click.option("--limit", default=SHOWN_MOVES, show_default=True, type=click.IntRange(0, 50), metavar="N")
@remote
def status(api: Admin, limit: int, *, as_json: bool) -> None:
    """Show where it stands, why, what comes next, and its last transitions."""
    answer = api.call("GET", "/v1/rollback")
    if as_json:
        tell_json(answer)
    else:
        _tell(answer, limit)


_reason = click.option("--reason", default="", help="Why; needed unless it is a dry run.")
_dry_run = click.option("--dry-run", is_flag=True, help="Only show what it would do.")


_region, _cohort, _client = (
    click.option(
        f"--{name}", multiple=True, metavar="NAME", help=f"Only users of this {name}; may be given again."
    )
    for name in ("region", "cohort", "client")
)


@rollback.command()
@click.option(
    "--stage",
    type=click.Choice(["1", "2", "3", "emergency"]),
    default="2",
    show_default=True,
    help="With all before it; emergency is answered from memory alone.",
)
@_region
@_cohort
@_client
@_reason
@_dry_run
@remote
def start(
    api: Admin,
    stage: str,
    region: tuple[str, ...],
    cohort: tuple[str, ...],
    client: tuple[str, ...],
    reason: str,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Roll back now, until somebody releases it.

    Your toggles stay as they are: the stage lies over them, of each the stricter one holds. What it
    changes is shown.
    """
    body: dict[str, Any] = {"stage": stage}
    scope = {"region": region, "cohort": cohort, "client": client}
    body |= {name: list(names) for name, names in scope.items() if names}
    _order(api, "start", body, reason, dry_run=dry_run, as_json=as_json)


@rollback.command()
@click.argument("baseline", type=click.Choice(list(BASELINES)))
@_reason
@_dry_run
@remote
def override(api: Admin, baseline: str, reason: str, *, dry_run: bool, as_json: bool) -> None:
    """Hold a baseline until somebody releases it.

    In place of all stages, as it stands; nothing loosens or tightens it by itself.
    """
    _order(api, "override", {"baseline": baseline}, reason, dry_run=dry_run, as_json=as_json)


@rollback.command()
@_reason
@_dry_run
@remote
def release(api: Admin, reason: str, *, dry_run: bool, as_json: bool) -> None:
    """Let users out again, step by step, each step judged.

    Ends what a person has ordered, and a rollback that stays because there were too many.
    """
    _order(api, "release", {}, reason, dry_run=dry_run, as_json=as_json)


@click.command(context_settings=HELP)
@click.option("--parts", is_flag=True, help="What went wrong in each part of the traffic, breach or not.")
@remote
def triggers(api: Admin, *, parts: bool, as_json: bool) -> None:
    """Show what each trigger sees, against what it allows."""
    answer = api.call("GET", "/v1/triggers")
    if as_json:
        tell_json(answer)
        return
    if parts:
        names = list(dict.fromkeys(name for it in answer["shares"] for name in it["wrong"]))
        rows = (share_row(it, names) for it in answer["shares"])
        tell_table(("OF", "SIDE", "REQUESTS", *(it.upper() for it in names)), rows)
        return
    for it in answer["criticals"]:
        click.echo(f"critical: {it['kind']} {it['name']}: {it['detail']}")
    tell_table(
        (
            "TRIGGER",
            "OF",
            "SIDE",
            "ANSWER",
            "SEEN",
            "ALLOWED",
            "REQUESTS",
            "NEEDS",
            "NORMAL",
            "CONTROL",
            "SINCE",
        ),
        map(verdict_row, answer["verdicts"]),
    )
    if not answer["verdicts"]:
        click.echo("nothing is judged: the kill switch is thrown, or the sidecar has just been started")
    if answer["blamed"] != "all":
        click.echo(f"{answer['blamed']} explains it; the rest is well")


def _order(
    api: Admin, action: str, body: dict[str, Any], reason: str, *, dry_run: bool, as_json: bool
) -> None:
    if not (dry_run or reason.strip()):
        raise click.UsageError(f'say why:  fusebox rollback {action} … --reason "…"')
    found = None
    if dry_run or not as_json:
        try:
            found = api.call("POST", "/v1/rollback/preview", body | {"action": action}, timeout_s=PREVIEW_S)
        except click.ClickException:
            if dry_run:
                raise  # else the order itself says what is wrong, if anything
    if dry_run and found is not None:
        tell_json(found) if as_json else _tell_foreseen(found, done=False)
        return
    answer = api.call("POST", f"/v1/rollback/{action}", body | {"reason": reason})
    if as_json:
        tell_json(answer)
    else:
        if found is None:
            click.echo("no preview could be had", err=True)
        else:  # not before it is done: of an order that is refused it would read as if it had been
            _tell_foreseen(found, done=True)
        click.echo()
        _tell(answer, 1)
    if not answer["persisted"]:
        raise click.ClickException(
            "it is in force, but could not be written down: a restart forgets it. Mend the state directory; "
            "it is tried again every few seconds"
        )


def _tell_foreseen(found: dict[str, Any], *, done: bool) -> None:
    click.echo(f"{found['state_before']} → {found['state_after']}")
    rows = [(when, patch_words(it)) for when in ("before", "after") for it in found[f"layers_{when}"]]
    tell_table(("", "OVER THE TOGGLES"), rows or [("after", "nothing")])
    click.echo()
    tell_preview(found, done=done)


def _tell(answer: dict[str, Any], limit: int) -> None:
    for line in rollback_words(answer):
        click.echo(line)
    if moves := answer["moves"][:limit]:
        click.echo()
        tell_table(
            ("AT", "FROM", "TO", "BY", "OVER THE TOGGLES", "WHY"),
            (
                (
                    to_second(it["at"]),
                    it["before"],
                    it["to"],
                    it["by"],
                    it["now"] if it["applied"] else f"(watched) {it['now']}",
                    " ".join(it["reason"].split()),
                )
                for it in moves
            ),
        )
