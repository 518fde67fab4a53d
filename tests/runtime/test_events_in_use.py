"""The event log of a running sidecar: all of it after a drain, nearly all of it after `kill -9`."""

import asyncio
import json
import os
import re
import signal
from collections import Counter
from contextlib import suppress

import aiohttp

EXTRA = """
[identity]
user = ["query:user_id"]
[events]
directory = "events"
rotate_bytes = 65536
request_sample = 1.0
[[audit.actions]]
action = "billing.charge"
route = "payment"
path = "/payment/charge"
"""


def rows(box, kind):
    """Whole lines, and how many torn ones there are in each file."""
    found, torn = [], []
    for path in sorted((box.directory / "events" / "ndjson" / kind).glob("*.ndjson")):
        *lines, rest = path.read_bytes().split(b"\n")
        found += map(json.loads, lines)
        torn.append(bool(rest))
    return found, torn


async def test_a_drained_sidecar_has_written_all_of_it(box):
    box.write(extra=EXTRA)
    token = box.token()
    await box.start()
    for user in range(20):
        assert (await box.get(f"/recommendations?user_id=u{user % 5}&k=5")).status == 200
        await box.get("/payment/x")
    await box.get("/payment/charge?user_id=u1")
    asked = {"reason": "looks wrong", "stage": "1"}
    status, told = await box.api("POST", "/v1/rollback/start", token, json=asked)
    assert status == 200, told
    assert await box.terminate() == 0
    ranking, torn = rows(box, "ranking")
    assert len(ranking) == 20
    assert torn == [False]
    assert len({row["user_id"] for row in ranking}) == 5
    assert not {row["user_id"] for row in ranking} & {f"u{user}" for user in range(5)}
    # the upstream answers with no JSON: a broken contract
    errors, _ = rows(box, "error_critical")
    assert {(row["component"], row["error_code"]) for row in errors} == {("cf", "upstream_invalid")}
    assert {row["request_id"] for row in errors} <= {row["request_id"] for row in ranking}
    requests, _ = rows(box, "request")
    assert Counter(row["route"] for row in requests) == {"payment": 21}
    ((effect,), _) = rows(box, "effect")
    assert (effect["action"], effect["outcome"], effect["status"]) == ("user.billing.charge", "done", 200)
    assert effect["user_id"] in {row["user_id"] for row in ranking}
    moves, _ = rows(box, "transition")
    assert {(row["subject"], row["state_after"]) for row in moves} == {
        ("breaker cf", "open"),
        ("rollback", "ROLLED_BACK"),
    }
    (rolled,) = (row for row in moves if row["subject"] == "rollback")
    assert (rolled["actor"], rolled["reason"], rolled["stage"]) == ("the-commander", "looks wrong", "1")
    assert "exposure_percent" in rolled["layers_after"]
    assert (box.directory / "var" / "events.key").stat().st_mode & 0o777 == 0o600


async def test_workers_that_are_killed_lose_the_last_moments_and_tear_one_line_at_most(box):
    box.options = ("--workers", "2")
    box.write(extra=EXTRA)
    await box.start()
    early = []

    async def user(number):
        async with aiohttp.ClientSession() as session:
            for turn in range(50):
                url = f"{box.listen}/recommendations?user_id=u{number}-{turn}&k=20"
                async with session.get(url) as answer:
                    early.append(answer.headers["X-Request-Id"])

    await asyncio.gather(*map(user, range(8)))
    async with asyncio.timeout(20):
        while len(rows(box, "ranking")[0]) < len(early):  # noqa: ASYNC110 - other processes do it
            await asyncio.sleep(0.01)
    going_on = asyncio.gather(*map(user, range(4)), return_exceptions=True)
    await asyncio.wait([going_on], timeout=0.2)
    pids = [line["pid"] for line in box.lines if re.fullmatch(r"worker \d+ started", line["message"])]
    for pid in (box.process.pid, *pids):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await going_on
    await box.ended()
    ranking, torn = rows(box, "ranking")
    there = Counter(row["request_id"] for row in ranking)
    assert set(early[:400]) <= set(there)
    assert set(there.values()) == {1}
    writers = {path.name.split("-")[1] for path in (box.directory / "events/ndjson/ranking").iterdir()}
    assert {int(pid) for pid in writers} <= set(pids)
    assert sum(torn) <= len(pids)


async def test_a_key_that_others_could_read_costs_the_users_and_is_told(box):
    box.write(extra=EXTRA)
    (box.directory / "var").mkdir(exist_ok=True)
    key = box.directory / "var" / "events.key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o644)
    token = box.token()
    await box.start()
    await box.get("/recommendations?user_id=u1&k=5")
    _, told = await box.api("GET", "/v1/status", token)
    assert any("events lack the users" in trouble for trouble in told["troubles"])
    await box.terminate()
    assert [row["user_id"] for row in rows(box, "ranking")[0]] == [None]
