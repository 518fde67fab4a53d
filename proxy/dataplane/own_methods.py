"""OPTIONS and TRACE where they end here: `*`, and Max-Forwards (RFC 9110 §7.6.2, §9.3.7, §9.3.8)."""

from typing import TYPE_CHECKING

from proxy.dataplane import answers
from proxy.dataplane.request_head import RequestHead
from proxy.errors import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.client import ClientConnection

METHODS = (b"OPTIONS", b"TRACE")


def stays_here(head: RequestHead) -> bool:
    """Whether this is the last hop: for `*`, or by Max-Forwards, which counts down where others follow."""
    if head.target == b"*":
        return True
    hops = head.fields.get(b"max-forwards")
    if hops is None:
        return False
    if not hops.isdigit() or len(hops) > 9:
        raise Refusal("bad_request", 400, "Bad Request", "Max-Forwards is not a number")
    if int(hops) == 0:
        return True
    head.count_down(int(hops) - 1)
    return False


def answer(client: "ClientConnection", head: RequestHead) -> None:
    """204 with what is allowed in general. Raises `Refusal` for TRACE."""
    if head.method == b"TRACE":
        # Reflecting a request would show its credentials to scripts.
        raise Refusal("bad_request", 405, "Method Not Allowed", allow="GET, HEAD, OPTIONS, POST")
    lines = client.plane.own_lines(head) + b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
    if client.must_close():
        lines += b"Connection: close\r\n"
    client.write(answers.empty(204, lines))
    client.answered()
