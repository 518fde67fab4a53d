"""`fusebox demo`: processes, traffic, story, view and verdict put together."""

import asyncio
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import uvloop
from rich.console import Console

from proxy.demo import view
from proxy.demo.controls import ControlError, Controls
from proxy.demo.processes import SetupError, Stack, running
from proxy.demo.seen import Seen
from proxy.demo.story import Story
from proxy.demo.traffic import Traffic
from proxy.demo.verdict import Evidence, Promise, judge
from proxy.tasks import spawn

SECONDS_MIN = 12.0
"""Shorter, a breaker has no time to open, cool down and let everyone in again."""
SECONDS_MAX = 3600.0
SETTLE_S = 15.0
"""How long writes that are not confirmed yet may go on being tried at the end."""
PLAIN_WIDTH = 140
INTERRUPTED = 130


def run_demo(port: int, seconds: float, unattended: bool) -> int:  # noqa: FBT001 - the command line's face
    """Runs the demo once; the data plane listens on `port` (0: a free one).

    Exit code 0 when every promise was kept, 1 when one was broken, 2 when it could not be set up,
    130 when interrupted. Everything it started has ended when it returns.
    """
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else PLAIN_WIDTH)
    try:
        return uvloop.run(_run(console, port, seconds, live=terminal and not unattended))
    except SetupError as error:
        print(f"the demo could not be set up: {error}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print("interrupted; everything is stopped", file=sys.stderr)
        return INTERRUPTED


async def _run(console: Console, port: int, seconds: float, *, live: bool) -> int:
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise SetupError(f"--seconds must be {SECONDS_MIN:.0f} to {SECONDS_MAX:.0f}")
    _cancelled_by_signals()
    with TemporaryDirectory(prefix="fusebox-demo-") as directory:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            console.print("starting four example upstreams and the sidecar ...")
            async with running(session, Path(directory), port, seconds) as stack:
                return await _perform(console, session, stack, seconds, live=live)


def _cancelled_by_signals() -> None:
    """The first signal cancels the running task; the next must not cut short the stopping."""
    task = asyncio.current_task()

    def interrupt() -> None:
        if task is not None and not task.cancelling():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)


async def _perform(
    console: Console, session: aiohttp.ClientSession, stack: Stack, seconds: float, *, live: bool
) -> int:
    console.print(f"open   {stack.front}/recommendations?user_id=u007&k=10", soft_wrap=True, highlight=False)
    console.print(f"admin  {stack.admin}/metrics", soft_wrap=True, highlight=False)
    seen = Seen()
    controls = Controls(session, stack)
    traffic = Traffic(session, stack.front, seen)
    story = Story(controls, traffic, seen, seconds)
    show = view.picture if live else view.lines
    background = [
        spawn(traffic.run(), "demo traffic"),
        spawn(story.watch(), "demo watcher"),
        spawn(show(console, story, seen), "demo view"),
    ]
    try:
        await story.play()
        await traffic.stop(SETTLE_S)
        transitions = await controls.transitions()
        ledger = await controls.effects("payment", "ledger")
        outbox = await controls.effects("email", "outbox")
    except ControlError as error:
        print(
            f"the demo broke off: {error}\nthe sidecar's last words:\n{stack.sidecar.last_words()}",
            file=sys.stderr,
        )
        return 1
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await traffic.stop(0)
    promises = judge(
        Evidence(
            seen=seen,
            ledger={entry["id"]: entry["key"] for entry in ledger},
            outbox={entry["id"]: entry["key"] for entry in outbox},
            asked_while_killed=story.asked_while_killed,
            transitions=transitions,
            sidecar_exit=await stack.sidecar.stop(),
        )
    )
    return _told(console, stack, seen, promises)


def _told(console: Console, stack: Stack, seen: Seen, promises: list[Promise]) -> int:
    console.print(view.summary(promises))
    if seen.held_back:
        console.print(f"{seen.held_back} requests were held back: too many under way at once")
    broken = sum(not promise.kept for promise in promises)
    if broken:
        console.print(
            f"{broken} of {len(promises)} promises broken; the sidecar's last words:", style="bold red"
        )
        print(stack.sidecar.last_words())
    return 1 if broken else 0
