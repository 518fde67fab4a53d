"""A sidecar with workers, and what its status says of them."""

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path

import pytest

PATIENCE_S = 20


class Crew:
    """The box of `tests/runtime`, started with workers."""

    def __init__(self, box):
        self.box = box
        self.token = box.token()

    async def start(self, workers, **settings):
        if settings:
            self.box.write(**settings)
        self.box.options = ("--workers", str(workers))
        await self.box.start()
        return self

    async def status(self):
        async with asyncio.timeout(PATIENCE_S):
            # 429: asked more often than one caller may
            while (answer := await self.box.api("GET", "/v1/status", self.token))[0] == 429:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        status, told = answer
        assert status == 200
        return told

    async def workers(self):
        return (await self.status())["workers"]

    async def until(self, holds):
        """The workers, once `holds(workers)`; each turn is a request answered."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds(workers := await self.workers()):  # noqa: ASYNC110 - other processes do it
                await asyncio.sleep(0.01)
        return workers

    async def serving(self, count, but=()):
        """The workers, once so many serve and no others are there; none of those in `but`."""
        return await self.until(
            lambda workers: (
                [it["state"] for it in workers] == ["serving"] * count
                and not {it["pid"] for it in workers} & set(but)
            )
        )

    async def pids(self):
        return [it["pid"] for it in await self.workers()]

    def signal(self, pid, number):
        os.kill(pid, number)

    def end_leftovers(self):
        """End workers that outlived a test that failed: stopped ones, which would hold the log open."""
        for line in self.box.lines:
            if re.fullmatch(r"worker \d+ started", line["message"]):
                with contextlib.suppress(OSError):
                    if b"workers.worker" in Path(f"/proc/{line['pid']}/cmdline").read_bytes():
                        os.kill(line["pid"], signal.SIGKILL)


@pytest.fixture
async def crew(box):
    made = Crew(box)
    yield made
    if box.session is not None:  # not ended by the test itself
        if box.process.returncode is None:
            box.process.kill()
        made.end_leftovers()
        await box.ended()
