"""What the request line decides: routes, methods, switches, ambiguous paths, own answers."""

from dataclasses import replace

import orjson
import pytest
import strict
from rig import ROUTE, Rig, sidecar

from proxy.core.policy import Toggles

OPEN = replace(ROUTE, name="open", path="/")
GUARDED = replace(ROUTE, name="payment", path="/payment/", guarded=True)
READING = replace(ROUTE, name="reading", path="/films", methods=("GET", "HEAD"))
FLAGGED = replace(ROUTE, name="billing", path="/billing", flag="billing")


async def ask(rig: Rig, target: bytes, method: bytes = b"GET", more: bytes = b"") -> strict.Response:
    return await rig.ask(method + b" " + target + b" HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n", method)


def code(answer: strict.Response) -> str:
    return str(orjson.loads(answer.body)["code"])


@pytest.mark.parametrize(
    "target",
    [
        b"/payment/../x",
        b"/payment/./pay",
        b"/payment//pay",
        b"//payment/pay",
        b"/x/../payment/pay",
        b"/./payment/pay",
        b"/payment/%2e%2e/x",
        b"/payment/.%2E/x",
        b"/%2e/payment/pay",
        b"/x/%2e%2e/payment/pay",
        b"/payment%2fpay",
        b"/payment%2Fpay",
        b"/payment/a%2fb",
        b"/payment/..%2fx",
        b"/payment%5cpay",
        b"/payment/a%5Cb",
        b"/payment\\pay",
        b"/payment/..\\x",
        b"/payment/a;b",
        b"/payment;x/pay",
        b"/payment/..;/x",
        b"/x;/../payment/pay",
        b"/payment/.",
        b"/payment/..",
        b"/payment/%00",
        b"/payment/%252e%252e/%2e",
    ],
)
async def test_an_ambiguous_path_to_a_guarded_route_is_refused(target: bytes) -> None:
    """Two readings of a path must not lead around a guard (wire/README, paths)."""
    async with sidecar(routes=(OPEN, GUARDED)) as rig:
        answer = await ask(rig, target)
        assert answer.status == 400
        assert code(answer) == "bad_request"
        assert rig.upstream.data == b""


@pytest.mark.parametrize("route", [READING, FLAGGED], ids=["methods", "flag"])
async def test_routes_with_methods_or_flag_are_guarded_too(route: object) -> None:
    async with sidecar(routes=(OPEN, READING, FLAGGED)) as rig:
        for target in (
            b"/x/../films",
            b"/x/../billing",
            b"//films",
            b"//billing",
            b"/films/%2e",
            b"/billing/a;b",
        ):
            assert (await ask(rig, target)).status == 400, target
        assert rig.upstream.data == b""


@pytest.mark.parametrize(
    "target", [b"/a/../b", b"/a//b", b"/a%2fb", b"/a;b/c", b"/a/.", b"/a%5cb", b"/%61?x=/../y"]
)
async def test_elsewhere_a_path_passes_as_it_is(target: bytes) -> None:
    async with sidecar(routes=(OPEN, GUARDED)) as rig:
        assert (await ask(rig, target)).status == 200
        assert rig.upstream.requests[0].target == target


@pytest.mark.parametrize("target", [b"/payment/pay?next=/../x;y//z%2f", b"/payment/caf%C3%A9"])
async def test_an_unambiguous_path_to_a_guarded_route_passes(target: bytes) -> None:
    """Decided on the normalised form, forwarded unmodified."""
    async with sidecar(routes=(replace(OPEN, methods=("OPTIONS",)), GUARDED)) as rig:
        answer = await ask(rig, target)
        assert answer.status == 200
        assert b"route=payment" in (answer.get("x-fusebox-decision") or b"")
        assert rig.upstream.requests[0].target == target


async def test_an_encoded_prefix_is_no_way_around_a_guard() -> None:
    """`%70` is a `p`: routed as one, or refused, but never as another path."""
    async with sidecar(routes=(OPEN, GUARDED)) as rig:
        answer = await ask(rig, b"/%70ayment/pay")
        assert answer.status == 400 or b"route=payment" in (answer.get("x-fusebox-decision") or b"")


async def test_another_method_is_405_with_allow() -> None:
    async with sidecar(routes=(OPEN, READING)) as rig:
        answer = await ask(rig, b"/films/1", b"DELETE")
        assert answer.status == 405
        assert {m.strip() for m in (answer.get("allow") or b"").split(b",")} == {b"GET", b"HEAD"}
        assert (await ask(rig, b"/films/1")).status == 200
        assert len(rig.upstream.requests) == 1


async def test_no_route_is_404() -> None:
    async with sidecar(routes=(GUARDED,)) as rig:
        answer = await ask(rig, b"/elsewhere")
        assert (answer.status, code(answer)) == (404, "no_route")
        assert rig.upstream.data == b""


async def test_the_longest_prefix_wins_whatever_the_order() -> None:
    longer = replace(ROUTE, name="longer", path="/payment/refunds/")
    for routes in ((OPEN, GUARDED, longer), (longer, GUARDED, OPEN)):
        async with sidecar(routes=routes) as rig:
            for target, name in (
                (b"/x", b"open"),
                (b"/payment/x", b"payment"),
                (b"/payment/refunds/1", b"longer"),
            ):
                answer = await ask(rig, target)
                assert b"route=" + name in (answer.get("x-fusebox-decision") or b"")


async def test_a_flag_that_is_off_is_503() -> None:
    async with sidecar(routes=(OPEN, FLAGGED), toggles=Toggles(flags={"billing": False})) as rig:
        answer = await ask(rig, b"/billing/1")
        assert (answer.status, code(answer)) == (503, "flag_off")
        assert rig.upstream.data == b""
        assert (await ask(rig, b"/x")).status == 200


async def test_a_refused_request_keeps_the_connection() -> None:
    """A decision is not a framing fault: the next request on the connection is answered."""
    async with sidecar(routes=(OPEN, READING)) as rig:
        wire = await rig.client()
        wire.send(
            b"POST /films HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
            b"POST /films HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        first = await wire.response()
        assert first.status == 405
        if first.has_token("connection", b"close"):
            assert await wire.ended() == b""
            assert rig.upstream.data == b""
            return
        assert [(await wire.response()).status for _ in range(2)] == [405, 200]
        assert [r.target for r in rig.upstream.requests] == [b"/ok"]


async def test_the_reserved_prefix_is_never_forwarded() -> None:
    async with sidecar() as rig:
        for target in (
            b"/__fusebox/",
            b"/__fusebox/report.js",
            b"/__fusebox/x",
            b"/x/../__fusebox/x",
            b"/%5f_fusebox/",
        ):
            await ask(rig, target)
            assert rig.upstream.data == b"", target


async def test_absolute_form_replaces_host_and_dials_only_the_upstream() -> None:
    async with sidecar() as rig:
        answer = await ask(rig, b"http://other.example:8080/p?q=1")
        assert answer.status == 200
        request = rig.upstream.requests[0]
        assert request.target == b"/p?q=1"
        assert request.get("host") == b"other.example:8080"


async def test_options_asterisk_is_answered() -> None:
    async with sidecar() as rig:
        answer = await ask(rig, b"*", b"OPTIONS")
        assert 200 <= answer.status < 300
        assert [r.target for r in rig.upstream.requests] in ([], [b"*"])


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
async def test_max_forwards_zero_ends_here(method: bytes) -> None:
    """RFC 9110 7.6.2: the last hop answers itself; the one before it counts down."""
    async with sidecar() as rig:
        answer = await ask(rig, b"/p", method, b"Max-Forwards: 0\r\n")
        assert answer.status < 500
        assert rig.upstream.data == b""
        answer = await ask(rig, b"/p", method, b"Max-Forwards: 3\r\n")
        for request in rig.upstream.requests:
            assert request.get("max-forwards") == b"2"


@pytest.mark.parametrize("hops", [b"", b"-1", b"+1", b"abc", b"0, 0", b"9" * 40, b"\xb2"])
async def test_nonsensical_max_forwards_is_refused(hops: bytes) -> None:
    async with sidecar() as rig:
        assert (await ask(rig, b"/p", b"OPTIONS", b"Max-Forwards: " + hops + b"\r\n")).status == 400
        assert rig.upstream.data == b""


async def test_an_own_trace_answer_shows_no_secrets() -> None:
    """RFC 9110 9.3.8: credentials are not reflected."""
    async with sidecar() as rig:
        answer = await ask(
            rig, b"/p", b"TRACE", b"Max-Forwards: 0\r\nAuthorization: Bearer s3cret\r\nCookie: s3cret\r\n"
        )
        assert b"s3cret" not in answer.body


async def test_max_forwards_means_nothing_to_get() -> None:
    async with sidecar() as rig:
        await ask(rig, b"/p", b"GET", b"Max-Forwards: 0\r\n")
        assert rig.upstream.requests[0].get("max-forwards") == b"0"


async def test_extension_methods_are_refused_or_kept() -> None:
    """Never changed into another method."""
    async with sidecar() as rig:
        for method in (b"PROPFIND", b"PATCH", b"REPORT", b"QUERY", b"M-SEARCH"):
            before = len(rig.upstream.requests)
            answer = await ask(rig, b"/p", method)
            if answer.status == 200:
                assert rig.upstream.requests[-1].method == method
            else:
                assert answer.status in (400, 405, 501)
                assert len(rig.upstream.requests) == before
