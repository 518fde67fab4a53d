"""Shadows of forward routes on real sockets: the client never notices, nobody is judged by them."""

import asyncio
import gzip
import time
from dataclasses import replace

import orjson
import pytest
from harness import Wire, answering, reply, turn, until
from recommending import hanging
from shadowing import GET, pair

from proxy.core.breaker import BreakerSettings
from proxy.core.policy import Identity, Route
from proxy.core.shadow import drawn
from proxy.core.toggles import Toggles
from proxy.dataplane.shadow import RouteShadow

OK = answering(reply(b"hello", b"Content-Type: text/plain"))
OTHER = answering(reply(b"hallo", b"Content-Type: text/plain"))


def listing(ids):
    return reply(orjson.dumps({"items": [{"id": key} for key in ids]}))


def alike(answer):
    """What of an answer does not depend on the clock."""
    return [line for line in answer.split(b"\r\n") if not line.startswith((b"Date:", b"Server-Timing:"))]


async def raw(rig, request=GET % b"X-Request-Id: one\r\n"):
    """Every byte that a client gets."""
    wire = await rig.client()
    wire.send(request)
    await wire.response()
    await turn()
    return bytes(wire.data)


class TestTheClient:
    @pytest.mark.parametrize("new", [OK, OTHER, hanging, answering(b"nonsense\r\n\r\n")])
    async def test_gets_the_same_bytes_whatever_the_shadow_does(self, new):
        async with pair(OK, new) as rig:
            shadowed = await raw(rig)
            rig.change(percent=0)
            assert alike(shadowed) == alike(await raw(rig))

    async def test_has_its_answer_before_anything_is_copied(self):
        """The upstream holds its answer back, and so long there is no copy."""
        go = asyncio.Event()

        async def slowly(wire: Wire) -> None:
            while True:
                await wire.request()
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
                await go.wait()
                wire.send(b"lo")

        async with pair(slowly, OK) as rig:
            wire = await rig.client()
            wire.send(GET % b"")
            await wire.response_head()
            await turn()
            assert rig.new.wires == []
            go.set()
            await wire.until(lambda: wire.data.endswith(b"hello"), "the rest")
            assert await rig.until_results(1) == {"same": 1}

    async def test_a_reload_just_before_its_copy_is_no_fault(self, monkeypatch):
        """The upstream of shadows is another one by then."""
        start = RouteShadow._start
        async with pair(OK, OK) as rig:

            def reloading(shadow, run):
                rig.change(upstream="up")
                start(shadow, run)

            monkeypatch.setattr(RouteShadow, "_start", reloading)
            assert b"hello" in await raw(rig)
            await until(lambda: rig.at_rest, "rest")
            assert (rig.results, rig.new.wires) == ({}, [])

    async def test_has_every_byte_of_it_on_the_way_when_the_copy_begins(self, monkeypatch):
        """And whoever gave the answer has gone on meanwhile: the next request waits for no copy."""
        seen = []
        start, copy = RouteShadow._start, RouteShadow.copy

        def started(shadow, run):
            seen.append([it.transport.get_write_buffer_size() for it in shadow.plane.clients.connections])
            start(shadow, run)

        def copied(*about):
            copy(*about)
            seen.append("gone on")

        monkeypatch.setattr(RouteShadow, "_start", started)
        monkeypatch.setattr(RouteShadow, "copy", copied)
        async with pair(answering(reply(bytes(50_000))), OK) as rig:
            await rig.ask(GET % b"")
            await rig.until_results(1)
            assert seen == ["gone on", [0]]

    async def test_waits_for_nothing_of_it(self):
        """A hundred requests on one connection, each after the other's answer, beside a shadow that hangs."""
        async with pair(OK, hanging, shadow={"timeout_ms": 50}) as rig:
            wire = await rig.client()
            began = time.perf_counter()
            for _ in range(100):
                wire.send(GET % b"")
                assert (await wire.response()).body == b"hello"
            assert time.perf_counter() - began < 2.0  # one that waited would have taken 5 s
            assert (await rig.until_results(100)).keys() <= {"timeout", "skipped_busy", "skipped_breaker"}
            await until(lambda: rig.at_rest, "rest")
            assert rig.cell.results["timeout"] >= 8

    async def test_may_leave_with_its_answer(self):
        async with pair(OK, OK) as rig:
            wire = await rig.client()
            wire.send(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await wire.response()
            await wire.ended()
            assert await rig.until_results(1) == {"same": 1}


class TestTheCopy:
    async def test_asks_the_same_without_credentials_and_says_what_it_is(self):
        async with pair(OK, OK, shadow={"headers": ("X-Tenant",)}) as rig:
            await rig.ask(
                GET % b"Accept: text/plain\r\nCookie: s=1\r\nAuthorization: Basic eA==\r\nX-Api-Key: k\r\n"
                b"X-Tenant: t\r\nX-User-Id: 7\r\nX-Request-Id: r-1\r\nX-Fusebox-Shadow: no\r\n"
            )
            await rig.until_results(1)
            (real,), (copy,) = rig.upstream.requests, rig.new.requests
            assert (copy.method, copy.target) == (real.method, real.target) == (b"GET", b"/a?b=1")
            assert copy.get("x-fusebox-shadow") == b"1"
            assert real.get("x-fusebox-shadow") is None
            for name in ("accept", "x-tenant", "x-user-id", "x-request-id", "host", "via", "x-forwarded-for"):
                assert copy.get(name) == real.get(name) is not None, name
            for name in ("cookie", "authorization", "x-api-key"):
                assert copy.get(name) is None
                assert real.get(name) is not None

    async def test_an_identity_in_a_cookie_stays_here(self):
        identity = Identity(user=("cookie:user",), region=("header:authorization",))
        async with pair(OK, OK, identity=identity) as rig:
            await rig.ask(GET % b"Cookie: user=1\r\nAuthorization: x\r\n")
            await rig.until_results(1)
            assert rig.new.requests[0].get("cookie") is rig.new.requests[0].get("authorization") is None

    @pytest.mark.parametrize(
        "request_",
        [
            b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
            b"DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
            b"GET /a HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n\r\n",
            b'GET /a HTTP/1.1\r\nHost: x\r\nif-none-match: "x"\r\n\r\n',
            b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ],
    )  # fmt: skip
    async def test_there_is_none_of_what_is_no_plain_get(self, request_):
        async with pair(OK, OK) as rig:
            await rig.ask(request_, request_.split()[0])
            assert await rig.until_results(0) == {}
            await rig.ask(GET % b"")
            assert await rig.until_results(1) == {"same": 1}
            assert len(rig.new.requests) == 1

    async def test_the_share_is_drawn_by_request_id(self):
        async with pair(OK, OK, shadow={"percent": 30.0, "max_inflight": 300}) as rig:
            wire = await rig.client()
            ids = [b"id-%d" % n for n in range(200)]
            for key in ids:
                wire.send(GET % (b"X-Request-Id: %b\r\n" % key))
                await wire.response()
            wanted = [key for key in ids if drawn(key, 30.0)]
            assert 40 < len(wanted) < 80
            await rig.until_results(len(wanted))
            assert sorted(it.get("x-request-id") for it in rig.new.requests) == sorted(wanted)


class TestComparison:
    @pytest.mark.parametrize(
        ("up", "new", "result"),
        [
            (OK, OK, "same"),
            (OK, OTHER, "other_body"),
            (OK, answering(reply(b"hello", status=b"503 No")), "other_status"),
            (answering(listing("abc")), answering(listing("abd")), "other_items"),
            (OK, answering(reply(gzip.compress(b"hello"), b"Content-Encoding: gzip")), "same"),
            (OK, answering(reply(b"hello", b"Content-Encoding: br")), "unreadable"),
            (OK, answering(reply(bytes(2000))), "skipped_size"),
            (answering(reply(bytes(2000))), OK, "skipped_size"),
            (OK, answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                           b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), "same"),
            (answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                       b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), OK, "same"),
            (OK, answering(b"HTTP/1.1 200 OK\r\n\r\nhello", then=lambda wire: wire.close()), "same"),
            (OK, answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhe", then=Wire.close), "failed"),
            (OK, answering(b"nonsense\r\n\r\n"), "failed"),
            (OK, answering(b"", then=Wire.reset), "failed"),
        ],
    )  # fmt: skip
    async def test_results(self, up, new, result):
        async with pair(up, new, shadow={"max_answer_bytes": 1_024}) as rig:
            assert (await rig.ask(GET % b"")).status == 200
            assert await rig.until_results(1) == {result: 1}
            await until(lambda: rig.at_rest, "rest")

    async def test_agreement_and_times_are_summed(self):
        async with pair(answering(listing("abcd")), answering(listing("abdx"))) as rig:
            await rig.ask(GET % b"")
            await rig.until_results(1)
            cell = rig.cell
            assert (cell.overlap_sum, sum(cell.overlap), sum(cell.rank)) == (0.75, 1, 1)
            assert 0 < cell.rank_sum < 1
            assert 0 < cell.real_seconds < 5 > cell.seconds > 0


class TestNobodyIsJudged:
    async def test_by_a_shadow_that_fails(self):
        """Not the upstream that is real elsewhere, nor its breaker, retries, ejection or latency."""
        strict = {"breaker": BreakerSettings(consecutive_failures=1), "eject_after": 1}
        async with pair(OK, answering(b"", then=Wire.reset), upstreams={"new": strict}) as rig:
            for n in range(1, 4):
                await rig.ask(GET % b"")
                await rig.until_results(n)
            assert rig.results == {"failed": 1, "skipped_breaker": 2}  # its own one, which is told of nowhere
            new = rig.counters.upstream("new")
            assert (sum(new.outcomes.values()), sum(new.buckets), new.retries, new.inflight) == (0, 0, 0, 0)
            status = rig.plane.breakers["new"].snapshot(time.monotonic())
            assert (status.state, status.n, rig.transitions) == ("closed", 0, [])
            assert sum(rig.counters.cell("all", "none").status) == 3
            assert rig.counters.upstream("up").outcomes["success"] == 3
            assert not rig.counters.refusals
            assert rig.counters.aside("mirror").upstream("new").outcomes["reset"] == 1


class TestOff:
    async def test_while_the_upstream_is_cut_off_or_recovers(self):
        async with pair(OK, OK) as rig:
            breaker = rig.plane.breakers["new"]
            breaker.open(time.monotonic(), "test")
            await rig.ask(GET % b"")
            assert await rig.until_results(1) == {"skipped_breaker": 1}
            breaker.auto(time.monotonic(), "test")  # closed, and ramps up
            await rig.ask(GET % b"")
            assert await rig.until_results(2) == {"skipped_breaker": 2}
            breaker.close(time.monotonic(), "test")
            await rig.ask(GET % b"")
            assert await rig.until_results(3) == {"skipped_breaker": 2, "same": 1}

    async def test_where_there_is_no_headroom(self):
        """The shadow's upstream serves real traffic on another route, and half of its slots are taken."""
        busy = Route(name="busy", path="/busy", upstream="new")
        async with pair(OK, hanging, upstreams={"new": {"max_inflight": 2}}) as rig:
            rig.plane.apply(replace(rig.policy, routes=(*rig.policy.routes, busy)))
            wire = await rig.client()
            wire.send(b"GET /busy HTTP/1.1\r\nHost: x\r\n\r\n")
            await rig.new.until_requests(1)
            await rig.ask(GET % b"")
            assert await rig.until_results(1) == {"skipped_no_headroom": 1}
            assert len(rig.new.requests) == 1

    async def test_when_as_many_run_as_may(self):
        async with pair(OK, hanging, shadow={"max_inflight": 2}) as rig:
            wire = await rig.client()
            for _ in range(5):
                wire.send(GET % b"")
                await wire.response()
            assert await rig.until_results(3) == {"skipped_busy": 3}
            assert len(await rig.new.until_requests(2)) == 2
            assert not rig.at_rest

    async def test_while_the_kill_switch_is_on(self):
        async with pair(OK, OK, toggles=Toggles(kill_switch=True)) as rig:
            await rig.ask(GET % b"")
            assert await rig.until_results(1) == {"skipped_killed": 1}

    async def test_while_the_plane_drains(self):
        async with pair(OK, OK) as rig:
            wire = await rig.client()
            rig.plane.draining = True
            wire.send(GET % b"")
            await wire.response()
            await wire.ended()
            assert (rig.results, rig.new.wires) == ({}, [])

    async def test_for_answers_that_do_not_end(self):
        """A stream of events holds a place only for so long."""

        async def events(wire: Wire) -> None:
            await wire.request()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            await asyncio.Event().wait()

        async with pair(events, OK, shadow={"timeout_ms": 50, "max_inflight": 1}) as rig:
            wire = await rig.client()
            wire.send(GET % b"")
            await wire.response_head()
            other = await rig.client()
            other.send(GET % b"")
            await other.response_head()
            assert await rig.until_results(2) == {"skipped_busy": 1, "skipped_late": 1}
            assert rig.new.wires == []


class TestTheEnd:
    async def test_a_client_that_leaves_inside_its_answer_leaves_nothing(self):
        async def half(wire: Wire) -> None:
            await wire.request()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
            await asyncio.Event().wait()

        async with pair(half, OK) as rig:
            wire = await rig.client()
            wire.send(GET % b"")
            await wire.response_head()
            await until(lambda: not rig.at_rest, "the answer being kept")
            wire.reset()
            await until(lambda: rig.at_rest, "rest")
            assert (rig.results, rig.new.wires) == ({}, [])

    async def test_settings_may_change_while_copies_run(self):
        """What runs ends as it began; the next goes by the new settings; a shadow taken away ends at once."""
        go = asyncio.Event()

        async def held(wire: Wire) -> None:
            while True:
                await wire.request()
                await go.wait()
                wire.send(reply(b"hello"))

        async with pair(OK, held) as rig:
            await rig.ask(GET % b"")
            await rig.new.until_requests(1)
            rig.change(timeout_ms=1_000, max_inflight=1)
            await rig.ask(GET % b"")
            assert await rig.until_results(1) == {"skipped_busy": 1}
            go.set()
            assert await rig.until_results(2) == {"skipped_busy": 1, "same": 1}
            go.clear()
            await rig.ask(GET % b"")
            await rig.new.until_requests(2)
            rig.change(percent=0)
            await rig.ask(GET % b"")
            await until(lambda: all(wire.eof for wire in rig.new.wires), "the end of the copy")
            assert rig.results == {"skipped_busy": 1, "same": 1}
            assert rig.at_rest

    async def test_closing_the_plane_ends_them(self):
        async with pair(OK, hanging) as rig:
            await rig.ask(GET % b"")
            await rig.new.until_requests(1)
            rig.plane.close()
            await until(lambda: rig.at_rest and all(wire.eof for wire in rig.new.wires), "rest")
