"""The clients against a stand-in for the sidecar."""

from collections import Counter

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from proxy.demo import traffic
from proxy.demo.seen import Seen
from proxy.demo.traffic import Traffic
from proxy.tasks import spawn


class StandIn:
    """Answers k films; writes fail until they were tried `failures` times."""

    def __init__(self) -> None:
        self.failures = 0
        self.tries: Counter[str] = Counter()
        self.orders: dict[str, set[bytes]] = {}
        self.ks: Counter[int] = Counter()

    async def recommend(self, request: web.Request) -> web.Response:
        k = int(request.query["k"])
        self.ks[k] += 1
        items = [
            {"rank": n, "id": f"m{n}", "score": 1, "source": "cf", "title": "", "year": 1, "genres": []}
            for n in range(1, k + 1)
        ]
        return web.json_response({"items": items, "metadata": {"level": "A"}})

    async def write(self, request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        self.tries[key] += 1
        self.orders.setdefault(key, set()).add(await request.read())
        if self.tries[key] <= self.failures:
            return web.json_response({"code": "breaker_open"}, status=503)
        return web.json_response({"id": f"done-{key}"}, status=201)


@pytest.fixture
async def driven(monkeypatch):
    monkeypatch.setattr(traffic, "RETRY_S", 0.01)
    stand_in, seen = StandIn(), Seen()
    app = web.Application()
    app.add_routes([web.get("/recommendations", stand_in.recommend), web.post("/{tail:.*}", stand_in.write)])
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        seen.begin("healthy")
        yield stand_in, seen, Traffic(session, str(server.make_url("")).rstrip("/"), seen)


async def until(condition, clients: Traffic) -> None:
    running = spawn(clients.run(), "traffic under test")
    while not condition():
        await clients.recommendations_answered()
        await spawn(_turn(), "turn")
    await clients.stop(5.0)
    await running


async def _turn() -> None:
    """One turn of the loop."""


async def test_people_ask_pay_and_get_mail(driven):
    stand_in, seen, clients = driven
    await until(lambda: len(seen.phases["healthy"].seconds) > 60 and seen.payments and seen.emails, clients)
    phase = seen.phases["healthy"]
    assert set(stand_in.ks) == set(traffic.KS)
    assert not phase.flaws
    assert phase.slots_asked == phase.slots_filled > 0
    assert phase.levels["A"] == len(phase.seconds)
    assert all(effect.receipt == f"done-{effect.key}" for effect in seen.payments + seen.emails)


async def test_a_failed_payment_is_tried_again_unchanged_under_its_key(driven):
    stand_in, seen, clients = driven
    stand_in.failures = 2
    await until(lambda: len(seen.payments) >= 2, clients)
    assert {effect.attempts for effect in seen.payments} == {3}
    assert all(effect.receipt for effect in seen.payments)
    assert all(len(bodies) == 1 for bodies in stand_in.orders.values())
    assert {refusal.code for refusal in seen.refusals} == {"breaker_open"}


async def test_what_never_succeeds_is_given_up_when_time_is_over(driven):
    stand_in, seen, clients = driven
    stand_in.failures = 10**9
    running = spawn(clients.run(), "traffic under test")
    while not seen.refusals:
        await clients.recommendations_answered()
        await spawn(_turn(), "turn")
    await clients.stop(0)
    await running
    assert seen.payments
    assert not any(effect.receipt for effect in seen.payments)


async def test_no_more_is_under_way_than_the_bound(driven, monkeypatch):
    monkeypatch.setattr(traffic, "IN_FLIGHT_MAX", 1)
    monkeypatch.setattr(traffic, "RECOMMEND_PER_S", 5000.0)
    _, seen, clients = driven
    await until(lambda: seen.held_back > 10, clients)
    assert not seen.phases["healthy"].flaws


async def test_a_sidecar_that_is_gone_is_a_flaw_not_a_crash(driven):
    _, seen, _ = driven
    async with aiohttp.ClientSession() as session:
        clients = Traffic(session, "http://127.0.0.1:9", seen)
        running = spawn(clients.run(), "traffic under test")
        while not (seen.phases["healthy"].flaws and seen.refusals):
            await clients.recommendations_answered()
            await spawn(_turn(), "turn")
        await clients.stop(0)
        await running
    assert all(flaw.startswith("no answer: ") for flaw in seen.phases["healthy"].flaws)
