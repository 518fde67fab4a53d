"""The state directory, the spool in it and the clock in trouble: traffic goes on, and the kill works."""

import asyncio
import os
import resource
import sqlite3
import subprocess
from collections import Counter

import pytest
from fire import Users

from proxy.clock import monotonic
from proxy.core.roles import Role
from proxy.storage.tokens import TokenFile

QUIET = "/plain/{}"  # no rule fits it


@pytest.fixture
def small(records):
    """The state directory on a file system of its own; needs root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = records.box.directory / "var"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=False)


async def throw(records, *, persisted):
    began = monotonic()
    status, told = await records.box.api("PUT", "/v1/kill", records.token, json={"reason": "drill"})
    assert (status, told["kill"], told["persisted"]) == (200, True, persisted), told
    assert monotonic() - began < 0.5
    assert "kill_switch" in await (await records.box.get("/recommendations?user_id=u&k=3")).text()


async def quiet_traffic(records):
    async with Users(records.box.listen, path=QUIET, pause_s=0.005) as users:
        await users.more(100)
        assert users.slowest_s - users.stalled_s < 0.1
    assert (users.failures, set(users.statuses)) == ([], {200})


async def actions(records, status, code):
    """What is not counted is refused, and reaches no upstream."""
    seen = len(records.box.upstream.paths)
    answer = await records.box.get("/payment/one")
    assert answer.status == status
    if code:
        assert (await answer.json())["code"] == code
    assert len(records.box.upstream.paths) == seen + (status == 200)


async def change(records, status, code=None):
    answered, told = await records.box.api(
        "POST", "/v1/breakers/cf/open", records.token, json={"reason": "drill"}
    )
    assert (answered, told.get("code")) == (status, code), told
    forced = (await records.box.api("GET", "/v1/breakers", records.token))[1]["cf"]["forced"]
    assert forced == ("open" if status == 200 else None)


async def test_a_state_directory_that_is_read_only_from_the_start(records, small):
    records.write(routes=("/payment/", "/plain/"))
    records.tokens = [TokenFile(small / "tokens.json").create("ann", Role.COMMANDER)]
    records.token = records.tokens[0]
    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", small], check=True)
    await records.box.start()
    await quiet_traffic(records)
    await actions(records, 503, "audit_full")
    assert await records.troubled()
    await change(records, 503, "store_unavailable")
    await throw(records, persisted=False)
    status, told = await records.box.api("DELETE", "/v1/kill", records.token, json={"reason": "drill"})
    assert status == 503, told
    assert (await records.box.api("GET", "/v1/kill", records.token))[1]["kill"] is True
    assert await records.box.terminate() == 0
    assert "Traceback" not in records.box.told.decode()


async def test_a_state_directory_without_room(records, small):
    """What has room reserved goes on; then actions are refused, and it all works again when there is room."""
    records.write(audit="spool_bytes = 1_048_576", routes=("/payment/", "/plain/"))
    await records.start()
    await actions(records, 200, None)
    with pytest.raises(OSError, match="No space left"):
        (small / "filler").write_bytes(bytes(16 * 1024 * 1024))
    async with Users(records.box.listen) as users:
        await records.until(lambda: something(503 in users.statuses))
    await quiet_traffic(records)
    await records.until(lambda: refused(records))  # a last entry may have fitted in
    await actions(records, 503, "audit_full")
    assert await records.troubled()
    await records.until(lambda: records.store_is(up=False))
    await change(records, 503, "store_unavailable")
    await throw(records, persisted=False)
    (small / "filler").unlink()
    await records.recovered()
    await throw(records, persisted=True)
    await change(records, 200)
    await actions(records, 200, None)
    assert await records.box.terminate() == 0
    times = Counter(it.get("request_id") for it in records.sound())
    assert [it for it, status in users.answered.items() if times[it] != (status == 200)] == []


async def test_nothing_can_be_written_anywhere(records):
    """As a quota does it, to a process that runs."""
    records.write(routes=("/payment/", "/plain/"))
    await records.start()
    await actions(records, 200, None)
    pid = records.box.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    await quiet_traffic(records)
    await throw(records, persisted=False)
    await change(records, 503, "store_unavailable")
    assert await records.troubled()
    async with Users(records.box.listen) as users:
        await records.until(lambda: something(503 in users.statuses))
    lost = sum(status == 200 for status in users.answered.values())
    assert await records.metric("fusebox_audit_lost_total") == lost  # nothing was promised before the limit
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    await records.recovered()
    await throw(records, persisted=True)
    await change(records, 200)
    assert await records.box.terminate() == 0
    records.sound()


@pytest.mark.parametrize("choice", ["refuse", "count"])
async def test_a_spool_that_is_full(records, choice):
    records.write(audit=f'spool_bytes = 1_048_576\nwhen_full = "{choice}"', storage="wait_s = 0.5")
    await records.start()
    other = sqlite3.connect(records.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with Users(records.box.listen) as users:
        if choice == "refuse":
            await records.until(lambda: something(503 in users.statuses))
        else:
            await records.until(lambda: lost_some(records))
        await throw(records, persisted=True)
    seen = records.box.upstream.paths
    answered = Counter(users.statuses)
    if choice == "refuse":
        assert set(answered) == {200, 503}
        assert sum(path.startswith("/payment/user-") for path in seen) == answered[200]
        await records.until(lambda: refused(records))  # four at once are refused before one is
        await actions(records, 503, "audit_full")
        lost = 0
    else:
        assert set(answered) == {200}
        lost = await records.metric("fusebox_audit_lost_total")
        await actions(records, 200, None)
    other.execute("ROLLBACK")
    other.close()
    await records.recovered()
    assert await records.box.terminate() == 0
    entries = records.sound()
    times = Counter(it.get("request_id") for it in entries)
    kept = [it for it, status in users.answered.items() if status == 200 and times[it] == 1]
    assert max(times[it] for it in users.answered) == 1
    assert not [it for it, status in users.answered.items() if status == 503 and times[it]]
    assert len(kept) == answered[200] - lost
    assert Counter(it["action"] for it in entries)["kill.on"] == 1


async def refused(records):
    return (await records.box.get("/payment/one")).status == 503


async def something(it):
    return it


async def lost_some(records):
    return await records.metric("fusebox_audit_lost_total") > 10
