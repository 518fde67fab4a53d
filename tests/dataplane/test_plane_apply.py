"""Policies that change mid-traffic: whole or not at all, and never at the cost of a request under way."""

import asyncio
from dataclasses import replace

import pytest
from calling import serving
from harness import Wire, answering, echo, reply, turn, until
from rig import ROUTE, UPSTREAM, Rig, policy, sidecar

from proxy.core.breaker import BreakerSettings
from proxy.core.policy import Identity, Limits, Policy, Toggles
from proxy.errors import SettingsError

GET = b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"


BROKEN = answering(reply(status=b"500 Oh"))
ONE = {"max_inflight": 1, "queue_timeout_ms": 5_000}
TWO = {"max_inflight": 2, "queue_timeout_ms": 5_000}


def says(word: bytes):
    return answering(reply(word))


class Gate:
    """An upstream's script that answers `word` once it is opened."""

    def __init__(self, word: bytes = b"slow") -> None:
        self.word = word
        self.opened = asyncio.Event()

    async def __call__(self, wire: Wire) -> None:
        while True:
            await wire.request()
            await self.opened.wait()
            wire.send(reply(self.word))


def changed(rig: Rig, **upstream) -> Policy:
    return replace(rig.policy, upstreams={"up": replace(rig.policy.upstreams["up"], **upstream)})


def cell(rig: Rig):
    return rig.counters.upstreams["up"]


async def test_routes_and_flags_change_with_the_next_request_of_the_same_connection():
    async with sidecar(says(b"a")) as rig:
        wire = await rig.client()

        async def status(raw: bytes = GET) -> int:
            wire.send(raw)
            return (await wire.response()).status

        assert await status() == 200
        rig.plane.apply(replace(rig.policy, routes=(replace(ROUTE, path="/other"),)))
        assert await status() == 404
        assert await status(GET.replace(b"/p", b"/other")) == 200
        flagged = (replace(ROUTE, flag="films"),)
        rig.plane.apply(replace(rig.policy, routes=flagged, toggles=Toggles(flags={"films": False})))
        assert await status() == 503
        rig.plane.apply(
            replace(rig.policy, routes=flagged, toggles=Toggles(version=5, flags={"films": True}))
        )
        wire.send(GET)
        assert (await wire.response()).get("x-fusebox-decision").endswith(b";v=5")
        rig.plane.apply(replace(rig.policy, routes=(replace(ROUTE, methods=("POST",)),)))
        assert await status() == 405


async def test_limits_and_identity_change_with_the_next_request():
    async with sidecar(echo) as rig:
        wire = await rig.client()
        long = GET.replace(b"Host: x", b"Host: x\r\nX-Long: " + b"a" * 3_000)
        wire.send(long)
        assert (await wire.response()).status == 200
        rig.plane.apply(
            replace(rig.policy, limits=Limits(head_bytes=1024), identity=Identity(user=("header:x-who",)))
        )
        wire.send(GET.replace(b"Host: x", b"Host: x\r\nX-Who: 7\r\nConnection: x-who"))
        assert (await wire.response()).status == 200
        assert rig.upstream.requests[-1].get("x-who") == b"7"  # relied on now: cannot be taken away
        wire.send(long)
        assert (await wire.response()).status == 431


async def test_timeouts_change_with_the_next_request_and_those_under_way_keep_theirs():
    gate = Gate()
    async with sidecar(gate) as rig:
        before = await rig.client()
        before.send(GET)
        await rig.upstream.until_requests(1)
        rig.plane.apply(changed(rig, timeout_ms=60))
        assert (await rig.ask(GET)).status == 504
        gate.opened.set()
        assert (await before.response()).body == b"slow"


async def test_breaker_settings_change_and_its_state_stays():
    async with sidecar(BROKEN) as rig:
        for _ in range(3):
            assert (await rig.ask(GET)).status == 500
        breaker = rig.plane.breakers["up"]
        assert breaker.state == "closed"
        rig.plane.apply(changed(rig, breaker=BreakerSettings(consecutive_failures=4, cooldown_s=60)))
        assert rig.plane.breakers["up"] is breaker
        assert (await rig.ask(GET)).status == 500
        assert breaker.state == "open"
        rig.plane.apply(changed(rig, breaker=BreakerSettings(consecutive_failures=9, cooldown_s=60)))
        assert (await rig.ask(GET)).status == 503
        assert len(rig.upstream.requests) == 4


async def test_an_open_breaker_stays_open_where_its_upstream_moves():
    """A restart of the deployment is no recovery: the breaker finds out by its probes."""
    settings = {"breaker": BreakerSettings(consecutive_failures=1, cooldown_s=60)}
    async with (
        serving(says(b"new")) as other,
        sidecar(answering(reply(status=b"500 Oh")), upstream=settings) as rig,
    ):
        assert (await rig.ask(GET)).status == 500
        rig.plane.apply(changed(rig, url=other.url))
        assert (await rig.ask(GET)).status == 503
        rig.plane.breakers["up"].close(asyncio.get_running_loop().time(), "seen to")
        assert (await rig.ask(GET)).body == b"new"


async def test_at_another_url_new_requests_go_there_and_those_under_way_end_where_they_began():
    gate = Gate(b"old")
    async with serving(says(b"new")) as other, sidecar(gate) as rig:
        before = await rig.client()
        before.send(GET + GET)
        await rig.upstream.until_requests(1)
        rig.plane.apply(changed(rig, url=other.url))
        assert (await rig.ask(GET)).body == b"new"
        gate.opened.set()
        assert (await before.response()).body == b"old"
        assert (await before.response()).body == b"new"  # the second was not under way yet
        await until(lambda: rig.upstream.wires[0].lost, "the close of what is not needed any more")
        assert (cell(rig).inflight, cell(rig).queued) == (0, 0)


async def test_nobody_starves_in_the_queue_when_the_upstream_moves():
    """Slots that the old place holds come free for those who wait for the new one."""
    gate = Gate(b"old")
    async with (
        serving(says(b"new")) as other,
        sidecar(gate, upstream=ONE) as rig,
    ):
        clients = [await rig.client() for _ in range(4)]
        clients[0].send(GET)
        await rig.upstream.until_requests(1)
        clients[1].send(GET)
        await until(lambda: cell(rig).queued == 1, "one in the queue")
        rig.plane.apply(changed(rig, url=other.url))
        for wire in clients[2:]:
            wire.send(GET)
        await until(lambda: cell(rig).queued == 3, "three in the queue")
        gate.opened.set()
        answers = [await wire.response() for wire in clients]
        assert [answer.status for answer in answers] == [200] * 4
        assert [answer.body for answer in answers] == [b"old", b"new", b"new", b"new"]
        assert (cell(rig).inflight, cell(rig).queued) == (0, 0)


async def test_a_removed_upstream_ends_its_requests_well():
    gate = Gate()
    async with sidecar(gate, upstream=ONE) as rig:
        running, waiting = await rig.client(), await rig.client()
        running.send(GET)
        await rig.upstream.until_requests(1)
        waiting.send(GET)
        await until(lambda: cell(rig).queued == 1, "one in the queue")
        rig.plane.apply(replace(rig.policy, routes=(), upstreams={}))
        assert (await rig.ask(GET)).status == 404
        assert rig.plane.breakers == {}
        gate.opened.set()
        assert (await running.response()).body == b"slow"
        assert (await waiting.response()).body == b"slow"
        assert (cell(rig).inflight, cell(rig).queued) == (0, 0)
        await until(lambda: all(wire.eof for wire in rig.upstream.wires), "the close of its connections")


async def test_an_upstream_that_comes_back_serves_though_its_old_requests_still_run():
    gate = Gate()
    async with sidecar(gate, upstream=ONE) as rig:
        running, after = await rig.client(), await rig.client()
        running.send(GET)
        await rig.upstream.until_requests(1)
        rig.plane.apply(replace(rig.policy, routes=(), upstreams={}))
        rig.plane.apply(rig.policy)
        after.send(GET)
        await turn()
        gate.opened.set()
        assert (await running.response()).body == b"slow"
        assert (await after.response()).body == b"slow"
        assert (cell(rig).inflight, cell(rig).queued) == (0, 0)


def unusable(rig: Rig, tmp_path) -> Policy:
    """A policy whose every other part is new and in order."""
    file = str(tmp_path / "ca.pem")
    upstreams = {
        "up": replace(rig.policy.upstreams["up"], url="http://127.0.0.1:9", timeout_ms=1, max_inflight=1),
        "more": replace(UPSTREAM, url="http://127.0.0.1:9"),
        "tls": replace(UPSTREAM, url="https://localhost:1", ca_file=file),
    }
    return replace(
        rig.policy, routes=(), upstreams=upstreams, authorities={file: "no certificate"},
        limits=Limits(head_bytes=1024), toggles=Toggles(version=9, kill_switch=True),
    )  # fmt: skip


async def test_an_unusable_ca_file_leaves_everything_as_it_was(tmp_path):
    """Whole or not at all: settings, breakers, counters, connections; and traffic goes on."""
    gate = Gate()
    async with sidecar(gate, says(b"b")) as rig:
        wire, under_way = await rig.client(), await rig.client()
        under_way.send(GET)
        await rig.upstream.until_requests(1)
        before = rig.plane.policy, dict(rig.plane.breakers), rig.plane.killed
        with pytest.raises(SettingsError, match=r"ca\.pem"):
            rig.plane.apply(unusable(rig, tmp_path))
        assert before == (rig.plane.policy, dict(rig.plane.breakers), rig.plane.killed)
        assert set(rig.counters.upstreams) == {"up"}
        wire.send(GET.replace(b"Host: x", b"Host: x\r\nX-Long: " + b"a" * 3_000))
        answer = await wire.response()
        assert (answer.status, answer.body) == (200, b"b")
        assert answer.get("x-fusebox-decision").endswith(b";v=1")
        gate.opened.set()
        assert (await under_way.response()).body == b"slow"


async def test_an_unusable_identity_or_network_leaves_everything_as_it_was():
    async with sidecar(says(b"a")) as rig:
        for broken in ({"identity": Identity(user=("nonsense",))}, {"trusted_proxies": ("nowhere/99",)}):
            with pytest.raises(ValueError, match=r"non|nowhere"):
                rig.plane.apply(replace(rig.policy, routes=(), upstreams={}, **broken))
        assert rig.plane.policy is rig.policy
        assert (await rig.ask(GET)).body == b"a"


async def test_policies_change_all_the_time_under_load_and_no_request_fails():
    """Urls, limits, timeouts, routes: every answer is a whole 200 of one of the two upstreams."""
    async with (
        serving(says(b"new")) as other,
        sidecar(says(b"old"), upstream=TWO) as rig,
    ):
        variants = (
            rig.policy,
            changed(rig, url=other.url),
            changed(rig, url=[rig.upstream.url, other.url], max_inflight=3),
            changed(rig, timeout_ms=4_000, eject_s=7.0, idle_s=9.0),
            replace(rig.policy, routes=(ROUTE, replace(ROUTE, name="p", path="/p"))),
            policy(other.url, limits=Limits(head_fields=50)),
        )
        clients = [await rig.client() for _ in range(8)]
        bodies = set()
        for number in range(90):
            for wire in clients:
                wire.send(GET)
            rig.plane.apply(variants[number % len(variants)])
            for wire in clients:
                answer = await wire.response()
                assert answer.status == 200, answer.body
                bodies.add(answer.body)
        assert bodies == {b"old", b"new"}
        assert (cell(rig).inflight, cell(rig).queued) == (0, 0)
        assert cell(rig).outcomes["success"] == 720
