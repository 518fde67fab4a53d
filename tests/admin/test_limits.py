"""How much one caller may ask, and that the kill switch is beyond it."""

import asyncio

import pytest

from proxy.admin import limits
from proxy.admin.limits import BURST, PRINCIPALS, RATE, RateLimit
from proxy.core.roles import Role
from proxy.tasks import spawn


def test_a_bucket_gives_its_burst_and_then_its_rate():
    now = 0.0
    rate = RateLimit(lambda: now)
    assert [rate.wait_s("a") for _ in range(int(BURST))] == [0] * int(BURST)
    assert rate.wait_s("a") == pytest.approx(1 / RATE)
    assert rate.wait_s("b") == 0
    now = 1 / RATE
    assert rate.wait_s("a") == 0
    assert rate.wait_s("a") > 0
    now = 1e6
    assert [rate.wait_s("a") for _ in range(int(BURST) + 1)].count(0) == BURST
    for number in range(PRINCIPALS):
        rate.wait_s(f"p{number}")
    assert len(rate._buckets) == PRINCIPALS


async def test_over_its_rate_a_principal_is_429_and_the_kill_switch_still_answers(admin):
    for _ in range(int(BURST)):
        assert (await admin.ask("GET", "/v1/status", role=Role.COMMANDER)).status == 200
    limited = await admin.ask("GET", "/v1/status", role=Role.COMMANDER)
    assert (limited.status, (await limited.json())["code"]) == (429, "rate_limited")
    assert limited.headers["Retry-After"] == "1"
    assert (await admin.ask("GET", "/v1/status", role=Role.VIEWER)).status == 200
    for method in ("PUT", "GET", "DELETE"):
        body = {} if method == "GET" else {"json": {"reason": "x"}}
        assert (await admin.ask(method, "/v1/kill", role=Role.COMMANDER, **body)).status == 200
    assert (await admin.ask("GET", "/readyz")).status == 200
    admin.clock.now += 1
    assert (await admin.ask("GET", "/v1/status", role=Role.COMMANDER)).status == 200


async def test_too_many_at_once_are_503_and_the_kill_switch_still_answers(admin, monkeypatch):
    monkeypatch.setattr(limits, "AT_ONCE", 1)
    admin.trail.go.clear()
    first = spawn(admin.ask("GET", "/v1/audit/verify", role=Role.ADMIN), "verify")
    async with asyncio.timeout(10):
        await admin.trail.reached.wait()
    second = await admin.ask("GET", "/v1/status", role=Role.VIEWER)
    assert (second.status, (await second.json())["code"]) == (503, "overloaded")
    body = {"reason": "x"}
    assert (await admin.ask("PUT", "/v1/kill", role=Role.COMMANDER, json=body)).status == 200
    admin.trail.go.set()
    assert (await first).status == 200
    assert (await admin.ask("GET", "/v1/status", role=Role.VIEWER)).status == 200
