"""A bad change taken back by real processes, over sockets, across kill -9, and given back when it is good."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
from datetime import datetime

import pytest

SHORT = """
[rollback]
mode = "act"
critical_upstreams = {critical}
confirm_s = 0.5
hold_s = 600
recovery_steps = [50, 100]
recovery_step_s = 1
[[rollback.triggers]]
name = "error_p1"
metric = "error"
priority = "P1"
share = 0.001
"""


class Source:
    """Answers with candidates, or 500."""

    def __init__(self):
        self.fails = False
        self.asked = 0

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        items = [{"id": f"f{rank}", "score": 1 - rank / 100} for rank in range(20)]
        body = json.dumps({"items": items}).encode()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                head = b"500 Broken" if self.fails else b"200 OK"
                writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body))
                await writer.drain()
        writer.close()


@pytest.fixture
async def sources():
    found = {"cf": Source(), "content": Source()}
    for it in found.values():
        await it.start()
    yield found
    for it in found.values():
        it.server.close()


def write(box, sources, critical=()):
    box.write(extra=SHORT.format(critical=list(critical)))
    text = box.settings.read_text()
    text = re.sub(r'\[upstreams\.cf\]\nurl = ".*"', "", text)
    for name, it in sources.items():
        text += f'[upstreams.{name}]\nurl = "http://127.0.0.1:{it.port}"\n'
    box.settings.write_text(text.replace('cf = "cf"', 'cf = "cf", content = "content"'))


USERS = itertools.count()


async def ask(box, count=40):
    """So many requests at once, of users that no cache knows: their decisions, each as a dict."""

    async def one(user):
        answer = await box.get(f"/recommendations?user_id=u{user}&k=5")
        assert answer.status == 200
        assert len((await answer.json())["items"]) == 5
        return dict(part.split("=") for part in answer.headers["X-Fusebox-Decision"].split(";"))

    return await asyncio.gather(*map(one, itertools.islice(USERS, count)))


async def crash(box, token, count):
    """So many workers die, one after the other; each is replaced."""
    for _ in range(count):
        before = (await pids(box, token))[0]
        os.kill(before, signal.SIGKILL)
        async with asyncio.timeout(20):
            while before in (serving := await pids(box, token)) or len(serving) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def pids(box, token):
    """Of the workers that serve."""
    status, told = await box.api("GET", "/v1/status", token)
    assert status == 200
    return [it["pid"] for it in told["workers"] if it["state"] == "serving"]


async def until(box, token, state, stage=None):
    """The rollback once it is in this state and stage, and on the disk; each turn is requests answered."""
    async with asyncio.timeout(20):
        while True:
            await ask(box)
            status, told = await box.api("GET", "/v1/rollback", token)
            assert status in {200, 429}
            there = status == 200 and told["state"] == state and stage in {None, told["stage"]}
            if there and told["persisted"]:
                return told
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])
async def test_a_source_that_fails_is_rolled_back_and_a_killed_process_goes_on_so(box, sources, options):
    token = box.token()
    box.options = options
    write(box, sources)
    await box.start()
    assert all("stage" not in it for it in await ask(box))
    sources["cf"].fails = True
    told = await until(box, token, "ROLLED_BACK")
    assert (told["applied"], told["stage"], told["by"]) == (True, "2", "fusebox")
    assert "error_p1" in told["reason"]
    decided = await ask(box)
    assert {it["stage"] for it in decided} == {"2"}
    _, page = await box.api("GET", "/metrics")
    assert 'fusebox_rollback_state{state="ROLLED_BACK"} 1.0' in page
    _, triggers = await box.api("GET", "/v1/triggers", token)
    assert {it["trigger"] for it in triggers["verdicts"]} == {"error_p1"}

    box.signal(signal.SIGKILL)
    await box.ended()
    await box.start()
    first, *_ = await ask(box, 1)
    assert first["stage"] == "2"
    _, again = await box.api("GET", "/v1/rollback", token)
    assert (again["state"], again["persisted"]) == ("ROLLED_BACK", True)
    moved = datetime.fromisoformat(again["since"]) - datetime.fromisoformat(told["since"])
    assert abs(moved.total_seconds()) < 0.5
    assert again["moves"][0]["to"] == "ROLLED_BACK"
    _, log = await box.api("GET", "/v1/audit?action=rollback.transition", token)
    assert log["entries"][0]["after"]["state"] == "ROLLED_BACK"
    _, toggles = await box.api("GET", "/v1/toggles", token)
    assert "stage 2" in toggles["over"]
    assert toggles["toggles"]["disable_cf"] is False, "operators' values stay as they are"
    if options:
        await crash(box, token, 3)
        told = await until(box, token, "ROLLED_BACK", stage="emergency")
        assert told["wrong"] == ["workers crash in a loop: 3 failed within 60 s"]
        assert {it["level"] for it in await ask(box)} == {"D"}
    assert await box.terminate() == 0


async def test_what_a_person_holds_and_lets_go_outlives_kill_9_until_all_is_as_before(box, sources):
    token = box.token()
    write(box, sources, critical=["cf"])
    await box.start()

    async def killed_and_back():
        box.signal(signal.SIGKILL)
        await box.ended()
        await box.start()
        first, *_ = await ask(box, 1)
        return first, (await box.api("GET", "/v1/rollback", token))[1]

    async def order(action, **body):
        return await box.api("POST", f"/v1/rollback/{action}", token, json={"reason": "test"} | body)

    status, told = await order("override", baseline="emergency")
    assert (status, told["state"]) == (200, "MANUAL_OVERRIDE")
    (first, *_), asked = await ask(box, 20), sources["content"].asked
    assert (first["level"], first["stage"]) == ("D", "emergency")
    first, told = await killed_and_back()
    assert (first["level"], told["state"], told["stage"]) == ("D", "MANUAL_OVERRIDE", "emergency")
    assert sources["content"].asked == asked, "nobody was asked, not even once"
    _, kill = await box.api("GET", "/v1/kill", token)
    assert (kill["kill"], "fusebox rollback release" in kill["rollback"]) == (False, True)

    status, told = await order("start", stage="1")
    assert (status, told["stage"]) == (200, "1")
    status, told = await order("release")
    assert (status, told["state"], told["layers"][0]["low"]) == (200, "RECOVERY_VERIFY", 5_000)
    _, told = await killed_and_back()
    assert (told["state"], told["layers"][0]["low"]) == ("RECOVERY_VERIFY", 5_000)
    assert {it.get("stage") for it in await ask(box)} == {"1", None}

    told = await until(box, token, "NORMAL")
    assert (told["layers"], told["moves"][0]["event"]) == ([], "verified")
    assert {it.get("stage") for it in await ask(box)} == {None}
    sources["cf"].fails = True
    told = await until(box, token, "ROLLED_BACK", stage="emergency")
    assert "breaker_open cf" in told["moves"][0]["reason"]
    assert await box.terminate() == 0
