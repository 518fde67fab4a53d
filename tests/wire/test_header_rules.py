"""Which fields pass, which are taken off, which are put on (wire/README, Framing and Trust)."""

import re

import pytest
import strict
from harness import Wire, reply
from rig import Rig, sidecar

TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


async def sent(rig: Rig, *fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> strict.Request:
    """The request as the upstream got it."""
    lines = b"".join(line + b"\r\n" for line in fields)
    answer = await rig.ask(b"POST /p HTTP/%s\r\nHost: x:81\r\n%s\r\n%s" % (version, lines, body))
    assert answer.status == 200, answer.body
    return rig.upstream.requests[-1]


def names(message: strict.Message) -> set[str]:
    return {name for name, _ in message.fields}


async def test_hop_by_hop_fields_end_here() -> None:
    """RFC 9110 7.6.1: what is meant for this connection goes no further."""
    async with sidecar() as rig:
        got = await sent(
            rig,
            b"Connection: keep-alive, X-Drop ,x-drop-too",
            b"X-Drop: 1",
            b"x-drop-too: 1",
            b"Keep-Alive: timeout=5",
            b"TE: gzip",
            b"Trailer: X-T",
            b"Proxy-Connection: keep-alive",
            b"Proxy-Authorization: Basic evil",
            b"Proxy-Authenticate: Basic",
            b"X-Stay: 1",
        )
        left = names(got)
        assert "x-stay" in left
        assert not left & {"x-drop", "x-drop-too", "keep-alive", "trailer", "proxy-connection"}
        assert not left & {"proxy-authorization", "proxy-authenticate"}
        assert got.get("te") in (None, b"trailers")
        assert not got.has_token("connection", b"x-drop")


async def test_connection_named_in_several_lines() -> None:
    async with sidecar() as rig:
        got = await sent(rig, b"Connection: X-A", b"X-A: 1", b"X-B: 1", b"connection: , x-b,")
        assert not names(got) & {"x-a", "x-b"}


@pytest.mark.parametrize("named", [b"Content-Length", b"Host", b"X-Request-Id", b"X-Forwarded-For", b"Via"])
async def test_connection_cannot_remove_what_is_relied_on(named: bytes) -> None:
    """A field that frames, routes or identifies is still there, whatever Connection names."""
    async with sidecar() as rig:
        got = await sent(rig, b"Connection: " + named, b"Content-Length: 5", body=b"hello")
        assert got.body == b"hello"
        assert got.get("host") == b"x:81"
        assert got.get(named.decode().lower()) or named == b"Content-Length"


async def test_connection_cannot_remove_the_chunked_coding() -> None:
    async with sidecar() as rig:
        got = await sent(
            rig,
            b"Connection: Transfer-Encoding",
            b"Transfer-Encoding: chunked",
            body=b"5\r\nhello\r\n0\r\n\r\n",
        )
        assert got.body == b"hello"


async def test_connection_cannot_remove_who_is_asking() -> None:
    """The identity that was decided on is the identity that the upstream sees."""
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(b"GET /p HTTP/1.1\r\nHost: x\r\nConnection: X-User-Id\r\nX-User-Id: u1\r\n\r\n")
        answer = await wire.response()
        assert answer.status == 400 or rig.upstream.requests[0].get("x-user-id") == b"u1"


async def test_hop_by_hop_fields_of_a_response_end_here() -> None:
    fields = (
        b"Connection: keep-alive, X-Drop",
        b"X-Drop: 1",
        b"Keep-Alive: timeout=5",
        b"Proxy-Authenticate: Basic",
        b"Proxy-Connection: close",
        b"Upgrade: h2c",
        b"X-Stay: 1",
        b"Set-Cookie: a=1",
        b"Set-Cookie: b=2",
    )

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            wire.send(reply(b"ok", *fields))

    async with sidecar(script) as rig:
        got = await rig.ask(b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not names(got) & {"x-drop", "keep-alive", "proxy-authenticate", "proxy-connection", "upgrade"}
        assert got.get("x-stay") == b"1"
        assert [v for n, v in got.fields if n == "set-cookie"] == [b"a=1", b"b=2"]


async def test_order_and_bytes_of_other_fields_are_kept() -> None:
    async with sidecar() as rig:
        given = [b"X-A: 1", b"X-B: caf\xe9\t!", b"x-a: 2", b"Cookie: a=1; b=2", b"Accept: */*", b"X-A: 3"]
        got = await sent(rig, *given)
        kept = [(n, v) for n, v in got.fields if n in {"x-a", "x-b", "cookie", "accept"}]
        assert kept == [(n.decode().lower(), v) for n, v in (line.split(b": ") for line in given)]


# X-Request-Id and traceparent


@pytest.mark.parametrize("given", [b"abc-123_DEF.456", b"7f3f3c1e-8a7b-4f5e-9c0d-1234567890ab"])
async def test_a_well_formed_request_id_is_kept(given: bytes) -> None:
    async with sidecar() as rig:
        answer = await rig.ask(b"GET /p HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + given + b"\r\n\r\n")
        assert answer.get("x-request-id") == rig.upstream.requests[0].get("x-request-id") == given


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"X-Request-Id:\r\n",
        b"X-Request-Id: has space\r\n",
        b"X-Request-Id: <script>\r\n",
        b'X-Request-Id: a";b="c\r\n',
        b"X-Request-Id: caf\xe9\r\n",
        b"X-Request-Id: " + b"a" * 1000 + b"\r\n",
        b"X-Request-Id: one-12345678\r\nX-Request-Id: two-12345678\r\n",
    ],
)
async def test_any_other_request_id_is_made_anew(lines: bytes) -> None:
    """Exactly one well-formed id, the same on both sides."""
    async with sidecar() as rig:
        answer = await rig.ask(b"GET /p HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
        ids = [v for n, v in rig.upstream.requests[0].fields if n == "x-request-id"]
        assert len(ids) == 1
        assert re.fullmatch(rb"[A-Za-z0-9_.-]{8,128}", ids[0])
        assert [v for n, v in answer.fields if n == "x-request-id"] == ids


async def test_request_ids_differ() -> None:
    async with sidecar() as rig:
        wire = await rig.client()
        wire.send(b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        ids = {(await wire.response()).get("x-request-id") for _ in range(50)}
        assert len(ids) == 50


async def test_an_upstreams_own_request_id_does_not_double_ours() -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(reply(b"ok", b"X-Request-Id: theirs", b"X-Fusebox-Decision: evil"))

    async with sidecar(script) as rig:
        answer = await rig.ask(b"GET /p HTTP/1.1\r\nHost: x\r\nX-Request-Id: ours-1234\r\n\r\n")
        assert [v for n, v in answer.fields if n == "x-request-id"] == [b"ours-1234"]
        assert b"evil" not in (answer.get("x-fusebox-decision") or b"")


async def test_a_trace_goes_on() -> None:
    trace = b"4bf92f3577b34da6a3ce929d0e0e4736"
    async with sidecar() as rig:
        got = await sent(rig, b"traceparent: 00-" + trace + b"-00f067aa0ba902b7-01", b"tracestate: a=b")
        assert TRACEPARENT.fullmatch(got.get("traceparent") or b"")
        assert (got.get("traceparent") or b"")[3:35] == trace
        assert got.get("tracestate") == b"a=b"


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"nonsense",
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
        b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
    ],
)
async def test_a_trace_that_is_none_is_begun(given: bytes | None) -> None:
    """W3C Trace Context: zero ids, version ff and upper case are invalid."""
    async with sidecar() as rig:
        got = await sent(rig, *([b"traceparent: " + given] if given else []))
        made = got.get("traceparent") or b""
        assert TRACEPARENT.fullmatch(made)
        assert made != given
        assert made[3:35].strip(b"0")
        assert made[36:52].strip(b"0")


# Via, Forwarded, X-Forwarded-*


async def test_via_is_added_behind_those_before() -> None:
    async with sidecar() as rig:
        got = await sent(rig, b"Via: 1.0 before")
        hops = (got.get("via") or b"").split(b", ")
        assert hops[0] == b"1.0 before"
        assert re.fullmatch(rb"1\.1 \S+", hops[1])
        got = await sent(rig, version=b"1.0")
        assert (got.get("via") or b"").startswith(b"1.0 ")


CLAIMS = (
    b"X-Forwarded-For: 6.6.6.6",
    b"X-Forwarded-Proto: evil",
    b"X-Forwarded-Host: evil",
    b"X-Forwarded-Port: 666",
    b"Forwarded: for=6.6.6.6;host=evil",
)


async def test_an_untrusted_peers_claims_are_dropped() -> None:
    """Only what this hop saw is passed on."""
    async with sidecar(trusted_proxies=()) as rig:
        got = await sent(rig, *CLAIMS)
        assert got.get("x-forwarded-for") == b"127.0.0.1"
        assert got.get("x-forwarded-proto") == b"http"
        assert got.get("x-forwarded-host") in (None, b"x:81")
        everything = b"\n".join(value for _, value in got.fields)
        assert b"6.6.6.6" not in everything
        assert b"evil" not in everything
        assert b"666" not in everything.replace(got.get("x-request-id") or b"", b"").replace(
            got.get("traceparent") or b"", b""
        )


async def test_a_trusted_peers_claims_are_believed() -> None:
    async with sidecar(trusted_proxies=("127.0.0.0/8",)) as rig:
        got = await sent(
            rig, b"X-Forwarded-For: 6.6.6.6, 10.1.2.3", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: shop"
        )
        hops = [hop.strip() for hop in (got.get("x-forwarded-for") or b"").split(b",")]
        assert hops[-2:] == [b"10.1.2.3", b"127.0.0.1"]
        assert got.get("x-forwarded-proto") == b"https"
        assert got.get("x-forwarded-host") == b"shop"
        got = await sent(rig, b"Forwarded: for=10.1.2.3;proto=https")
        assert b"for=10.1.2.3" in (got.get("forwarded") or b"")


async def test_another_trusted_network_does_not_help() -> None:
    async with sidecar(trusted_proxies=("10.0.0.0/8", "::1/128")) as rig:
        got = await sent(rig, *CLAIMS)
        assert got.get("x-forwarded-for") == b"127.0.0.1"


# the sidecar's own names


@pytest.mark.parametrize(
    "name",
    [
        b"X-Fusebox-Decision",
        b"x-fusebox-explain",
        b"X_Fusebox_Decision",
        b"x-fusebox_made_up",
        b"X_FUSEBOX-A",
    ],
)
async def test_own_names_are_stripped_in_every_spelling(name: bytes) -> None:
    async with sidecar() as rig:
        got = await sent(rig, name + b": evil", b"X-Stay: 1")
        assert got.get("x-stay") == b"1"
        assert b"evil" not in b"\n".join(v for _, v in got.fields)


@pytest.mark.parametrize("name", [b"X-Fusebox-Override", b"x_fusebox_override", b"X-FUSEBOX_OVERRIDE"])
async def test_an_override_never_goes_on(name: bytes) -> None:
    """Invalid, it may be refused with `override_invalid`; in no case does the upstream see it."""
    async with sidecar() as rig:
        answer = await rig.ask(b"GET /p HTTP/1.1\r\nHost: x\r\n" + name + b": evil\r\n\r\n")
        assert answer.status == 200 or b"override_invalid" in answer.body
        assert b"evil" not in rig.upstream.data


@pytest.mark.parametrize(
    "name",
    [
        b"Content_Length",
        b"Transfer_Encoding",
        b"X_Forwarded_For",
        b"X_Forwarded-Proto",
        b"X_Request_Id",
        b"X-Request_Id",
        b"X_User_Id",
        b"Idempotency_Key",
    ],
)
async def test_names_that_fold_into_managed_ones_are_refused(name: bytes) -> None:
    """Behind a CGI-like server `X_User_Id` and `X-User-Id` are one."""
    async with sidecar() as rig:
        answer = await rig.ask(b"GET /p HTTP/1.1\r\nHost: x\r\n" + name + b": 5\r\n\r\n")
        assert answer.status == 400
        assert rig.upstream.data == b""


async def test_other_names_with_underscore_pass() -> None:
    async with sidecar() as rig:
        assert (await sent(rig, b"X_Custom_Field: 1")).get("x_custom_field") == b"1"


async def test_answers_carry_what_the_contract_names() -> None:
    async with sidecar() as rig:
        answer = await rig.ask(b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"route=all" in (answer.get("x-fusebox-decision") or b"")
        assert b"total" in (answer.get("server-timing") or b"")
        assert answer.get("proxy-status") is None
