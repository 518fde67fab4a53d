"""The kill switch across crash, restart and reload."""

import json
import signal

import pytest

REASON = {"reason": "cf returns garbage"}


async def kill(box, token):
    status, state = await box.api("PUT", "/v1/kill", token, json=REASON)
    assert (status, state["persisted"]) == (200, True)


async def test_a_kill_holds_with_the_next_request_and_after_kill_9_and_restart(box, upstream):
    token = box.token()
    await box.start()
    await kill(box, token)
    answer = await box.get("/recommendations?user_id=u&k=5")
    items = (await answer.json())["items"]
    assert [item["id"] for item in items] == ["f0", "f1", "f2", "f3", "f4"]
    box.signal(signal.SIGKILL)
    assert await box.ended() == -signal.SIGKILL

    await box.start()
    line = await box.logged("the kill switch is ON")
    assert line["level"] == "warning"
    _, state = await box.api("GET", "/v1/kill", token)
    assert line["message"].endswith(f"ON since {state['at']} by the-commander: {REASON['reason']}")
    assert (state["kill"], state["reason"], state["by"]) == (True, REASON["reason"], "the-commander")
    answer = await box.get("/recommendations?user_id=u&k=5")
    assert len((await answer.json())["items"]) == 5
    assert upstream.paths == []
    assert "fusebox_kill_switch 1.0" in (await box.api("GET", "/metrics"))[1]
    await box.terminate()
    assert f"fusebox: {line['message']}" in box.told.decode()


async def test_a_reload_keeps_the_kill(box):
    token = box.token()
    await box.start()
    await kill(box, token)
    box.signal(signal.SIGHUP)
    await box.logged("reloaded")
    assert (await box.api("GET", "/v1/kill", token))[1]["kill"] is True


async def test_a_reload_can_throw_the_switch_by_the_toggles_file(box):
    token = box.token()
    await box.start()
    box.write_toggles(kill_switch=True)
    box.signal(signal.SIGHUP)
    await box.logged("reloaded")
    assert (await box.api("GET", "/v1/kill", token))[1]["kill"] is True


@pytest.mark.parametrize("content", ["", "{", '{"kill": "yes"}'])
async def test_a_kill_file_nobody_can_read_starts_killed_and_says_so(box, content):
    token = box.token()
    box.kill_file.write_text(content)
    await box.start()
    line = await box.logged("starting killed")
    assert (line["level"], str(box.kill_file) in line["message"]) == ("critical", True)
    assert (await box.api("GET", "/v1/kill", token))[1]["kill"] is True


async def test_a_release_is_remembered_too(box):
    token = box.token()
    await box.start()
    await kill(box, token)
    status, state = await box.api("DELETE", "/v1/kill", token, json={"reason": "mended"})
    assert (status, state["kill"]) == (200, False)
    box.signal(signal.SIGKILL)
    await box.ended()
    assert json.loads(box.kill_file.read_text())["kill"] is False
    await box.start()
    assert (await box.api("GET", "/v1/kill", token))[1]["kill"] is False
