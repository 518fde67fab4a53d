"""A database that is no database any more: traffic goes on, nothing is written over it, a backup mends it."""

import signal
from collections import Counter

import pytest
from fire import Users

GARBAGE = bytes(range(256)) * 64


def ruin(records):
    """Overwrite the file where it stands, as a disk or a stray program would."""
    size = records.database.stat().st_size
    with records.database.open("r+b") as file:
        file.write((GARBAGE * (size // len(GARBAGE) + 1))[:size])


async def refused(records):
    status, told = await records.box.api(
        "POST", "/v1/breakers/cf/open", records.token, json={"reason": "drill"}
    )
    assert (status, told["code"]) == (503, "store_unavailable"), told
    assert (await records.box.api("GET", "/v1/breakers", records.token))[1]["cf"]["forced"] is None


@pytest.mark.parametrize("running", [True, False])
async def test_a_database_overwritten_with_garbage(records, running):
    records.write(storage="wait_s = 0.5")
    box = records.box
    await records.start()
    backup = box.directory / "backup.db"
    users = Users(box.listen, pause_s=0.01)
    async with users:
        await users.more(50)
        records.run("store", "backup", str(backup))
        if not running:
            box.signal(signal.SIGKILL)
            await box.ended()
        ruin(records)
    answered = set(users.answered)
    if not running:
        for companion in records.database.parent.glob("fusebox.db-*"):
            companion.unlink()
        await box.start()
    kept = records.database.read_bytes()
    users = Users(box.listen, pause_s=0.01)
    async with users:
        await records.troubled()
        await records.until(lambda: records.store_is(up=False))
        await users.more(100)
        await refused(records)
        status, told = await box.api("PUT", "/v1/kill", records.token, json={"reason": "drill"})
        assert (status, told["persisted"]) == (200, True)
        await users.more(50)
    assert set(users.statuses) == {200}
    if not running:
        assert records.database.read_bytes() == kept
    box.signal(signal.SIGKILL)
    await box.ended()
    answered |= users.answered.keys()

    records.run("store", "restore", str(backup), "--replace", "--reason", "drill")
    await box.start()
    assert (await box.api("GET", "/v1/kill", records.token))[1]["kill"] is True
    assert await box.terminate() == 0
    entries = records.sound()
    times = Counter(it.get("request_id") for it in entries)
    assert [it for it in answered if times[it] != 1] == []  # the spool still had what the backup had not
    assert Counter(it["action"] for it in entries)["kill.on"] == 1
    assert Counter(it["action"] for it in entries)["store.restore"] == 1


async def test_a_database_that_is_gone_before_the_start(records):
    """Traffic and the kill go on; that the log began anew is told, and its new history is not signed."""
    await records.start()
    async with Users(records.box.listen) as users:
        await users.more(50)
    await records.box.api("PUT", "/v1/kill", records.token, json={"reason": "drill"})
    assert await records.box.terminate() == 0
    for file in records.database.parent.glob("fusebox.db*"):
        file.unlink()
    await records.box.start()
    async with Users(records.box.listen) as users:
        await users.more(100)
    assert set(users.statuses) == {200}
    assert (await records.box.api("GET", "/v1/kill", records.token))[1]["kill"] is True

    async def told():
        status, document = await records.ready()
        assert status == 200
        return [it for it in document["troubles"] if "signed" in it]

    await records.until(told)
    assert await records.box.terminate() == 0
    entries = records.entries()
    times = Counter(it.get("request_id") for it in entries)
    assert [it for it in users.answered if times[it] != 1] == []
    found = records.run("audit", "verify", fails=True)
    assert found.startswith(("fork", "cut_tail"))
    assert "0 checkpoints hold" in found


async def test_keys_that_cannot_be_read(records):
    """Changes are refused and the trouble is told; the kill works both ways, and is in the log afterwards."""
    await records.start()
    assert await records.box.terminate() == 0
    key = records.box.directory / "var" / "audit.key"
    kept = key.read_bytes()
    key.write_bytes(b"junk")
    await records.box.start()
    status, document = await records.ready()
    assert status == 200
    assert any("without its keys" in it for it in document["troubles"])
    reason = {"reason": "drill"}
    refused = await records.box.api("POST", "/v1/breakers/payment/open", records.token, json=reason)
    assert (refused[0], refused[1]["code"]) == (503, "store_unavailable")
    for method, killed in (("PUT", True), ("DELETE", False)):
        status, document = await records.box.api(method, "/v1/kill", records.token, json=reason)
        assert (status, document["kill"]) == (200, killed)
    assert await records.box.terminate() == 0
    key.write_bytes(kept)
    await records.box.start()
    assert await records.box.terminate() == 0
    assert {"kill.on", "kill.off"} <= {it["action"] for it in records.sound()}
