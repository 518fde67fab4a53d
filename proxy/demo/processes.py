"""The processes of the demo: four example upstreams and the sidecar, started, watched and stopped."""

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from proxy.clock import monotonic
from proxy.demo import settings_file
from proxy.demo.upstreams import HOST, NAMES
from proxy.errors import FuseboxError

START_S = 30.0
"""How long all processes together may take until they answer; the first start compiles the modules."""
STOP_S = 8.0
POLL_S = 0.03
LAST_WORDS = 12  # lines
_PORTS = range(20_000, 30_000)


class SetupError(FuseboxError):
    """The demo could not be set up; the text says what to do about it."""


class Child:
    """One process of ours. What it prints goes to a file, so that it can never wait for us."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(cls, name: str, arguments: Sequence[str], directory: Path) -> "Child":
        log = directory / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops all in order
            )
        return cls(name, process, log)

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def last_words(self) -> str:
        """The end of what it printed; of a long line both ends."""
        lines = self.log.read_text(errors="replace").strip().splitlines()[-LAST_WORDS:]
        short = (line if len(line) <= 400 else f"{line[:200]} … {line[-200:]}" for line in lines)
        return "\n".join(f"  {line}" for line in short) or "  (it said nothing)"

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL for who stays longer than `STOP_S`. The exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), STOP_S)
            except TimeoutError:
                self._process.kill()
        return await self._process.wait()


@dataclass(slots=True, kw_only=True)
class Stack:
    """Everything that runs, and where to find it. URLs without a slash at the end."""

    front: str
    admin: str
    upstreams: dict[str, str]
    sidecar: Child
    token: str = field(repr=False)


@asynccontextmanager
async def running(
    session: aiohttp.ClientSession, directory: Path, port: int, seconds: float
) -> AsyncIterator[Stack]:
    """Upstreams and sidecar, ready; stopped in reverse order, whatever happens.

    `SetupError` when they will not start. Port 0 is any free one.
    """
    deadline = monotonic() + START_S
    async with AsyncExitStack() as stopping:
        children = []
        for name in NAMES:
            child = await Child.start(name, ("proxy.demo.upstreams", name), directory)
            stopping.push_async_callback(child.stop)
            children.append(child)
        upstreams = {child.name: await _announced(child, deadline) for child in children}
        front, admin = f"{HOST}:{port or free_port()}", f"{HOST}:{free_port()}"
        config = settings_file.write(
            directory, front=front, admin=admin, upstreams=upstreams, seconds=seconds
        )
        token = await _token(config)
        sidecar = await Child.start("sidecar", ("proxy", "serve", "--config", str(config)), directory)
        stopping.push_async_callback(sidecar.stop)
        await _ready(session, sidecar, f"http://{admin}/readyz", deadline)
        yield Stack(
            front=f"http://{front}",
            admin=f"http://{admin}",
            upstreams=upstreams,
            sidecar=sidecar,
            token=token,
        )


def free_port() -> int:
    """A port that is free, below those the system deals out by itself: nobody gets it by chance meanwhile."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise SetupError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1} on {HOST}: end what holds them")


async def _announced(child: Child, deadline: float) -> str:
    """The upstream's URL, once it has printed that it listens."""
    marker = f"{child.name} listening on "
    while True:
        for line in child.log.read_text(errors="replace").splitlines():
            if line.startswith(marker):
                return f"http://{line.removeprefix(marker)}"
        await _still_starting(child, deadline)


async def _ready(session: aiohttp.ClientSession, child: Child, url: str, deadline: float) -> None:
    while True:
        try:
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=2.0)) as response:
                if response.status == 200:
                    return
        except (aiohttp.ClientError, TimeoutError):
            pass  # not listening yet
        await _still_starting(child, deadline)


async def _still_starting(child: Child, deadline: float) -> None:
    if child.exit_code is not None:
        raise SetupError(f"{child.name} ended with exit code {child.exit_code}:\n{child.last_words()}")
    if monotonic() > deadline:
        raise SetupError(f"{child.name} was not ready within {START_S:.0f} s:\n{child.last_words()}")
    await asyncio.sleep(POLL_S)


async def _token(config: Path) -> str:
    """A token that may throw the kill switch, made the way an operator makes one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *("proxy", "token", "create", "--role", "commander", "--name", "demo", "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NO_COLOR": "1"},
    )
    output, errors = await process.communicate()
    if process.returncode != 0:
        raise SetupError(f"no token could be made:\n{errors.decode(errors='replace')}")
    return output.decode().strip().splitlines()[-1]
