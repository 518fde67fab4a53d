"""What happens in the demo, in order: one upstream hangs, breaks and returns, another loses
its answers and returns, and the kill switch is thrown and taken back.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any

from proxy.clock import monotonic
from proxy.demo.controls import ControlError, Controls
from proxy.demo.faults import Mode
from proxy.demo.seen import Seen
from proxy.demo.traffic import Traffic

RECOVERY_S = 15.0
"""How much longer than planned a phase may last for a breaker to close; the verdict says if it did."""
POLL_S = 0.1


class Phase(StrEnum):
    HEALTHY = "all healthy"
    CF_HANGS = "cf hangs"
    CF_ERRORS = "cf answers 500"
    CF_RETURNS = "cf is back"
    PAYMENT_BREAKS = "payment loses its answers"
    PAYMENT_RETURNS = "payment is back"
    KILLED = "kill switch on"
    RELEASED = "kill switch off"


SHARES: Mapping[Phase, float] = {
    Phase.HEALTHY: 0.13,
    Phase.CF_HANGS: 0.17,
    Phase.CF_ERRORS: 0.10,
    Phase.CF_RETURNS: 0.18,
    Phase.PAYMENT_BREAKS: 0.12,
    Phase.PAYMENT_RETURNS: 0.14,
    Phase.KILLED: 0.10,
    Phase.RELEASED: 0.06,
}
"""Of the whole run's time."""


class Story:
    """Plays the phases and keeps what the view wants to show of the sidecar."""

    def __init__(self, controls: Controls, traffic: Traffic, seen: Seen, seconds: float) -> None:
        self.seconds = seconds
        self.started = monotonic()
        self.breakers: Mapping[str, Mapping[str, Any]] = {}
        self.asked_while_killed: dict[str, int] = {}
        self._fresh = asyncio.Condition()
        self._controls = controls
        self._traffic = traffic
        self._seen = seen

    async def watch(self) -> None:
        """Keeps `breakers` fresh until cancelled."""
        while True:
            try:
                breakers = await self._controls.breakers()
            except ControlError:
                breakers = {}  # whether that was allowed is not the watcher's to judge
            async with self._fresh:
                self.breakers = breakers
                self._fresh.notify_all()
            await asyncio.sleep(POLL_S)

    async def play(self) -> None:
        """Once through. A phase begins before its fault does, so that no effect of it counts as earlier."""
        await self._last(Phase.HEALTHY)
        await self._last(Phase.CF_HANGS, "cf", Mode.HANG)
        await self._last(Phase.CF_ERRORS, "cf", Mode.ERROR)
        await self._last(Phase.CF_RETURNS, "cf", Mode.NONE, until=lambda: self._recovered("cf"))
        await self._last(Phase.PAYMENT_BREAKS, "payment", Mode.RESET)
        await self._last(
            Phase.PAYMENT_RETURNS, "payment", Mode.NONE, until=lambda: self._recovered("payment")
        )
        await self._kill_and_release()

    async def _last(
        self,
        phase: Phase,
        upstream: str = "",
        mode: Mode = Mode.NONE,
        until: Callable[[], bool] = lambda: True,
    ) -> None:
        """Begins `phase`, sets the fault, and lets the phase last its share of the time."""
        self._seen.begin(phase)
        if upstream:
            await self._controls.fault(upstream, mode)
        await asyncio.sleep(SHARES[phase] * self.seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOVERY_S), self._fresh:
                await self._fresh.wait_for(until)

    def _recovered(self, name: str) -> bool:
        breaker = self.breakers.get(name, {})
        return breaker.get("state") == "closed" and breaker.get("ramp_share") == 1

    async def _kill_and_release(self) -> None:
        """Counts what reaches the recommenders between the first and the last moment of the kill."""
        await self._controls.kill("demo: the kill switch needs nothing behind it")
        self._seen.begin(Phase.KILLED)
        await self._traffic.recommendations_answered()
        before = await self._asked()
        await asyncio.sleep(SHARES[Phase.KILLED] * self.seconds)
        self._seen.begin(Phase.RELEASED)  # what is sent from here on may meet either
        await self._traffic.recommendations_answered()
        after = await self._asked()
        self.asked_while_killed = {name: after[name] - before[name] for name in after}
        await self._controls.release("demo: back to normal")
        await asyncio.sleep(SHARES[Phase.RELEASED] * self.seconds)

    async def _asked(self) -> dict[str, int]:
        for name in ("cf", "content"):
            await self._controls.requests(name)  # lets it read what was cut off but still lies in its sockets
        return {name: await self._controls.requests(name) for name in ("cf", "content")}
