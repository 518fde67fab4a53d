"""The store goes away under load: traffic does not notice, the kill works, and nothing is lost."""

import os
import signal
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from fire import Users, report

from proxy.clock import monotonic

STALL_S = 0.1
"""What no user may wait longer for, besides what this process and the sidecar wait for a processor."""


class Trouble:
    """Something happens to the store of `records`, and is over again."""

    outlives = True  # a sidecar that starts meets it, too

    def prepare(self, records):
        """Before the sidecar starts."""

    def begin(self, records): ...

    def end(self, records): ...

    def clean_up(self): ...


class Locked(Trouble):
    def begin(self, records):
        self.other = sqlite3.connect(records.database, isolation_level=None)
        self.other.execute("BEGIN IMMEDIATE")

    def end(self, records):
        self.other.execute("ROLLBACK")
        self.other.close()


class Small(Trouble):
    """The store lies on a file system of its own; needs root."""

    def prepare(self, records):
        if os.geteuid() != 0:
            pytest.skip("mounting a small file system needs root")
        self.place = records.box.directory / "small"
        self.place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", self.place], check=False, capture_output=True
        )
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.decode().strip()}")
        records.url = "sqlite:///small/fusebox.db"
        records.write(storage="wait_s = 0.5")

    def clean_up(self):
        subprocess.run(["umount", "-l", self.place], check=False)


class Full(Small):
    def begin(self, records):
        with pytest.raises(OSError, match="No space left"):
            (self.place / "filler").write_bytes(bytes(80 * 1024 * 1024))

    def end(self, records):
        (self.place / "filler").unlink()


class ReadOnly(Small):
    """Only for a sidecar that is not there: nothing open may be written on what becomes read-only."""

    def begin(self, records):
        subprocess.run(["mount", "-o", "remount,ro", self.place], check=True)

    def end(self, records):
        subprocess.run(["mount", "-o", "remount,rw", self.place], check=True)


class Removed(Trouble):
    outlives = False  # a start without a file is the first one

    def begin(self, records):
        self.aside = records.box.directory / "aside"
        self.aside.mkdir()
        for file in records.database.parent.glob("fusebox.db*"):
            file.rename(self.aside / file.name)

    def end(self, records):
        for file in list(self.aside.iterdir()):
            file.rename(records.database.parent / file.name)
        self.aside.rmdir()


class PostgresStopped(Trouble):
    def __init__(self, server):
        self.server = server

    def prepare(self, records):
        records.url = self.server.emptied()
        records.write(storage="wait_s = 0.5")

    def begin(self, records):
        self.server.stop()

    def end(self, records):
        self.server.start()

    def clean_up(self):
        if self.server.process is None:
            self.server.start()


@pytest.fixture(params=["locked", "full", "removed", "postgresql"])
def trouble(request):
    made = {"locked": Locked, "full": Full, "removed": Removed}.get(request.param)
    made = made() if made else PostgresStopped(request.getfixturevalue("postgres_server"))
    yield made
    made.clean_up()


def starved_s(box):
    """How long the sidecar's loop was ready to run so far while others had the processor."""
    pid = box.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


async def no_stall(records, users, answers, told):
    """Users are answered 200 and in time; `told` for the report."""
    before = starved_s(records.box)
    await users.more(answers)
    starved = starved_s(records.box) - before
    assert users.failures == []
    assert set(users.statuses) == {200}
    report(
        f"{told}: slowest {1e3 * users.slowest_s:.1f} ms, own delay {1e3 * users.stalled_s:.1f} ms, "
        f"sidecar without processor {1e3 * starved:.1f} ms in all"
    )
    assert users.slowest_s - users.stalled_s - starved < STALL_S, told


async def changes_are_refused(records):
    """With the reason, and nothing happens."""
    box = records.box
    status, told = await box.api("POST", "/v1/breakers/cf/open", records.token, json={"reason": "drill"})
    assert (status, told["code"]) == (503, "store_unavailable"), told
    assert told["detail"]
    _, breakers = await box.api("GET", "/v1/breakers", records.token)
    assert (breakers["cf"]["state"], breakers["cf"]["forced"]) == ("closed", None)


async def kill(records, *, on):
    began = monotonic()
    status, told = await records.box.api(
        "PUT" if on else "DELETE", "/v1/kill", records.token, json={"reason": f"drill, {on}"}
    )
    assert (status, told["kill"], told["persisted"]) == (200, on, True), told
    assert monotonic() - began < 0.5
    answer = await records.box.get("/recommendations?user_id=u&k=3")
    assert ("kill_switch" in await answer.text()) is on


async def everything_but_changes_works(records, users, name):
    await records.troubled()
    await records.until(lambda: records.store_is(up=False))
    status, told = await records.box.api("GET", "/v1/status", records.token)
    assert (status, bool(told["troubles"])) == (200, True)
    await no_stall(records, users, 300, f"{name}, in trouble")
    await changes_are_refused(records)
    for on in (True, False, True):
        await kill(records, on=on)
    await no_stall(records, users, 100, f"{name}, killed")


async def test_a_store_that_goes_and_comes_back(records, trouble):
    name = type(trouble).__name__
    records.write(storage="wait_s = 0.5")
    trouble.prepare(records)
    box = records.box
    await records.start()
    answered = {}
    users = Users(box.listen, pause_s=0.01)
    async with users:
        await no_stall(records, users, 100, f"{name}, before")
        trouble.begin(records)
        await everything_but_changes_works(records, users, name)
        trouble.end(records)
        await records.recovered()
        assert await records.store_is(up=True)
        await kill(records, on=False)
        status, _ = await box.api(
            "POST", "/v1/breakers/cf/auto", records.token, json={"reason": "works again"}
        )
        assert status == 200
        await no_stall(records, users, 100, f"{name}, after")
        trouble.begin(records)
        await records.troubled()
        await users.more(50)
        await kill(records, on=True)
    box.signal(signal.SIGKILL)
    await box.ended()
    answered |= users.answered

    if not trouble.outlives:
        trouble.end(records)
    await box.start()
    users = Users(box.listen, pause_s=0.01)
    async with users:
        assert (await box.api("GET", "/v1/kill", records.token))[1]["kill"] is True
        if trouble.outlives:
            await everything_but_changes_works(records, users, f"{name}, started in trouble")
            trouble.end(records)
        await records.recovered()
        await no_stall(records, users, 100, f"{name}, after the start")
    answered |= users.answered
    assert await box.terminate() == 0

    entries = records.sound()
    times = Counter(it.get("request_id") for it in entries)
    assert [it for it in answered if times[it] != 1] == []
    done = [it["action"] for it in entries if it["outcome"] != "failed"]
    kills = [it == "kill.on" for it in done if it.startswith("kill.")]
    again = [True, False, True] if trouble.outlives else []
    assert kills == [True, False, True, False, True, *again]


@pytest.fixture
def read_only():
    made = ReadOnly()
    yield made
    made.clean_up()


async def test_a_store_that_is_read_only_from_the_start(records, read_only):
    read_only.prepare(records)
    box = records.box
    await records.start()
    assert await box.terminate() == 0
    read_only.begin(records)
    await box.start()
    users = Users(box.listen, pause_s=0.01)
    async with users:
        await everything_but_changes_works(records, users, "ReadOnly")
        read_only.end(records)
        await records.recovered()
        await no_stall(records, users, 100, "ReadOnly, after")
    assert await box.terminate() == 0
    times = Counter(it.get("request_id") for it in records.sound())
    assert [it for it in users.answered if times[it] != 1] == []
