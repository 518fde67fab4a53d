"""One worker process as its supervisor sees it, from its start to its end."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from typing import Literal, TypeAlias

from proxy.clock import monotonic
from proxy.core.policy import Film, Policy
from proxy.runtime.workers.channel import Channel
from proxy.runtime.workers.messages import Applied, Down, Drain, Listen, Listening, Statuses, Up
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.workers")

State: TypeAlias = Literal["starting", "serving", "draining", "ended"]


class Member:
    """A worker. `on_message` hears what it says, `on_news` whenever it has come a step further."""

    def __init__(
        self, number: int, on_message: Callable[["Member", Up], None], on_news: Callable[["Member"], None]
    ) -> None:
        self.number = number  # from 1
        self.pid = 0
        self.state: State = "starting"
        self.since = monotonic()  # of the state
        self.served_s = 0.0  # how long it carried traffic, once it has ended
        self.cause = ""  # how it ended
        self.doors: frozenset[int] = frozenset()  # told to listen at
        self.confirmed = False  # it has a policy
        self.sequence = 0  # confirmed: everything up to here holds
        self.heard_at = self.since
        self.popularity: tuple[Film, ...] | None = None  # sent last
        self.breakers: Statuses = {}  # told last
        self._on_message = on_message
        self._on_news = on_news
        self._killed_for = ""

    async def start(self, doors: list[list[int]], level: str) -> None:
        """Start the process, with the descriptors of all doors. OSError when that cannot be."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "proxy.runtime.workers.worker"),
                    *(str(self.number), level, str(theirs.fileno())),
                    ":".join(",".join(map(str, door)) for door in doors),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *(fd for door in doors for fd in door)),
                    start_new_session=True,  # Ctrl-C at a terminal is the supervisor's alone
                )
            except OSError:
                ours.close()
                raise
        self.pid = self._process.pid
        self._channel = await Channel.over(ours, self._heard)
        spawn(self._watch(), f"worker {self.number}")

    @property
    def carries(self) -> bool:
        """It may meet requests: it was told to listen and has not ended."""
        return self.state in ("serving", "draining") or (self.state == "starting" and bool(self.doors))

    @property
    def ended(self) -> bool:
        return self.state == "ended"

    def send(self, message: Down) -> None:
        self._channel.send(message)

    def send_frame(self, data: bytes) -> None:
        self._channel.send_frame(data)

    def knows(self, policy: Policy) -> bool:
        """Whether it has this popularity list already; from now on it has."""
        known, self.popularity = self.popularity is policy.popularity, policy.popularity
        return known

    def listen(self, doors: frozenset[int]) -> None:
        """Accept at these doors and no others."""
        if doors != self.doors:
            self.doors = doors
            self.send(Listen(doors))

    def fail(self, cause: str) -> None:
        """It never came to be."""
        self.cause = cause
        self._go("ended")

    def drain(self) -> None:
        """Take no more connections, end with the last request."""
        if self.state in ("starting", "serving"):
            self._go("draining")
            self.send(Drain())

    def kill(self, why: str) -> None:
        """End it now; `why` becomes part of the cause."""
        if self.state != "ended":
            self._killed_for = self._killed_for or why
            self._process.kill()

    def _heard(self, message: Down | Up) -> None:
        self.heard_at = monotonic()
        match message:
            case Listening() if self.state == "starting":
                self._go("serving")
            case Applied(sequence, breakers):
                self.confirmed, self.sequence, self.breakers = True, sequence, breakers
                self._on_news(self)
        self._on_message(self, message)  # type: ignore[arg-type]  # what comes up here is Up

    async def _watch(self) -> None:
        code = await self._process.wait()
        await self._channel.closed.wait()  # what it said last has been heard
        self.cause = _cause(code) + (f" by the supervisor: {self._killed_for}" if self._killed_for else "")
        self.served_s = monotonic() - self.since if self.state == "serving" else 0.0
        self._go("ended")

    def _go(self, state: State) -> None:
        self.state, self.since = state, monotonic()
        self._on_news(self)


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
