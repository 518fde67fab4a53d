"""Toggles of a real sidecar: in force for every next request, over `kill -9`, without the store, damaged."""

import itertools
import os
import re
import signal
import sqlite3
from contextlib import suppress

import aiohttp
import pytest
from fire import make_tokens

from proxy.tasks import spawn

ROUNDS = int(os.environ.get("FUSEBOX_KILLS", "2"))
ASK = "/recommendations?user_id=u&k=3"


class Toggles:
    """Toggles of the box that runs."""

    def __init__(self, records):
        self.records = records
        self.box = records.box
        self.token = records.token = make_tokens(records.box, 1)[0]

    async def api(self, method, path, body=None, **headers):
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        async with self.box.session.request(
            method, self.box.admin + path, headers=headers, json=body
        ) as response:
            return response.status, await response.json(content_type=None)

    async def read(self):
        return (await self.api("GET", "/v1/toggles"))[1]

    async def patch(self, reason="why", if_match="*", **toggles):
        body = {"toggles": toggles, "reason": reason}
        return await self.api("PATCH", "/v1/toggles", body, **{"If-Match": if_match})

    async def history(self):
        found, cursor = [], ""
        while cursor is not None:
            page = (await self.api("GET", f"/v1/toggles/history?limit=500{cursor}"))[1]
            found += page["versions"]
            cursor = page["next"] and f"&cursor={page['next']}"
        return found

    async def decided_by(self):
        """The version that a request of now is decided by, on a connection of its own."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.box.listen + ASK) as answer,
        ):
            return int(re.search(r"\bv=(\d+)", answer.headers["X-Fusebox-Decision"])[1])


@pytest.fixture
def toggles(records):
    return Toggles(records)


@pytest.mark.parametrize("workers", [0, 2])
async def test_every_request_after_the_acknowledgement_is_decided_by_the_new_version(toggles, workers):
    records = toggles.records
    records.box.options = ("--workers", str(workers)) if workers else ()
    await records.box.start()
    for share in range(1, 16):
        status, now = await toggles.patch(exposure_percent=share)
        assert status == 200, now
        for _ in range(2 * (workers or 1)):
            assert await toggles.decided_by() == now["version"]
    await records.box.api("PUT", "/v1/kill", records.token, json={"reason": "drill"})
    assert await toggles.decided_by() == now["version"] + 1


async def change_without_pause(toggles, told):
    with suppress(aiohttp.ClientError, OSError):
        for share in itertools.cycle(range(100)):
            told["asked"] = share
            status, now = await toggles.patch(exposure_percent=share, reason=f"to {share}")
            assert status in {200, 429}, now
            if status == 200:
                told["acknowledged"], told["version"] = share, now["version"]
                told["all"].append(now["version"])


@pytest.mark.timeout(60 + 20 * ROUNDS)
@pytest.mark.parametrize("workers", [0, 2])
async def test_what_was_acknowledged_outlives_kill_9_with_and_without_the_store(toggles, workers):
    """And no number is given twice."""
    box, told = toggles.box, {"all": []}
    box.options = ("--workers", str(workers)) if workers else ()
    away = toggles.records.database.with_name("away")

    async def killed():
        box.signal(signal.SIGKILL)
        await box.ended()

    for number in range(ROUNDS):
        await box.start()
        changing = spawn(change_without_pause(toggles, told), "operator")
        await box.logged("toggles are version", 3 + number)
        await killed()
        await changing
        assert told["all"] == sorted(set(told["all"]))

        toggles.records.database.rename(away)
        toggles.records.database.mkdir()  # no store can be opened there
        await box.start()
        now = await toggles.read()
        assert now["toggles"]["exposure_percent"] in {told["acknowledged"], told["asked"]}, f"round {number}"
        assert now["version"] >= told["version"]
        assert (await toggles.patch(exposure_percent=1))[0] == 503
        await killed()
        toggles.records.database.rmdir()
        away.rename(toggles.records.database)
    await box.start()
    await toggles.records.recovered()
    assert (await toggles.read())["toggles"]["exposure_percent"] in {told["acknowledged"], told["asked"]}
    assert set(told["all"]) <= {it["version"] for it in await toggles.history()}
    assert await box.terminate() == 0
    toggles.records.sound()


async def test_with_the_store_in_trouble_changes_are_refused_and_the_kill_works(toggles):
    records = toggles.records
    records.write(storage="wait_s = 0.3")
    await records.box.start()
    assert (await toggles.patch(exposure_percent=50))[0] == 200
    other = sqlite3.connect(records.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        status, told = await toggles.patch(exposure_percent=20)
        assert (status, told["code"]) == (503, "store_unavailable")
    assert (await toggles.read())["toggles"]["exposure_percent"] == 50
    status, told = await toggles.api("POST", "/v1/toggles/baselines/emergency", {"reason": "burns"})
    assert (status, told["code"]) == (503, "store_unavailable")
    assert told["detail"].startswith("The kill switch is ON, as version 3; the rest was refused")
    assert "kill_switch" in await (await records.box.get(ASK)).text()
    other.execute("ROLLBACK")
    other.close()
    await records.recovered()
    status, now = await toggles.api("POST", "/v1/toggles/baselines/emergency", {"reason": "burns"})
    assert (status, now["baseline"]) == (200, "emergency")
    assert [it["kind"] for it in await toggles.history()][:2] == ["baseline", "kill"]


async def test_a_damaged_file_without_the_store_is_killed_and_readiness_tells(toggles):
    records = toggles.records
    await records.box.start()
    await toggles.patch(exposure_percent=50)
    assert await records.box.terminate() == 0
    for name in ("toggles.json", "toggles.json.before"):
        file = records.box.directory / "var" / name
        file.write_bytes(file.read_bytes()[:-9])
    away = records.database.with_name("away")
    records.database.rename(away)
    records.database.mkdir()
    await records.box.start()
    assert await toggles.decided_by() >= 1
    assert "kill_switch" in await (await records.box.get(ASK)).text()
    status, told = await records.ready()
    assert (status, told["ready"]) == (200, True)
    assert "toggles.json cannot be used: its checksum is wrong" in " ".join(told["troubles"])
    assert (await toggles.read())["kill"] is True
    records.box.signal(signal.SIGKILL)
    await records.box.ended()
    records.database.rmdir()
    away.rename(records.database)
    await records.box.start()
    now = await toggles.read()
    assert (now["kill"], now["toggles"]["exposure_percent"]) == (False, 50)
    assert (await records.ready())[1]["troubles"] == []


async def arms(box):
    found = []
    for number in range(40):
        answer = await (await box.get(f"/recommendations?user_id=u{number}&k=3")).json()
        found.append((answer["metadata"]["arm"], answer["metadata"]["policy"]))
    return found


async def test_a_frozen_experiment_is_the_same_after_a_restart_with_other_settings(toggles):
    """The arms' policies, which need no answer of a source to be told."""
    records = toggles.records
    records.write(extra='[experiment]\nname = "hybrid_v1"\n')
    await records.box.start()
    running = await arms(records.box)
    assert len(set(running)) > 1
    assert (await toggles.patch(experiment_freeze=True))[0] == 200
    assert await records.box.terminate() == 0
    records.write(extra='[experiment]\nname = "next"\nsalt = "other"\n')
    await records.box.start()
    assert await arms(records.box) == running
    assert (await toggles.patch(experiment_freeze=False))[0] == 200
    assert await arms(records.box) != running
