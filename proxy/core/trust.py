"""Who the client is, when other proxies stand in between (RFC 7239, wire/README, Trust).

What a peer says about earlier hops is believed only from `trusted_proxies`, and read from the right:
each trusted hop vouches for the one it names, the first that is not trusted is the client. What
stands further left is the client's own word: it is passed on when well-formed, and decides nothing.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from itertools import takewhile
from typing import NamedTuple

MAX_HOPS = 32
MAX_HOP_BYTES = 256
"""Hops further away than the first, or longer than the second, are cut off as if malformed."""

_PROTOS = {b"http": "http", b"https": "https"}
_PAIR = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+=(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|\"[\t !#-+\-.-:<-\[\]-~]*\")"
# RFC 7239 4, without separators and backslashes in quotes: no address holds one, and where a client
# leaves a quote open, the elements that proxies add after it must still be told apart.
_FORWARDED = re.compile(rb"%b(?:;%b)*" % (_PAIR, _PAIR)).fullmatch
_NODE = re.compile(  # RFC 7239 6: nodename, then perhaps a port
    rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?|([0-9A-Fa-f:.]+)"
).fullmatch
_HIDDEN = re.compile(  # RFC 7239 6.2, 6.3
    rb"(?:(?i:unknown)|_[A-Za-z0-9._-]+)(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
).fullmatch


class Client(NamedTuple):
    """The client as far as trust reaches, and what is told to the upstream."""

    address: str
    proto: str
    """`http` or `https`, as the client used it."""
    xff_out: bytes
    """Value of `X-Forwarded-For`."""
    forwarded_out: bytes
    """Value of `Forwarded`."""


class TrustedProxies:
    """The networks whose word about earlier hops is believed. Raises `ValueError` for a bad one."""

    __slots__ = ("_networks", "trusts")

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = tuple(ip_network(network, strict=False) for network in networks)
        self.trusts: Callable[[str], bool] = lru_cache(maxsize=4096)(self._contain)
        """Whether an address is in one of the networks; what is no address is not."""

    def _contain(self, host: str) -> bool:
        address = _canonical(host)
        return bool(address) and any(ip_address(address) in network for network in self._networks)


class _Hop(NamedTuple):
    address: str  # "": unknown or hidden (RFC 7239 6.2, 6.3)
    proto: str
    text: bytes


@lru_cache(maxsize=4096)
def direct(peer: str, *, tls: bool) -> Client:
    """The client of a peer that says nothing about earlier hops: itself.

    Constant for a connection. `peer` is an address, or "" for a peer without one (Unix socket).
    """
    address, proto = _canonical(peer), "https" if tls else "http"
    return Client(address, proto, address.encode() or b"unknown", _element(address, proto))


def forwarded(
    peer: str,
    xff: bytes | None,
    forwarded: bytes | None,
    proto: bytes | None,
    *,
    tls: bool,
    trusted: TrustedProxies,
) -> Client:
    """The client behind `peer`: by `X-Forwarded-For`, `Forwarded` and `X-Forwarded-Proto` of a request.

    A header that came in several lines is given joined by commas. Nothing is believed from an
    untrusted peer; from the first malformed hop on, counted from the right, nothing is read or
    passed on. Where both lists are there and name different clients, X-Forwarded-For holds and
    Forwarded is made anew: a proxy that adds to one only lets the other through unseen.
    """
    own = direct(peer, tls=tls)
    if (xff is None and forwarded is None and proto is None) or not trusted.trusts(peer):
        return own
    by_xff = _hops(xff or b"", _xff_hop)
    elements = _hops(forwarded or b"", _forwarded_hop)
    client = _client(own, by_xff or elements, trusted)
    if by_xff:
        named = _client(own, elements, trusted)
        if elements and named.address == client.address:
            client = named
        else:
            elements = [_Hop(hop.address, "", _element(hop.address)) for hop in by_xff]
    addresses = [hop.address for hop in takewhile(_known, by_xff or elements)]
    return Client(
        client.address,
        _PROTOS.get((proto or b"").strip().lower()) or client.proto or own.proto,
        ", ".join([*reversed(addresses), own.xff_out.decode()]).encode(),
        b", ".join([*(hop.text for hop in reversed(elements)), own.forwarded_out]),
    )


def _client(own: Client, hops: Sequence[_Hop], trusted: TrustedProxies) -> _Hop:
    client = _Hop(own.address, "", b"")
    for hop in hops:
        if not hop.address or not trusted.trusts(client.address):
            break
        client = hop
    return client


def _known(hop: _Hop) -> bool:
    return bool(hop.address)


def _hops(value: bytes, read: Callable[[bytes], _Hop | None]) -> list[_Hop]:
    """The hops of a list header, nearest first, up to the first that is malformed."""
    hops: list[_Hop] = []
    for text in reversed(value.split(b",")[-MAX_HOPS:]):
        hop = read(text.strip(b" \t")) if len(text) <= MAX_HOP_BYTES else None
        if hop is None:
            break
        hops.append(hop)
    return hops


def _xff_hop(text: bytes) -> _Hop | None:
    address = _address(text)
    return _Hop(address, "", text) if address else None


@lru_cache(maxsize=4096)
def _forwarded_hop(text: bytes) -> _Hop | None:
    if _FORWARDED(text) is None:
        return None
    pairs = [pair.partition(b"=") for pair in text.split(b";")]
    values = {name.lower(): value.strip(b'"') for name, _, value in pairs}
    node = values.get(b"for", b"unknown")
    address = _address(node)
    if len(values) < len(pairs) or not (address or _HIDDEN(node)):
        return None
    return _Hop(address, _PROTOS.get(values.get(b"proto", b"").lower(), ""), text)


@lru_cache(maxsize=4096)
def _address(node: bytes) -> str:
    """The address in a node such as `1.2.3.4:80` or `[::1]`; "" when there is none."""
    found = _NODE(node)
    return _canonical((found[1] or found[2] or found[3]).decode()) if found else ""


def _canonical(host: str) -> str:
    """The one spelling of an address, IPv4 mapped into IPv6 as IPv4; "" for what is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _element(address: str, proto: str = "") -> bytes:
    node = f'"[{address}]"' if ":" in address else address or "unknown"
    return (f"for={node};proto={proto}" if proto else f"for={node}").encode()
