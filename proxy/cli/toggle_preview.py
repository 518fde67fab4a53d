"""How a preview is shown."""

from typing import Any

import click

from proxy.cli.common import tell_table
from proxy.cli.toggle_words import shown

_ASPECTS = {
    "policy": "policy",
    "arm": "arm",
    "level": "best level",
    "sources": "sources",
    "alpha": "alpha",
    "exposed": "exposed or not",
}


def tell_preview(found: dict[str, Any], *, done: bool = False) -> None:
    """`done`: it is about to be."""
    sampled = found["replayed"] < found["requests"]
    plural = "" if found["requests"] == 1 else "s"
    click.echo(
        f"{found['requests']} request{plural} of the last {found['span_s']:.0f} s decided again"
        + (f", by a sample of {found['replayed']}" if sampled else "")
    )
    changed = found["changed"]
    parts = ", ".join(f"{word} {changed[name]}" for name, word in _ASPECTS.items() if changed[name])
    click.echo(
        f"{changed['users']} of {found['users']} users would get something else{parts and ': '}{parts}"
    )
    click.echo(f"exposed users: {found['exposed_before']} now, {found['exposed_after']} then")
    if found["moves"]:
        click.echo()
        tell_table(
            ("REQUESTS", "USERS", "FROM", "TO"),
            (
                (it["requests"], it["users"], _served(it["before"]), _served(it["after"]))
                for it in found["moves"]
            ),
        )
        if found["more_moves"]:
            click.echo(f"and {found['more_moves']} more ways, of fewer requests")
    click.echo()
    tell_table(
        ("UPSTREAM", "CALLS/S", "BUSIEST 10 S", "HAS SHOWN", "AT MOST", "VERDICT"),
        (
            (
                it["upstream"],
                _from_to(it["before_per_s"], it["after_per_s"]),
                _from_to(it["busiest_before_per_s"], it["busiest_after_per_s"]),
                _rate(it["shown_per_s"]),
                _rate(it["limit_per_s"]),
                it["verdict"],
            )
            for it in found["upstreams"]
        ),
    )
    if found["cache_missed"] is not None:
        click.echo(f"of reads through the cache {100 * found['cache_missed']:.3g} % went on to a source")
    click.echo()
    for said in found["says"]:
        click.echo(said)
    click.echo(f"verdict: {found['verdict']}" + ("" if done else "; nothing was changed"))


def _served(it: dict[str, Any]) -> str:
    sources = "+".join(it["sources"]) or "nobody"
    alpha = f" at {shown(it['alpha'])}" if len(it["sources"]) > 1 else ""
    arm = "" if it["arm"] == "none" else f", arm {it['arm']}"
    return f"{it['policy']} {it['level']} from {sources}{alpha}{arm}"


def _from_to(before: float, after: float) -> str:
    return _rate(before) if before == after else f"{_rate(before)} → {_rate(after)}"


def _rate(per_s: float | None) -> str:
    if per_s is None:
        return "-"
    return f"{per_s:.4g}" if per_s < 1_000 else f"{per_s:.0f}"  # never 2.5e+05
