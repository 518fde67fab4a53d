"""`https://` upstreams: verified, or not spoken to."""

import ssl
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import trustme
from harness import Wire
from rig import Rig, authorities, policy, sidecar

from proxy.control import KillSwitch
from proxy.core.policy import Policy
from proxy.errors import SettingsError
from proxy.storage.kill_file import KillFile

GET = b"GET /p HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA, tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


async def test_a_verified_upstream_is_used_and_kept(authority: trustme.CA, tmp_path: Path) -> None:
    upstream = {"ca_file": trusting(authority, tmp_path)}
    async with sidecar(tls=serving(authority, "127.0.0.1"), upstream=upstream) as rig:
        wire = await rig.client()
        wire.send(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + b"a" * 300_000 + GET)
        assert (await wire.response()).body == b"a" * 300_000
        assert (await wire.response()).status == 200
        assert len(rig.upstream.wires) == 1


async def test_the_name_asked_for_is_the_configured_one(authority: trustme.CA, tmp_path: Path) -> None:
    upstream = {"ca_file": trusting(authority, tmp_path), "server_name": "films.example"}
    async with sidecar(tls=serving(authority, "films.example"), upstream=upstream) as rig:
        assert (await rig.ask(GET)).status == 200


@pytest.mark.parametrize("fault", ["authority", "name", "system", "plain"])
async def test_an_unverified_upstream_gets_nothing(fault: str, authority: trustme.CA, tmp_path: Path) -> None:
    """Another authority, another name, the system's authorities, no TLS at all: 502, and no byte of HTTP."""
    trusted = trustme.CA() if fault == "authority" else authority
    upstream = {"ca_file": "" if fault == "system" else trusting(trusted, tmp_path)}
    if fault == "name":
        upstream["server_name"] = "other.example"
    tls = None if fault == "plain" else serving(authority, "127.0.0.1")

    async def script(wire: Wire) -> None:
        await wire.until(lambda: wire.eof or wire.data, "anything")
        wire.send(b"HTTP/1.1 400 Not TLS\r\n\r\n")
        wire.close()

    async with sidecar(script, tls=tls) as rig:
        url = rig.upstream.url.replace("http://", "https://")
        rig.plane.apply(policy(url, upstream=upstream))
        answer = await rig.ask(GET)
        assert answer.status == 502
        assert orjson.loads(answer.body)["code"] in ("upstream_unreachable", "upstream_invalid")
        assert all(b"HTTP/1.1" not in wire.data for wire in rig.upstream.wires)


async def test_a_cut_without_close_notify_is_a_cut(authority: trustme.CA, tmp_path: Path) -> None:
    """A TLS connection that just ends cannot end a body (RFC 9112 9.8)."""

    async def script(wire: Wire) -> None:
        await wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
        wire.reset()

    upstream = {"ca_file": trusting(authority, tmp_path)}
    async with sidecar(script, tls=serving(authority, "127.0.0.1"), upstream=upstream) as rig:
        wire = await rig.client()
        wire.send(GET)
        rest = await wire.ended()
        assert not rest.endswith(b"0\r\n\r\n")
        assert b"hello" not in rest or b"Content-Length: 50" in rest.replace(
            b"content-length", b"Content-Length"
        )


def lost(file: str) -> None:
    Path(file).unlink()


def new_policy(rig: Rig) -> Policy:
    """What a reload makes of the same settings file."""
    upstream = rig.policy.upstreams["up"]
    return replace(rig.policy, upstreams={"up": replace(upstream)}, authorities=authorities(upstream.ca_file))


async def test_a_rotated_ca_file_counts_from_the_next_reload_on(tmp_path: Path) -> None:
    """Whom the new file trusts is called, and whom only the old one trusted no more, kept alive or not."""
    before, after = trustme.CA(), trustme.CA()
    upstream = {"ca_file": trusting(before, tmp_path)}
    tls = serving(before, "127.0.0.1")
    async with sidecar(tls=tls, upstream=upstream) as rig:
        assert (await rig.ask(GET)).status == 200
        trusting(after, tmp_path)
        rig.plane.apply(new_policy(rig))
        assert (await rig.ask(GET)).status == 502
        after.issue_cert("127.0.0.1").configure_cert(tls)  # the upstream's certificate is rotated, too
        assert (await rig.ask(GET)).status == 200


async def test_an_unchanged_ca_file_keeps_connections_over_a_reload(
    authority: trustme.CA, tmp_path: Path
) -> None:
    upstream = {"ca_file": trusting(authority, tmp_path)}
    async with sidecar(tls=serving(authority, "127.0.0.1"), upstream=upstream) as rig:
        assert (await rig.ask(GET)).status == 200
        trusting(authority, tmp_path)  # written anew, the same
        rig.plane.apply(new_policy(rig))
        assert (await rig.ask(GET)).status == 200
        assert len(rig.upstream.wires) == 1


async def test_a_kill_needs_no_ca_file(authority: trustme.CA, tmp_path: Path) -> None:
    """In the middle of a rotation the file may be gone or half: a kill reads none, a reload refuses it."""
    file = trusting(authority, tmp_path)
    async with sidecar(tls=serving(authority, "127.0.0.1"), upstream={"ca_file": file}) as rig:
        assert (await rig.ask(GET)).status == 200
        lost(file)
        kill = KillSwitch(rig.plane, KillFile(tmp_path / "kill.json"))
        assert (await kill.set(True, reason="r", by="ann")).kill
        assert rig.plane.killed
        with pytest.raises(SettingsError, match=r"ca\.pem"):
            rig.plane.apply(replace(rig.policy, authorities={}))
        assert rig.plane.killed
        assert (await rig.ask(GET)).status == 200
        assert len(rig.upstream.wires) == 1
