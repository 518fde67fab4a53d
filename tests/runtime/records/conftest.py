"""A sidecar with actions to record, and its log as it stands in the store."""

import asyncio
from contextlib import closing

import pytest
from click.testing import CliRunner
from fire import ACTIONS, PATIENCE_S, entries_of, make_tokens

from proxy.cli import main
from proxy.clock import monotonic
from proxy.storage.stores import open_store

SQLITE = "sqlite:///var/fusebox.db"


class Records:
    """The box of `tests/runtime` with settings for records, and hands for what the tests ask."""

    def __init__(self, box):
        self.box = box
        self.url = SQLITE
        self.write()

    def write(self, *, storage="", audit="", extra="", routes=("/payment/", "/plain/"), **deadlines):
        self.box.write(
            routes=routes,
            extra=f'[storage]\nurl = "{self.url}"\n{storage}\n[audit]\n{audit}\n{ACTIONS}\n{extra}',
            **deadlines,
        )

    async def start(self, tokens=2):
        self.tokens = make_tokens(self.box, tokens)
        self.token = self.tokens[0]
        await self.box.start()
        return self

    @property
    def database(self):
        return self.box.directory / "var" / "fusebox.db"

    @property
    def spool(self):
        return self.box.directory / "var" / "spool"

    def entries(self):
        with closing(open_store(self.url, self.box.directory, existing=True)) as store:
            return entries_of(store)

    def run(self, *words, fails=False):
        """A command on these settings, which has to succeed, or to find something; its output."""
        done = CliRunner().invoke(
            main,
            [*words, "--config", str(self.box.settings)],
            prog_name="fusebox",
            env={"FUSEBOX_TOKEN": None},
        )
        assert done.exit_code == fails, (words, done.output)
        return done.output

    def sound(self):
        """The log as the command line judges it, and its numbers."""
        self.run("audit", "verify")
        self.run("store", "check")
        found = self.entries()
        assert [it["seq"] for it in found] == list(range(len(found)))
        return found

    async def ready(self):
        """Status and document of `/readyz`."""
        return await self.box.api("GET", "/readyz")

    async def until(self, holds):
        """What `holds()` gives, once that is true."""
        until = monotonic() + PATIENCE_S
        while not (found := await holds()):
            assert monotonic() < until, (
                await self.ready(),
                [str(it)[:400] for it in self.box.lines if it["message"] != "request"][-12:],
            )
            await asyncio.sleep(0.02)
        return found

    async def troubled(self):
        """The troubles, once there are any."""

        async def holds():
            status, told = await self.ready()
            assert status == 200
            return told["troubles"]

        return await self.until(holds)

    async def recovered(self):
        async def holds():
            return not (await self.ready())[1]["troubles"]

        await self.until(holds)

    async def store_is(self, *, up):
        return await self.metric("fusebox_store_up") == up

    async def metric(self, name):
        _, page = await self.box.api("GET", "/metrics")
        [value] = [line.split()[1] for line in page.splitlines() if line.startswith(f"{name} ")]
        return float(value)


@pytest.fixture
async def records(box):
    return Records(box)
