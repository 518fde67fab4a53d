"""The recommend route over sockets: what is asked of the sources, and what comes of their answers."""

from dataclasses import replace

import orjson
import pytest
from harness import Wire, turn, until
from recommending import FILMS, GET, Recommended, film, hanging, many, offering, offers, stage

from proxy.core.policy import Sources, Toggles

CF = offering(film("a", 10), film("b", 5), film("c", 0))
CONTENT = offering(film("b", 0.9), film("c", 0.8), film("d", 0.7))


async def test_both_sources_are_blended_by_alpha():
    """alpha · cf + (1 - alpha) · content, each normalised to 0…1 (facts 2.1)."""
    async with stage(CF, CONTENT) as rig:
        got = await rig.recommend(4)
        assert got.ids == ["b", "a", "c", "d"]
        assert got.sources == ["hybrid", "cf", "hybrid", "content"]
        assert [item["score"] for item in got.items] == pytest.approx([0.7, 0.6, 0.2, 0.0])
        assert (got.level, got.degraded, got.metadata["coverage"], got.metadata["alpha"]) == (
            "A",
            False,
            1,
            0.6,
        )
        assert set(got.timings) == {"total", "cf", "content"}
        assert got.timings["total"] >= max(got.timings["cf"], got.timings["content"]) > 0
        assert rig.outcomes("cf") == rig.outcomes("content") == {"success": 1}
        assert rig.slots == (4, 4)
        assert rig.counters.levels == {"A": 1}
        assert rig.counters.cell("films", "none").status[2] == 1


@pytest.mark.parametrize(("alpha", "ids"), [(1.0, ["a", "b", "c", "d"]), (0.0, ["b", "c", "a", "d"])])
async def test_alpha_is_the_weight_of_cf(alpha, ids):
    async with stage(CF, CONTENT, route={"alpha": alpha}) as rig:
        assert (await rig.recommend(4)).ids == ids


async def test_what_the_sources_leave_open_is_filled_from_popularity():
    async with stage(offering(film("p1", 1)), offering(film("p3", 1))) as rig:
        got = await rig.recommend(5)
        assert sorted(got.ids[:2]) == ["p1", "p3"]
        assert got.ids[2:] == ["p0", "p2", "p4"]
        assert got.sources[2:] == ["popularity"] * 3
        assert (got.level, got.degraded, got.metadata["coverage"]) == ("D", True, 0.4)
        assert rig.slots == (5, 2)


async def test_more_than_k_is_cut_to_k():
    async with stage(offering(*many("a", 50)), offering(*many("b", 50))) as rig:
        assert (await rig.recommend(20)).metadata["coverage"] == 1.0


async def test_the_catalogue_lends_titles_and_what_nobody_knows_is_left_out():
    bare = [{"id": "p4", "score": 3}, {"id": "unknown", "score": 2}, film("a", 1)]
    async with stage(offering(*bare), offering()) as rig:
        got = await rig.recommend(2)
        assert got.ids == ["p4", "a"]
        assert got.items[0]["title"] == "Popular 4"


@pytest.mark.parametrize("size", [1, 10_000], ids=["byte by byte", "whole"])
async def test_sources_may_answer_in_any_framing(size):
    body = orjson.dumps({"items": [film("a", 1)]})

    async def chunking(wire: Wire) -> None:
        await wire.request()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        await wire.pieces(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), size)

    async def closing(wire: Wire) -> None:
        await wire.request()
        await wire.pieces(b"HTTP/1.0 200 OK\r\n\r\n" + orjson.dumps({"items": [film("b", 1)]}), size)
        wire.close()

    async with stage(chunking, closing) as rig:
        got = await rig.recommend(2)
        assert (sorted(got.ids), got.degraded) == (["a", "b"], False)


async def test_the_sources_are_asked_for_candidates_with_user_k_and_filters():
    """Contract: `GET {url}/candidates?user_id&k&…`; of the client's fields only its ids go on."""
    trace = b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"
    fields = b"X-Request-Id: id-7\r\ntraceparent: %b\r\nCookie: secret\r\nAuthorization: secret\r\n" % trace
    query = b"&genres=drama,comedy&year_min=1990&x=%20y"
    async with stage(CF, CONTENT, sources={"content": {"candidates_path": "/v2/similar"}}) as rig:
        await rig.recommend(3, query, fields)
        for source, path in ((rig.cf, b"/candidates"), (rig.content, b"/v2/similar")):
            (asked,) = source.requests
            assert asked.target == path + b"?user_id=7&k=3" + query
            assert asked.method == b"GET"
            assert asked.get("host") == source.url.removeprefix("http://").encode()
            assert (asked.get("x-request-id"), asked.get("traceparent")) == (b"id-7", trace)
            assert asked.get("x-forwarded-for") is None
            assert b"secret" not in source.data


async def test_both_sources_hear_one_id_where_the_client_gave_none():
    async with stage(CF, CONTENT) as rig:
        got = await rig.recommend()
        ids = {request.get("x-request-id") for request in rig.cf.requests + rig.content.requests}
        assert ids == {got.answer.get("x-request-id")}
        traces = {request.get("traceparent") for request in rig.cf.requests + rig.content.requests}
        assert len(traces) == 1
        assert traces != {None}


async def test_filters_hold_for_what_sources_and_popularity_say():
    async with stage(offering(film("a", 2, year=1950), film("b", 1, year=2005)), offering()) as rig:
        got = await rig.recommend(4, b"&year_min=2000&genres=drama")
        assert got.ids == ["b", "a", "p21", "p23"]
        assert got.sources == ["cf", "pruned", "popularity", "popularity"]
        assert (got.level, got.metadata["coverage"], rig.slots) == ("D", 0.5, (4, 2))


@pytest.mark.parametrize(
    "query",
    [b"k=0", b"k=21", b"k=-1", b"k=abc", b"k=1.5", b"k=", b"k=1&k=2", b"year_min=x", b"providers=nowhere",
     b"year_min=2000&year_max=1990"],
)  # fmt: skip
async def test_a_bad_query_is_400_and_asks_nobody(query):
    async with stage(CF, CONTENT) as rig:
        wire = await rig.client()
        wire.send(b"GET /recommendations?%b HTTP/1.1\r\nHost: x\r\n\r\n" % query)
        answer = await wire.response()
        problem = orjson.loads(answer.body)
        assert (answer.status, problem["code"]) == (400, "bad_request")
        assert query.partition(b"=")[0].decode().partition("&")[0] in problem["detail"]
        assert rig.cf.wires == rig.content.wires == []
        assert rig.slots == (0, 0)
        wire.send(GET % (2, b"", b""))  # the connection is as good as before
        assert Recommended(await wire.response(), 2).level == "A"


async def test_without_k_the_routes_default_counts():
    async with stage(CF, CONTENT) as rig:
        answer = await rig.ask(b"GET /recommendations HTTP/1.1\r\nHost: x\r\n\r\n")
        assert Recommended(answer, 5).metadata["k_requested"] == 5
        assert rig.cf.requests[0].target == b"/candidates?user_id=&k=5"


async def test_head_is_get_without_the_body():
    async with stage(CF, CONTENT) as rig:
        fields = b"X-Request-Id: same\r\n"
        got = await rig.recommend(4, b"", fields)
        answer = await rig.ask((GET % (4, b"", fields)).replace(b"GET", b"HEAD", 1), b"HEAD")
        assert (answer.status, answer.body) == (200, b"")
        for name in ("content-length", "content-type", "x-fusebox-decision", "x-request-id"):
            assert answer.get(name) == got.answer.get(name)
        assert [request.method for request in rig.cf.requests] == [b"GET", b"GET"]


async def test_other_methods_are_refused():
    async with stage(CF, CONTENT) as rig:
        answer = await rig.ask(b"POST /recommendations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert (answer.status, answer.get("allow")) == (405, b"GET, HEAD")
        assert rig.cf.wires == []


async def test_requests_in_a_row_share_connections_and_keep_their_order():
    async with stage(CF, CONTENT) as rig:
        wire = await rig.client()
        wire.send(b"".join(GET % (k, b"", b"X-Request-Id: r%d\r\n" % k) for k in range(1, 9)))
        for k in range(1, 9):
            got = Recommended(await wire.response(), k)
            assert got.answer.get("x-request-id") == b"r%d" % k
        assert (len(rig.cf.wires), len(rig.content.wires)) == (1, 1)
        assert rig.slots[0] == sum(range(1, 9))


async def test_a_half_closed_client_gets_its_answer():
    async with stage(CF, CONTENT) as rig:
        wire = await rig.client()
        wire.send(GET % (3, b"", b""))
        wire.half_close()
        assert Recommended(await wire.response(), 3).level == "A"


@pytest.mark.parametrize("sources", [Sources(cf="cf"), Sources(content="content")], ids=["cf", "content"])
async def test_one_source_alone_has_all_the_weight(sources):
    async with stage(
        CF, offering(film("a", 10), film("b", 5), film("c", 0)), route={"sources": sources}
    ) as rig:
        got = await rig.recommend(3)
        assert [item["score"] for item in got.items] == [1.0, 0.5, 0.0]
        assert set(got.sources) == {sources.cf or sources.content}
        assert (got.degraded, len(got.timings)) == (False, 2)


async def test_a_route_without_sources_answers_from_popularity_and_covers_nothing():
    """By decision, not by failure: it is not judged (facts 2.18)."""
    async with stage(CF, CONTENT, route={"sources": Sources()}) as rig:
        got = await rig.recommend(6)
        assert got.ids == [film.id for film in FILMS[:6]]
        assert rig.slots == (0, 0)


# -- kill switch


def killed(rig, version: int = 2):
    return replace(rig.policy, toggles=Toggles(version=version, kill_switch=True))


async def test_killed_answers_touch_no_source_while_earlier_requests_are_in_flight():
    """Effective for the next request; what runs ends as it began (facts 2.9)."""
    release = []

    async def slow(wire: Wire) -> None:
        await wire.request()
        await until(lambda: release, "the release")
        wire.send(offers(*many("a", 4)))

    async with stage(slow, slow) as rig:
        wire = await rig.client()
        wire.send(GET % (4, b"", b"") + GET % (4, b"", b""))
        await rig.cf.until_requests(1)
        await rig.content.until_requests(1)
        rig.plane.apply(killed(rig))
        heard = len(rig.cf.data) + len(rig.content.data), len(rig.cf.wires), len(rig.content.wires)
        for k in (1, 7, 20):
            got = await rig.recommend(k)
            assert (got.metadata["policy"], got.metadata["toggles_version"]) == ("kill_switch", 2)
            assert set(got.sources) == {"popularity"}
            assert set(got.timings) == {"total"}
        got = await rig.recommend(4, b"&genres=comedy")
        assert got.ids == ["p0", "p2", "p4", "p6"]
        assert rig.slots == (0, 0)
        assert rig.quiet is False
        release.append(True)
        assert Recommended(await wire.response(), 4).level == "A"
        assert Recommended(await wire.response(), 4).metadata["policy"] == "kill_switch"  # the next one
        await turn()
        assert heard == (len(rig.cf.data) + len(rig.content.data), len(rig.cf.wires), len(rig.content.wires))
        assert rig.slots == (4, 4)


async def test_the_switch_released_asks_again():
    async with stage(CF, CONTENT) as rig:
        rig.plane.apply(killed(rig))
        await rig.recommend()
        assert rig.cf.wires == []
        rig.plane.apply(replace(rig.policy, toggles=Toggles(version=3)))
        got = await rig.recommend(4)
        assert (got.level, got.metadata["toggles_version"]) == ("A", 3)


async def test_killed_answers_keep_the_contract_too():
    """Bad queries, HEAD, sources that hang: all the same without them."""
    async with stage(hanging, hanging) as rig:
        rig.plane.apply(killed(rig))
        assert (await rig.ask(b"GET /recommendations?k=0 HTTP/1.1\r\nHost: x\r\n\r\n")).status == 400
        whole = await rig.recommend(4)
        answer = await rig.ask((GET % (4, b"", b"")).replace(b"GET", b"HEAD", 1), b"HEAD")
        assert (answer.body, answer.get("content-length")) == (b"", whole.answer.get("content-length"))
        assert rig.cf.wires == rig.content.wires == []


async def test_a_short_catalogue_is_the_only_reason_for_fewer():
    async with stage(hanging, hanging, route={"sources": Sources()}) as rig:
        rig.plane.apply(replace(killed(rig), popularity=FILMS[:3]))
        answer = await rig.ask(GET % (5, b"", b""))
        document = orjson.loads(answer.body)
        assert [item["id"] for item in document["items"]] == ["p0", "p1", "p2"]
        assert (document["metadata"]["k_requested"], document["metadata"]["k_returned"]) == (5, 3)
