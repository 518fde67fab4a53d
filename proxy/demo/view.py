"""What the demo shows while it runs and at its end: a live picture on a terminal, plain lines elsewhere."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from proxy.clock import monotonic
from proxy.demo.seen import WINDOW_S, Recommended, Seen, percentile
from proxy.demo.story import Story
from proxy.demo.upstreams import NAMES
from proxy.demo.verdict import Promise

REFRESH_S = 0.25
LINE_S = 1.0
STATE_STYLE = {"closed": "green", "half_open": "yellow", "open": "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The numbers of the last two seconds and of the phase so far, as the view words them."""

    elapsed_s: float
    phase: str
    recommends_per_s: float
    writes_per_s: float
    refused_per_s: float
    p50_ms: float
    p99_ms: float
    fill: str
    levels: str
    sources: str
    payments: str
    breakers: dict[str, str]  # name → state, "?" when the admin API gives none
    ramps: dict[str, float]  # share of users let in


def moment(story: Story, seen: Seen) -> Moment:
    now = monotonic()
    seen.forget(now)
    kinds = [kind for _, kind, _ in seen.recent]
    seconds = [took for _, kind, took in seen.recent if kind == "recommend"]
    span = min(WINDOW_S, max(now - story.started, 0.1))
    phase = seen.phases.get(seen.phase, Recommended())
    done = sum(bool(effect.receipt) for effect in seen.payments)
    return Moment(
        elapsed_s=now - story.started,
        phase=seen.phase,
        recommends_per_s=kinds.count("recommend") / span,
        writes_per_s=kinds.count("write") / span,
        refused_per_s=kinds.count("refused") / span,
        p50_ms=percentile(seconds, 0.5) * 1000,
        p99_ms=percentile(seconds, 0.99) * 1000,
        fill=f"{phase.slots_filled / phase.slots_asked:.2%}" if phase.slots_asked else "-",
        levels=_shares(phase.levels),
        sources=_shares(phase.sources),
        payments=f"{done} of {len(seen.payments)} confirmed",
        breakers={name: str(story.breakers.get(name, {}).get("state", "?")) for name in NAMES},
        ramps={name: float(story.breakers.get(name, {}).get("ramp_share", 1.0)) for name in NAMES},
    )


def _shares(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return "  ".join(f"{name} {count / total:.0%}" for name, count in sorted(counts.items())) or "-"


async def lines(console: Console, story: Story, seen: Seen) -> None:
    """One line a second, until cancelled."""
    while True:
        await asyncio.sleep(LINE_S)
        console.print(line(moment(story, seen)), soft_wrap=True, markup=False, highlight=False)


def line(now: Moment) -> str:
    tripped = [f"{name} {state}" for name, state in now.breakers.items() if state != "closed"]
    return (
        f"{now.elapsed_s:5.1f} s  {now.phase:<25} {now.recommends_per_s:4.0f} rec/s"
        f"  p50 {now.p50_ms:4.0f} ms  p99 {now.p99_ms:4.0f} ms  fill {now.fill}  levels {now.levels}"
        f"  payments {now.payments}  breakers {', '.join(tripped) or 'all closed'}"
    )


async def picture(console: Console, story: Story, seen: Seen) -> None:
    """The live picture, until cancelled."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(drawn(moment(story, seen), story.seconds), refresh=True)
            await asyncio.sleep(REFRESH_S)


def drawn(now: Moment, seconds: float) -> RenderableType:
    numbers = Table.grid(padding=(0, 3))
    numbers.add_row("recommendations", f"{now.recommends_per_s:.0f}/s", "filled", now.fill)
    numbers.add_row("latency", f"p50 {now.p50_ms:.0f} ms  p99 {now.p99_ms:.0f} ms", "level", now.levels)
    numbers.add_row("payments", now.payments, "films from", now.sources)
    numbers.add_row("writes", f"{now.writes_per_s:.0f}/s done", "", f"{now.refused_per_s:.0f}/s not done")
    breakers = Table(box=box.SIMPLE, pad_edge=False)
    for name in now.breakers:
        breakers.add_column(name)
    breakers.add_row(*(_state(now, name) for name in now.breakers))
    bar = ProgressBar(total=seconds, completed=min(now.elapsed_s, seconds))
    title = Text(now.phase, style="bold")
    return Panel(Group(bar, Text(), numbers, breakers), title=title, subtitle=f"{now.elapsed_s:.0f} s")


def _state(now: Moment, name: str) -> Text:
    state, ramp = now.breakers[name], now.ramps[name]
    if state == "closed" and ramp < 1:
        return Text(f"closed, {ramp:.0%} let in", style="yellow")
    return Text(state, style=STATE_STYLE.get(state, ""))


def summary(promises: Sequence[Promise]) -> Table:
    table = Table(box=box.SIMPLE, title="What was promised", title_justify="left")
    table.add_column("promise")
    table.add_column("", justify="center")
    table.add_column("measured")
    for promise in promises:
        mark = Text("kept", style="green") if promise.kept else Text("BROKEN", style="bold red")
        table.add_row(Text(promise.text), mark, Text(promise.measure))
    return table
