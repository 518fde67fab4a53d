import aiohttp
import pytest

from proxy.clock import monotonic
from proxy.demo import faults
from proxy.tasks import spawn


async def set_mode(client, mode):
    response = await client.post("/_fault", json={"mode": mode})
    assert response.status == 200
    assert (await response.json())["mode"] == mode


async def test_requests_are_counted_and_control_is_not(start):
    client = await start("content")
    await client.get("/candidates", params={"k": 1})
    await client.get("/candidates", params={"k": "wrong"})
    await client.get("/healthz")
    state = await (await client.get("/_fault")).json()
    assert state == {"mode": "none", "requests": 2}


@pytest.mark.parametrize("mode", list(faults.Mode))
async def test_health_and_control_answer_in_every_mode(start, mode):
    client = await start("content")
    await set_mode(client, mode)
    assert (await client.get("/healthz")).status == 200


async def test_error_answers_500(start):
    client = await start("content")
    await set_mode(client, "error")
    assert (await client.get("/candidates")).status == 500


async def test_reset_cuts_the_connection(start):
    client = await start("content")
    await set_mode(client, "reset")
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await client.get("/candidates")


async def test_hang_holds_requests_until_the_mode_changes(start):
    client = await start("content")
    await set_mode(client, "hang")
    held = spawn(client.get("/candidates", params={"k": 1}), "held")
    while (await (await client.get("/_fault")).json())["requests"] == 0:
        pass
    assert not held.done()
    await set_mode(client, "none")
    assert (await held).status == 200


async def test_slow_answers_late(start, monkeypatch):
    monkeypatch.setattr(faults, "SLOW_S", 0.05)
    client = await start("content")
    await set_mode(client, "slow")
    started = monotonic()
    assert (await client.get("/candidates", params={"k": 1})).status == 200
    assert monotonic() - started >= 0.045  # the loop's timers round to a millisecond


@pytest.mark.parametrize("body", ['{"mode": "sulk"}', "{}", "[]", "not json", '{"mode": null}'])
async def test_an_unknown_mode_is_400_and_changes_nothing(start, body):
    client = await start("content")
    response = await client.post("/_fault", data=body)
    assert response.status == 400
    assert "hang" in (await response.json())["detail"]
    assert (await (await client.get("/_fault")).json())["mode"] == "none"
