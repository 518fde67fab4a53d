"""The recommend route when sources hang, break, leave or lie: k items all the same, and honest counts."""

import asyncio
import socket

import orjson
import pytest
from harness import Wire, answering, reply, until
from recommending import GET, Recommended, film, hanging, many, offering, offers, stage

from proxy.core.breaker import BreakerSettings
from proxy.core.candidates import Fields
from proxy.dataplane.source_call import SourceCall

GOOD = offering(*many("c", 4))
BROKEN = answering(reply(b"{}", status=b"500 Oh"))


async def falls_silent(wire: Wire) -> None:
    """A head, half a body, and no more."""
    await wire.request()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n" + b'{"items": [')
    await asyncio.Event().wait()


@pytest.mark.parametrize("silent", [hanging, falls_silent])
@pytest.mark.parametrize("name", ["cf", "content"])
async def test_a_source_that_hangs_is_left_behind_at_its_timeout(name, silent):
    """The other source answers alone, popularity fills, and the user waits for the timeout at most."""
    scripts = {"cf": offering(*many("c", 2)), "content": offering(*many("c", 2)), name: silent}
    async with stage(scripts["cf"], scripts["content"], sources={name: {"timeout_ms": 120}}) as rig:
        got = await rig.recommend(4)
        assert got.ids[:2] == ["c0", "c1"]
        assert got.sources[2:] == ["popularity"] * 2
        assert (got.level, got.degraded, got.metadata["coverage"]) == ("D", True, 0.5)
        assert 115 <= got.timings[name] <= got.timings["total"] < 1_000
        assert rig.outcomes(name) == {"timeout": 1}
        assert rig.failures(name) == (1, 1)
        assert rig.slots == (4, 2)
        assert rig.quiet


async def test_a_source_that_hangs_degrades_an_answer_that_the_other_fills():
    async with stage(hanging, GOOD, sources={"cf": {"timeout_ms": 50}}) as rig:
        got = await rig.recommend(4)
        assert (got.level, got.degraded, got.metadata["coverage"]) == ("A", True, 1.0)
        assert set(got.sources) == {"content"}
        assert got.items[0]["score"] == 1.0  # the other has weight 1 (facts 2.1)


async def test_a_trickle_does_not_stretch_the_timeout():
    """Bytes that keep coming are no answer: the source has its time for the head and again for the body."""

    async def trickling(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not wire.lost:
            wire.send(b" ")
            await asyncio.sleep(0)

    async with stage(trickling, GOOD, sources={"cf": {"timeout_ms": 100}}) as rig:
        got = await rig.recommend(4)
        assert got.timings["total"] < 1_000
        assert rig.outcomes("cf") == {"timeout": 1}


@pytest.mark.parametrize("bound", [{"timeout_ms": 150}, {"connect_timeout_ms": 150}])
async def test_a_source_that_does_not_accept_is_not_waited_for(bound):
    """Connecting is part of the time a user waits: neither limit is exceeded by much."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        limits = {"connect_timeout_ms": 5_000, "timeout_ms": 5_000, **bound}
        async with stage(hanging, GOOD, sources={"cf": {"url": url, **limits}}) as rig:
            got = await rig.recommend(4)
            assert set(got.sources) == {"content"}
            assert got.timings["total"] < 1_500
        for sock in waiting:
            sock.close()


@pytest.mark.parametrize("script", [BROKEN, answering(b"", then=Wire.reset), answering(b"junk\r\n\r\n")])
async def test_both_broken_is_popularity_exactly_k(script):
    async with stage(script, script) as rig:
        for k in (1, 5, 20):
            got = await rig.recommend(k)
            assert got.ids == [f"p{n}" for n in range(k)]
            assert (got.level, got.degraded, got.metadata["coverage"]) == ("D", True, 0.0)
        assert rig.slots == (26, 0)
        assert rig.failures("cf") == rig.failures("content") == (3, 3)
        assert rig.counters.cell("films", "none").status[2] == 3
        assert rig.quiet


async def test_an_open_breaker_is_not_waited_for():
    """Content answers alone and at once; the source behind the breaker hears nothing."""
    breaker = BreakerSettings(consecutive_failures=2, cooldown_s=60)
    async with stage(BROKEN, GOOD, sources={"cf": {"breaker": breaker}}) as rig:
        for _ in range(2):
            await rig.recommend(4)
        assert rig.plane.breakers["cf"].state == "open"
        asked = len(rig.cf.requests)
        got = await rig.recommend(4)
        assert set(got.sources) == {"content"}
        assert (got.level, got.degraded) == ("A", True)
        assert got.timings["cf"] == 0
        assert len(rig.cf.requests) == asked == 2
        assert rig.outcomes("cf") == {"error": 2, "breaker_open": 1}
        assert rig.slots == (12, 12)
        assert [(moved.upstream, moved.to) for moved in rig.transitions] == [("cf", "open")]


async def test_both_breakers_open_is_popularity_and_counts_against_the_sources():
    """Cut off by its breaker is a failure of the source (facts 2.18)."""
    breaker = BreakerSettings(consecutive_failures=1, cooldown_s=60)
    settings = {"cf": {"breaker": breaker}, "content": {"breaker": breaker}}
    async with stage(BROKEN, BROKEN, sources=settings) as rig:
        for _ in range(3):
            assert (await rig.recommend(4)).level == "D"
        assert (len(rig.cf.requests), len(rig.content.requests)) == (1, 1)
        assert rig.slots == (12, 0)


async def test_breakers_held_open_by_hand_are_not_judged():
    """An answer that fell back by decision counts in no trigger (facts 2.18)."""
    async with stage(GOOD, GOOD) as rig:
        for breaker in rig.plane.breakers.values():
            breaker.open(asyncio.get_running_loop().time(), "maintenance")
        got = await rig.recommend(4)
        assert set(got.sources) == {"popularity"}
        assert rig.cf.wires == rig.content.wires == []
        assert rig.slots == (0, 0)


def offers_as(kind: bytes) -> bytes:
    return reply(orjson.dumps({"items": many("a", 4)}), b"CONTENT-type: " + kind)


LIES = {
    "an error with an empty list": reply(b'{"items": [], "error": "no model"}'),
    "NaN": reply(b'{"items": [{"id": "a", "score": NaN}]}'),
    "Infinity": reply(b'{"items": [{"id": "a", "score": Infinity}]}'),
    "too large": offers(*many("a", 4), film("b", 1, note="x" * 2 * 1024 * 1024)),
    "too large, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n" + b" " * 2**21,
    "no JSON": reply(b"<html>"),
    "half JSON": reply(b'{"items": [{"id": "a", '),
    "a list": reply(b"[]"),
    "no items": reply(b"{}"),
    "items that are none": reply(b'{"items": {"a": 1}}'),
    "no score": reply(b'{"items": [{"id": "a"}]}'),
    "a score in words": reply(b'{"items": [{"id": "a", "score": "1"}]}'),
    "an id that is a number": reply(b'{"items": [{"id": 1, "score": 1}]}'),
    "no bytes": reply(b""),
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "302": reply(b'{"items": []}', b"Location: /x", status=b"302 Found"),
    "201": reply(b'{"items": []}', status=b"201 Created"),
    "NaN in words": reply(b'{"items": [{"id": "a", "score": "NaN"}]}'),
    "a number beyond doubles": reply(b'{"items": [{"id": "a", "score": 1e999}]}'),
    "endless nesting": reply(b'{"items": ' + b"[" * 9_000 + b"]" * 9_000 + b"}"),
    "one film again and again": offers(*[film("a", 1)] * 9),
    "too many items": offers(*({"id": str(n), "score": n} for n in range(10_001))),
    "HTML that calls itself so": offers_as(b"text/html; charset=utf-8"),
    "JSON that calls itself text": offers_as(b"text/plain"),
    "two types": offers_as(b"application/json\r\nContent-Type: text/html"),
    "not UTF-8": reply(b'{"items": [{"id": "\xff", "score": 1}]}'),
}  # fmt: skip


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (offers({"id": "a"}), "an item without id or score"),
        (offers_as(b"text/plain"), "its Content-Type is not JSON"),
        (reply(b"", status=b"302 Found"), "status 302"),
    ],
)
async def test_the_log_says_what_broke_the_contract(caplog, lie, said):
    """Whoever maps a source by its fields has nothing else to go by."""
    async with stage(answering(lie), GOOD) as rig:
        await rig.recommend(1)
    assert [it.detail for it in caplog.records if hasattr(it, "detail")] == [
        f"not what sources answer: {said}"
    ]


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_an_answer_that_breaks_the_contract_is_a_failure_of_its_source(lie):
    """Counted as `invalid`, held against the source, and nothing of it reaches the user (facts 1)."""
    async with stage(answering(lie), GOOD) as rig:
        got = await rig.recommend(4)
        assert got.ids == ["c0", "c1", "c2", "c3"]
        assert got.degraded
        assert rig.outcomes("cf") == {"invalid": 1}
        assert rig.failures("cf") == (1, 1)
        assert rig.failures("content") == (1, 0)
        assert rig.quiet


@pytest.mark.parametrize(
    "kind",
    [
        b"application/json;charset=utf-8",
        b"Application/JSON",
        b"application/vnd.films.v2+json",
        b"text/json",
        b"",
    ],
)
async def test_json_by_any_name_is_read(kind):
    async with stage(answering(offers_as(kind)), offering()) as rig:
        got = await rig.recommend(4)
        assert (set(got.sources), got.degraded) == ({"cf"}, False)


async def test_a_page_of_an_error_is_no_matter_of_its_type():
    """Its status has said it all: 5xx is held against the source, 4xx is not."""
    page = {
        status: reply(b"<html>", b"Content-Type: text/html", status=status)
        for status in (b"503 No", b"404 No")
    }
    async with stage(answering(page[b"503 No"]), answering(page[b"404 No"])) as rig:
        assert (await rig.recommend(4)).degraded
        assert rig.outcomes("cf") == {"error": 1}
        assert rig.outcomes("content") == {"success": 1}


async def test_an_answer_is_read_by_the_names_of_its_upstream():
    """`[upstreams.NAME.fields]`; each source has its own."""
    body = (
        b'{"data": {"results": [{"movie_id": 7, "rank_score": 2.5, "movie": {"title": "Seven"}, "year": 1995,'
    )
    body += b' "genres": ["Crime"], "providers": ["hulu"]}]}, "status": "ok"}'
    fields = Fields(
        items="data.results", id="movie_id", score="rank_score", title="movie.title", error="status.error",
        number_ids=True,
    )  # fmt: skip
    async with stage(
        answering(reply(body)), offering(film("b", 1)), sources={"cf": {"fields": fields}}
    ) as rig:
        got = await rig.recommend(2)
        shown = {"id": "7", "title": "Seven", "year": 1995, "genres": ["Crime"], "source": "cf"}
        assert [shown.items() <= item.items() for item in got.items] == [True, False]
        assert (await rig.recommend(2, b"&providers=hbo")).sources == ["content", "popularity"]
    async with stage(GOOD, offering(), sources={"cf": {"fields": fields}}) as rig:
        assert (await rig.recommend(2)).level == "D"
        assert rig.outcomes("cf") == {"invalid": 1}


async def test_a_fault_of_ours_in_asking_is_a_source_that_failed(monkeypatch):
    """The others answer, what was begun is ended, and it is held against nobody."""
    real = SourceCall.begin

    def broken(self, now, bucket):
        real(self, now, bucket)
        if self.pool.name == "cf":
            raise RuntimeError("a fault")

    async with stage(GOOD, GOOD) as rig:
        monkeypatch.setattr(SourceCall, "begin", broken)
        got = await rig.recommend(4)
        assert (set(got.sources), got.degraded) == ({"content"}, True)
        assert rig.failures("cf") == (0, 0)
        assert rig.quiet
        assert len(rig.complaints) == 1
        rig.complaints.clear()


async def test_a_fault_of_ours_in_blending_is_popularity(monkeypatch):
    async with stage(GOOD, GOOD) as rig:
        monkeypatch.setattr("proxy.dataplane.recommend.first_round", None)
        got = await rig.recommend(4)
        assert (got.sources, got.level) == (["popularity"] * 4, "D")
        assert rig.quiet
        rig.complaints.clear()


async def test_an_empty_list_alone_is_an_answer():
    async with stage(offering(), GOOD) as rig:
        got = await rig.recommend(4)
        assert (set(got.sources), got.degraded) == ({"content"}, False)
        assert rig.outcomes("cf") == {"success": 1}


@pytest.mark.parametrize("status", [b"404 Not Found", b"400 Bad Request", b"429 Slow Down"])
async def test_a_4xx_of_a_source_is_no_candidates_and_not_held_against_it(status):
    async with stage(answering(reply(b"{}", status=status)), GOOD) as rig:
        got = await rig.recommend(4)
        assert (set(got.sources), got.degraded) == ({"content"}, True)
        assert rig.outcomes("cf") == {"success": 1}
        assert rig.failures("cf") == (1, 0)


async def test_a_5xx_of_a_source_is_held_against_it():
    async with stage(answering(reply(orjson.dumps({"items": many("a", 4)}), status=b"503 No")), GOOD) as rig:
        assert set((await rig.recommend(4)).sources) == {"content"}
        assert rig.outcomes("cf") == {"error": 1}
        assert rig.failures("cf") == (1, 1)


async def test_a_client_that_leaves_midway_is_neutral():
    """No verdict on any source, no slot counted, nothing left behind."""
    async with stage(hanging, GOOD) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", b""))
        await rig.cf.until_requests(1)
        await until(lambda: rig.outcomes("content"), "the other source's answer")
        wire.reset()
        await until(lambda: rig.outcomes("cf"), "the account")
        assert rig.outcomes("cf") == {"aborted": 1}
        assert rig.outcomes("content") == {"success": 1}
        assert rig.failures("cf") == (0, 0)
        assert rig.slots == (0, 0)
        assert rig.quiet
        assert rig.counters.cell("films", "none").status[4] == 1
        await until(lambda: rig.cf.wires[0].eof, "the end of the call upstream")


async def test_a_client_that_leaves_while_sources_are_queued_for_gives_its_place_back():
    one = {"max_inflight": 1, "max_queue": 5}
    async with stage(hanging, hanging, sources={"cf": one, "content": one}) as rig:
        clients = [await rig.client() for _ in range(4)]
        for k, wire in enumerate(clients, 4):
            wire.send(GET % (k, b"", b""))
        cells = rig.counters.upstreams
        await until(lambda: cells["cf"].queued == cells["content"].queued == 3, "three in each queue")
        for wire in reversed(clients):
            wire.reset()
        await until(lambda: rig.quiet, "rest")
        assert rig.outcomes("cf") == rig.outcomes("content") == {"aborted": 4}
        assert len(rig.cf.requests) <= 1


async def test_a_source_without_a_free_slot_is_done_without():
    """Shed here: the source's fault in no breaker, and the user gets k items."""
    full = {"max_inflight": 1, "max_queue": 0}
    async with stage(hanging, GOOD, sources={"cf": full}) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", b""))
        await rig.cf.until_requests(1)
        got = await rig.recommend(3)
        assert (set(got.sources), got.degraded) == ({"content"}, True)
        assert rig.outcomes("cf") == {"overloaded": 1}
        assert rig.failures("cf") == (0, 0)


async def test_a_stale_connection_of_a_source_costs_nobody_an_answer():
    """The idle race: the source closes its kept connection just as it is asked again."""

    async def once(wire: Wire) -> None:
        await wire.request()
        wire.send(offers(*many("a", 4)))
        await wire.request()
        wire.close()

    async with stage(once, GOOD) as rig:
        for _ in range(3):
            got = await rig.recommend(4)
            assert not got.degraded
        assert rig.outcomes("cf") == {"success": 3}


async def test_a_thousand_answers_with_failing_sources_leave_nothing():
    """Every answer holds k items whatever came before it, and every call is accounted for once."""
    state = {"n": 0}

    async def moody(wire: Wire) -> None:
        while True:
            await wire.request()
            state["n"] += 1
            mood = state["n"] % 5
            if mood == 0:
                wire.send(reply(b"{}", status=b"500 Oh"))
            elif mood == 1:
                wire.reset()
                return
            elif mood == 2:
                wire.send(reply(b'{"items": 1}'))
            else:
                wire.send(offers(*many("m", 3)))

    async with stage(moody, moody) as rig:
        clients = [await rig.client() for _ in range(10)]
        for _ in range(20):
            for n, wire in enumerate(clients):
                wire.send(GET % (5, b"&client=%d" % n, b"") * 5)
            for wire in clients:
                for _ in range(5):
                    Recommended(await wire.response(), 5)
        assert rig.quiet
        for name in ("cf", "content"):
            assert sum(rig.outcomes(name).values()) == 1_000
        assert rig.slots[0] == 5_000
        assert sum(rig.counters.levels.values()) == 1_000
