"""A freeze and the flap budget in real processes, across kill -9 and restart."""

import asyncio
import signal

import aiohttp
import pytest

from proxy.core.routing import SALT, bucket

KNOWN = [f"known-{n}" for n in range(30)]
NEW = [f"new-{n}" for n in range(30)]


def write(box, changes_per_hour):
    """Settings with an experiment, both sources and this budget."""
    box.write(extra=f'[experiment]\nname = "hybrid_v1"\n[flaps]\nchanges_per_hour = {changes_per_hour}\n')
    box.settings.write_text(box.settings.read_text().replace('cf = "cf"', 'cf = "cf", content = "payment"'))


async def arms(box, users):
    """In which arm each user is, as the header tells."""
    found = {}
    for user in users:
        answer = await box.get(f"/recommendations?user_id={user}&k=2")
        assert answer.status == 200
        decision = dict(part.split("=") for part in answer.headers["X-Fusebox-Decision"].split(";"))
        assert decision["bucket"] == str(bucket(user.encode(), SALT))
        found[user] = decision["arm"]
    return found


async def patch(box, token, **toggles):
    _, now = await box.api("GET", "/v1/toggles", token)
    headers = {"If-Match": f'"{now["version"]}"', "Authorization": f"Bearer {token}"}
    body = {"toggles": toggles, "reason": "test"}
    async with box.session.patch(box.admin + "/v1/toggles", json=body, headers=headers) as response:
        assert response.status == 200, await response.text()


async def status(box, token):
    return (await box.api("GET", "/v1/status", token))[1]


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])
async def test_who_was_seen_and_who_is_held_outlive_the_process(box, options):
    token = box.token()
    box.options = options
    write(box, 2)
    await box.start()
    before = await arms(box, KNOWN)
    assert set(before.values()) == {"control", "treatment_a", "treatment_b"}
    await patch(box, token, experiment_freeze=True)
    assert await arms(box, KNOWN) == before
    assert set((await arms(box, NEW)).values()) == {"control"}

    for percent in (10, 100, 10, 100):
        await patch(box, token, exposure_percent=percent)
    (held,) = (await status(box, token))["held"]
    assert (held["low"], held["high"], held["percent"], held["scope"]) == (1_000, 9_999, 90.0, None)
    inside = {user: arm for user, arm in before.items() if bucket(user.encode(), SALT) < 1_000}
    expected = dict.fromkeys(KNOWN, "control") | inside
    assert await arms(box, KNOWN) == expected
    assert "fusebox_held_buckets 9000.0" in (await box.api("GET", "/metrics"))[1]

    box.signal(signal.SIGKILL)
    await box.ended()
    await box.start()
    assert [it | {"until": ""} for it in (await status(box, token))["held"]] == [held | {"until": ""}]
    assert await arms(box, KNOWN) == expected
    write(box, 0)
    box.signal(signal.SIGHUP)
    await box.logged("reloaded")
    assert (await status(box, token))["held"] == []
    assert await arms(box, KNOWN) == before
    assert set((await arms(box, NEW)).values()) == {"control"}
    assert (await status(box, token))["troubles"] == []


async def test_shadows_of_all_workers_are_told_as_one(box):
    """And a reload takes them away, with nothing in between going wrong."""
    token = box.token()
    box.options = ("--workers", "2")
    box.write()
    plain = box.settings.read_text()
    box.settings.write_text(plain + '[routes.shadow]\npercent = 100\nupstream = "cf"\n')
    await box.start()
    for n in range(20):
        async with aiohttp.ClientSession() as session, session.get(f"{box.listen}/payment/{n}") as answer:
            assert await answer.text() == f"/payment/{n}"
    for _ in range(200):  # workers tell their counters every 250 ms
        shadow = (await status(box, token))["shadows"]["payment"]
        if shadow["compared"] == 20:
            break
        await asyncio.sleep(0.05)
    assert (shadow["same"], shadow["to"], shadow["results"]) == (20, "cf", {"same": 20})
    assert sorted(box.upstream.paths) == sorted(f"/payment/{n}" for n in range(20) for _ in range(2))
    metrics = (await box.api("GET", "/metrics"))[1]
    assert 'fusebox_shadow_requests_total{result="same",route="payment"} 20.0' in metrics
    assert 'fusebox_upstream_requests_total{outcome="success",upstream="payment"} 20.0' in metrics
    assert 'fusebox_upstream_requests_total{outcome="success",upstream="cf"} 0.0' in metrics

    box.settings.write_text(plain)
    box.signal(signal.SIGHUP)
    await box.logged("reloaded")
    assert (await box.get("/payment/x")).status == 200
    assert (await status(box, token))["shadows"] == {}
    assert box.upstream.paths.count("/payment/x") == 1
