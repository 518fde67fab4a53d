"""`simulate`: an incident from a file, through the engine that decides for real, at virtual time."""

from pathlib import Path
from random import Random
from typing import Any, cast

import click

from proxy.cli.common import Amount, json_option, settings_faults, tell_json, tell_table
from proxy.core.rollback.layers import Layers, Patch
from proxy.core.rollback.stages import TOGGLES, Stage
from proxy.core.routing import BUCKETS
from proxy.core.simulation.engine import simulate as run
from proxy.core.simulation.expected import unmet
from proxy.core.simulation.incident import Incident
from proxy.core.simulation.replay import Outcome, Pace
from proxy.core.toggles import Scope
from proxy.settings.incidents import load_incident

_PLOTS = (".png", ".html")


def _plot(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix not in _PLOTS:
        raise click.BadParameter(f"should end in {' or '.join(_PLOTS)}")
    return path


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option("--seed", default=1, show_default=True, type=int, metavar="N", help="Of all chance in it.")
@click.option(
    "--tick",
    default=0.25,
    show_default=True,
    type=Amount(0.05, 10),
    metavar="SECONDS",
    help="How finely time goes while something happens; 10 s at a time while nothing does.",
)
@click.option(
    "--plot",
    callback=_plot,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="Draw it, as .png or .html.",
)
@json_option
def simulate(file: Path, seed: int, tick: float, plot: Path | None, *, as_json: bool) -> None:
    """Run the incident that FILE describes through the rollback engine, at virtual time.

    Prints what it did and when, and what that was worth. Exit 1 when it is not what FILE expects.
    There are some in config/incidents.
    """
    with settings_faults(as_json=as_json):
        incident = load_incident(file)
    draw = None
    if plot is not None:
        from proxy.cli.simulate_plot import draw_with  # noqa: PLC0415 - needs an extra

        draw = draw_with()
    outcome = run(incident, Random(seed).random, Pace(tick=tick, calm=max(tick, Pace().calm)))
    missed = () if incident.expect is None else unmet(incident.expect, outcome)
    if draw is not None and plot is not None:
        draw(incident, outcome, plot)
    if as_json:
        tell_json(_document(file, seed, incident, outcome, missed))
    else:
        _tell(incident, outcome, missed)
        if plot is not None:
            click.echo(f"drawn: {plot}")
    if missed:
        raise click.exceptions.Exit(1)


def _document(
    file: Path, seed: int, incident: Incident, outcome: Outcome, missed: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "file": str(file),
        "seed": seed,
        "title": incident.title,
        "began_s": incident.began,
        "over_s": incident.over,
        "timeline": [
            {"at_s": it.at, "before": it.before, "to": it.to, "why": it.why, "layers": _words(it.layers)}
            for it in outcome.moments
        ],
        **{
            name: getattr(outcome, name)
            for name in ("final", "detected_s", "acted_s", "recovered_s", "requests", "harmed", "withheld",
                         "false", "flaps")
        },
        "expected": incident.expect is not None,
        "unmet": list(missed),
    }  # fmt: skip


def _tell(incident: Incident, outcome: Outcome, missed: tuple[str, ...]) -> None:
    click.echo(incident.title)
    if incident.about:
        click.echo(incident.about)
    if incident.began is not None:
        end = "to the end" if incident.over is None else f"to {incident.over:g} s"
        click.echo(f"broken from {incident.began:g} s {end}; {incident.seconds:g} s in all")
    click.echo()
    if outcome.moments:
        rows = [(f"{it.at:.2f}", it.before, it.to, it.why, _words(it.layers)) for it in outcome.moments]
        tell_table(("at s", "from", "to", "because", "in force"), rows)
    else:
        click.echo("nothing was done")
    click.echo()
    figures = [
        ("found after", _after(outcome.detected_s)),
        ("rolled back after", _after(outcome.acted_s)),
        ("normal again, after the end", _after(outcome.recovered_s)),
        ("requests", f"{outcome.requests:,}"),
        ("bad answers served", f"{outcome.harmed:,}"),
        ("answers held back by layers", f"{outcome.withheld:,}"),
        ("rolled back again", str(outcome.flaps)),
        ("rolled back for nothing", str(outcome.false)),
        ("at the end", outcome.final),
    ]
    for name, value in figures:
        click.echo(f"{name:<28}  {value}")
    for text in missed:
        click.echo(f"not as expected: {text}", err=True)
    if incident.expect is not None and not missed:
        click.echo("as expected")


def _after(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def _words(layers: Layers) -> str:
    """`2 for region asia, buckets 100 to 10000`."""
    return "; ".join(f"{it.stage}{_level(it)}{_scope(it.scope)}{_buckets(it)}" for it in layers)


def _level(patch: Patch) -> str:
    """Where headroom has lowered it."""
    level = patch.toggles.get("candidate_fallback_level", "A")
    usual = TOGGLES.get(cast("Stage", patch.stage), {}).get("candidate_fallback_level", "A")
    return "" if patch.exact or level == usual else f" at level {level}"


def _buckets(patch: Patch) -> str:
    whole = patch.low <= 0 and patch.high >= BUCKETS
    return "" if whole else f", buckets {patch.low} to {patch.high}"


def _scope(scope: Scope) -> str:
    parts = [f"{part} {', '.join(names)}" for part, names in scope._asdict().items() if names]
    return f" for {' and '.join(parts)}" if parts else ""
