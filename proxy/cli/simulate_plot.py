"""A run of `simulate`, drawn: what went wrong, what users got of it, and who was let in when."""

import base64
from collections.abc import Callable
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import click

from proxy.core.simulation.incident import Incident
from proxy.core.simulation.replay import Outcome

_STATES = {
    "NORMAL": "#ffffff",
    "DEGRADED": "#fff3c4",
    "ROLLBACK_PENDING": "#ffd7a8",
    "ROLLED_BACK": "#f6c1c1",
    "RECOVERY_VERIFY": "#cfe8d5",
    "MANUAL_OVERRIDE": "#d5d9f0",
}
Draw = Callable[[Incident, Outcome, Path], None]


def draw_with() -> Draw:
    """What draws; a sentence and exit 1 where the library is not installed, before anything is computed."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra

        mpl.use("Agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"--plot needs {error.name}: install it with  pip install 'fusebox[analytics]'"
        ) from error

    def draw(incident: Incident, outcome: Outcome, path: Path) -> None:
        picture = _picture(plt, incident, outcome)
        try:
            path.write_bytes(picture if path.suffix == ".png" else _page(incident, picture))
        except OSError as error:
            raise click.ClickException(f"{path} cannot be written: {error.strerror or error}") from error

    return draw


def _picture(plt: Any, incident: Incident, outcome: Outcome) -> bytes:
    samples = outcome.samples
    at = [it.at for it in samples]
    figure, (wrong, served) = plt.subplots(2, sharex=True, figsize=(11, 6), layout="constrained")
    figure.suptitle(incident.title)
    for name in ("failed", "late", "short"):
        wrong.plot(at, [100 * getattr(it, name) for it in samples], label=name, linewidth=1)
    wrong.set_ylabel("judged, % of requests")
    for name, label in (("harmed", "bad answers"), ("withheld", "held back by layers")):
        served.plot(at, [100 * getattr(it, name) for it in samples], label=label, linewidth=1)
    served.set_ylabel("served, % of requests")
    served.set_xlabel("seconds")
    ends = [*(it.at for it in outcome.moments), incident.seconds]
    states = ["NORMAL", *(it.to for it in outcome.moments)]
    for axes in (wrong, served):
        axes.set_ylim(bottom=0)
        for begins, until, state in zip([0.0, *ends], ends, states, strict=False):
            axes.axvspan(begins, until, color=_STATES[state], zorder=0, linewidth=0)
        for edge in (incident.began, incident.over):
            if edge is not None:
                axes.axvline(edge, color="black", linestyle=":", linewidth=1)
    seen = dict.fromkeys(states)
    spans = [plt.Rectangle((0, 0), 1, 1, color=_STATES[state], ec="grey") for state in seen]
    figure.legend(spans, list(seen), loc="outside lower center", ncols=len(seen), frameon=False)
    wrong.legend(loc="upper right")
    served.legend(loc="upper right")
    out = BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return out.getvalue()


def _page(incident: Incident, picture: bytes) -> bytes:
    """One file with nothing outside it."""
    image = base64.b64encode(picture).decode()
    title = escape(incident.title)
    return (
        f'<!doctype html><meta charset="utf-8"><title>{title}</title>'
        f'<body style="font-family:sans-serif"><p>{escape(incident.about)}</p>'
        f'<img alt="{title}" style="max-width:100%" src="data:image/png;base64,{image}">\n'
    ).encode()
