"""What the sidecar writes into heads that pass: requests going up, answers going down."""

import re
from typing import TYPE_CHECKING, Protocol

from proxy.core.trust import Client, direct, forwarded
from proxy.dataplane.pool import Pool
from proxy.dataplane.request_head import HOST, RequestHead
from proxy.dataplane.response_head import ResponseHead

if TYPE_CHECKING:
    from proxy.dataplane.plane import DataPlane


class Hop(Protocol):
    """The connection a request came on."""

    peer: str
    hop_lines: bytes
    plane: "DataPlane"


_MERGED = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"))


def trust_lines(client: Client) -> bytes:
    """The fields that say where a request came from (RFC 7239, RFC 9110 §7.6.3)."""
    return b"Via: 1.1 fusebox\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nForwarded: %b\r\n" % (
        client.xff_out,
        client.proto.encode(),
        client.forwarded_out,
    )


def client_of(head: RequestHead, hop: Hop) -> Client:
    """Who sent this request, as far as the peer may be believed."""
    if not head.claims or not hop.plane.trusted.trusts(hop.peer):
        return direct(hop.peer, tls=False)
    fields = head.fields
    return forwarded(
        hop.peer,
        fields.get(b"x-forwarded-for"),
        fields.get(b"forwarded"),
        fields.get(b"x-forwarded-proto"),
        tls=False,
        trusted=hop.plane.trusted,
    )


def hop_lines(head: RequestHead, hop: Hop) -> bytes:
    """What is told about the way a request came: mostly the same for all of a connection."""
    lines = hop.hop_lines
    if head.claims and hop.plane.trusted.trusts(hop.peer):
        lines = trust_lines(client_of(head, hop))
        for name, value in head.fields.items():
            if name not in _MERGED and name.startswith((b"x-forwarded-", b"x-real-ip")):
                lines += b"%b: %b\r\n" % (name, value)
    if not head.http11:
        lines = lines.replace(b"Via: 1.1", b"Via: 1.0", 1)
    return lines


def _asked_host(head: RequestHead, hop: Hop) -> bytes:
    """The host the client asked for: its Host, or what a trusted peer says it was."""
    claimed = head.fields.get(b"x-forwarded-host")
    if claimed is not None and HOST.fullmatch(claimed) and hop.plane.trusted.trusts(hop.peer):
        return claimed
    return head.fields.get(b"host", b"")


def request(head: RequestHead, hop: Hop, authority: bytes, rest: bytes = b"") -> bytes:
    """The request line and fields that go upstream, and the `rest`: framing fields, the empty line, a body.

    Target and end-to-end fields are untouched. `authority` stands in for a Host that HTTP/1.0
    does not have to send.
    """
    host = head.fields.get(b"host")
    lines = hop.hop_lines
    if head.claims or host is None or not head.http11:
        lines = hop_lines(head, hop)
        if host is None:
            lines += b"Host: %b\r\n" % authority
        host = _asked_host(head, hop) or authority
    # A format takes three times as long.
    return b"".join(
        (
            head.method,
            b" ",
            head.target,
            b" HTTP/1.1\r\n",
            head.lines,
            lines,
            b"X-Forwarded-Host: ",
            host,
            b"\r\n",
            head.id_lines,
            rest,
        )
    )


def candidates_lines(head: RequestHead) -> bytes:
    """What the requests for candidates of all sources have in common: nothing of the client's but its ids.

    Not even where it is: the answer may serve others who ask the same.
    """
    trace = b"" if not head.traceparent else b"traceparent: %b\r\n" % head.traceparent
    if not head.made_id:
        trace += b"X-Request-Id: %b\r\n" % head.request_id
    return b"Accept: application/json\r\nVia: 1.1 fusebox\r\n%b%b" % (head.id_lines, trace)


def candidates_request(pool: Pool, target: bytes, lines: bytes) -> bytes:
    """A whole request for candidates, the sidecar's own, with the `candidates_lines`."""
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, pool.place.authority, lines)


def interim(head: ResponseHead) -> bytes:
    """A whole 1xx head (RFC 9110 §15.2), which says nothing of a body (§8.6)."""
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, without_length(head.lines))


def without_length(lines: bytes) -> bytes:
    """For 1xx and 204, which have none (RFC 9110 §8.6)."""
    return re.sub(rb"(?im)^content-length:[^\r]*\r\n", b"", lines)
