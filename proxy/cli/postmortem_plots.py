"""The plots of a post-mortem: the figures of the triggers over time, with what changed state between them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from math import nan
from typing import Any

from proxy.core.transitions import ROLLBACK
from proxy.eventlog.duck import needed

_FIGURES = (
    ("requests", "requests", "a step"),
    ("avg_coverage", "coverage", "mean of the requests"),
    ("error_rate_per_1k", "failed requests", "per thousand"),
    ("p95_latency", "95th percentile of latency", "ms"),
)


def drawn(health: Sequence[dict[str, Any]], moves: Sequence[dict[str, Any]], step_s: int) -> dict[str, bytes]:
    """PNG by name, of figures in steps of so many seconds. QueryError where the library is not installed."""
    needed("matplotlib").use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - of an extra

    return {
        name: _picture(plt, curve(health, name, step_s), moves, f"{title}, {unit}")
        for name, title, unit in _FIGURES
    }


def curve(health: Sequence[dict[str, Any]], name: str, step_s: int) -> list[tuple[int, float]]:
    """Milliseconds and figures; NaN where steps had no requests: a line across would tell of some."""
    points: list[tuple[int, float]] = []
    for row in health:
        if points and row["from_ms"] - points[-1][0] > step_s * 1_500:
            points.append((points[-1][0] + step_s * 1_000, nan))
        points.append((row["from_ms"], nan if row[name] is None else row[name]))
    return points


def _picture(
    plt: Any, points: Sequence[tuple[int, float]], moves: Sequence[dict[str, Any]], title: str
) -> bytes:
    figure, axes = plt.subplots(figsize=(11, 3.5), layout="constrained")
    axes.plot([_time(at) for at, _ in points], [it for _, it in points], marker=".", linewidth=1)
    axes.set_title(title)
    axes.set_ylim(bottom=0)
    for move in moves:
        rolls = move["subject"] == ROLLBACK
        axes.axvline(_time(move["timestamp_ms"]), color="red" if rolls else "grey", linewidth=1)
        axes.annotate(
            move["state_after"],
            (_time(move["timestamp_ms"]), axes.get_ylim()[1]),
            rotation=90,
            fontsize=6,
            va="top",
        )
    out = BytesIO()
    figure.savefig(out, format="png", dpi=100, metadata={"Software": None})
    plt.close(figure)
    return out.getvalue()


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
