"""A sidecar with workers, and what its status says of them."""

import asyncio
import os

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
        status, told = await self.box.api("GET", "/v1/status", self.token)
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


@pytest.fixture
def crew(box):
    return Crew(box)
