"""Where an upstream is: literal addresses, names, and names that stop resolving."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from calling import Caller, changed, pool_of, serving

from proxy.clock import monotonic
from proxy.core.policy import Upstream
from proxy.dataplane.failures import Failure
from proxy.dataplane.place import Place
from proxy.errors import SettingsError


class Loop(asyncio.SelectorEventLoop):
    """A loop whose names are those of `zone`; names that are not in it do not resolve."""

    def __init__(self) -> None:
        super().__init__()
        self.zone: dict[str, list[str]] = {}
        self.asked: list[str] = []

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):  # noqa: A002
        self.asked.append(host)
        if host not in self.zone:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in self.zone[host]]


def run(work: Callable[[Loop], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work(runner.get_loop()))


@pytest.mark.parametrize(
    ("url", "known", "authority"),
    [
        ("http://127.0.0.1:81", [("127.0.0.1", 81)], b"127.0.0.1:81"),
        ("http://127.0.0.1", [("127.0.0.1", 80)], b"127.0.0.1"),
        ("https://127.0.0.1", [("127.0.0.1", 443)], b"127.0.0.1"),
        ("http://[::1]:81", [("::1", 81)], b"[::1]:81"),
        (["http://127.0.0.1:1", "http://127.0.0.2:2"], [("127.0.0.1", 1), ("127.0.0.2", 2)], b"127.0.0.1:1"),
    ],
)
def test_literal_addresses_are_known_at_once(url, known, authority):
    place = Place(Upstream(url=url))
    assert (place.literal, place.known, place.authority) == (True, known, authority)
    assert (place.tls is not None) == str(url).startswith("https")


def test_a_password_in_a_url_is_told_nobody():
    assert Place(Upstream(url="http://user:secret@127.0.0.1:81")).authority == b"127.0.0.1:81"


def test_places_with_the_same_key_are_the_same():
    """What decides where calls go, and whom they trust there."""
    base = Place(Upstream(url="http://a:1")).key
    assert Place(Upstream(url=["http://a:1"], timeout_ms=5)).key == base
    for other in (Upstream(url="http://a:2"), Upstream(url="http://a:1", server_name="b")):
        assert Place(other).key != base


def test_authorities_that_are_none_are_a_settings_error():
    """Named with its file, before anything has changed."""
    for text in ("no certificate", ""):
        with pytest.raises(SettingsError, match=r"/some/ca\.pem"):
            Place(Upstream(url="https://a", ca_file="/some/ca.pem"), text)


def test_names_are_resolved_to_all_their_addresses():
    async def work(loop: Loop) -> None:
        loop.zone = {"films": ["10.0.0.1", "10.0.0.2"], "more": ["10.0.0.2", "10.0.0.3"]}
        place = Place(Upstream(url=["http://films:81", "http://more:81"]))
        assert (place.literal, place.known) == (False, [])
        expected = [("10.0.0.1", 81), ("10.0.0.2", 81), ("10.0.0.3", 81)]
        assert await place.resolve() == place.known == expected

    run(work)


def test_a_literal_asks_no_resolver():
    async def work(loop: Loop) -> None:
        assert await Place(Upstream(url="http://127.0.0.1:81")).resolve() == [("127.0.0.1", 81)]
        assert loop.asked == []

    run(work)


def test_a_name_that_never_resolved_is_an_error_and_one_that_did_is_not():
    """Last good kept on failure (wire/README, DNS)."""

    async def work(loop: Loop) -> None:
        place = Place(Upstream(url="http://films:81"))
        with pytest.raises(OSError, match="not known"):
            await place.resolve()
        loop.zone = {"films": ["10.0.0.1"]}
        await place.resolve()
        loop.zone = {}
        assert await place.resolve() == [("10.0.0.1", 81)]
        loop.zone = {"films": ["10.0.0.9"]}
        assert await place.resolve() == [("10.0.0.9", 81)]

    run(work)


def test_one_name_that_fails_leaves_its_last_good_addresses_beside_the_new_of_others():
    async def work(loop: Loop) -> None:
        place = Place(Upstream(url=["http://films:81", "http://more:81"]))
        loop.zone = {"films": ["10.0.0.1"], "more": ["10.0.0.2"]}
        await place.resolve()
        loop.zone = {"films": ["10.0.0.5"]}
        assert {("10.0.0.5", 81), ("10.0.0.2", 81)} <= set(await place.resolve())

    run(work)


def test_a_call_of_a_name_resolves_it_and_follows_it_when_it_moves():
    """Idle connections to an address that is no longer named are closed, and used no more."""

    async def work(loop: Loop) -> None:
        async with serving() as upstream:
            port = upstream.url.rpartition(":")[2]
            loop.zone = {"films": ["127.0.0.1"]}
            pool = pool_of(f"http://films:{port}")
            first = await Caller(pool).ask().connected()
            assert (first.failure, first.connection.address.host) == (None, "127.0.0.1")
            first.done()
            loop.zone = {"films": ["127.0.0.2"]}
            await pool.refresh()
            assert first.connection.transport.is_closing()
            assert pool.addresses.pick(monotonic()).host == "127.0.0.2"
            loop.zone = {}
            await pool.refresh()
            assert pool.addresses.pick(monotonic()).host == "127.0.0.2"
            pool.close()

    run(work)


def test_calls_of_a_name_that_does_not_resolve_fail_and_give_their_slots_back():
    async def work(loop: Loop) -> None:
        pool = pool_of("http://films:81", max_inflight=2)
        for caller in [Caller(pool).ask() for _ in range(4)]:
            assert (await caller.connected()).failure is Failure.DNS
        assert (pool.cell.inflight, pool.cell.queued) == (0, 0)

    run(work)


def test_many_calls_wait_for_one_resolution():
    async def work(loop: Loop) -> None:
        async with serving() as upstream:
            port = upstream.url.rpartition(":")[2]
            loop.zone = {"films": ["127.0.0.1"]}
            pool = pool_of(f"http://films:{port}")
            callers = [Caller(pool).ask() for _ in range(20)]
            for caller in callers:
                assert (await caller.connected()).failure is None
            assert loop.asked == ["films"]
            changed(pool, timeout_ms=5)  # the same place: nothing to ask again
            assert Caller(pool).ask().connection is None
            assert loop.asked == ["films"]
            pool.close()

    run(work)
