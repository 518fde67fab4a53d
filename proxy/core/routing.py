"""From request target to route, and from user to bucket.

Upstreams and proxies read odd paths differently; a guard that one of them does not see is no guard.
So a path is decided on its normal form, and where the two readings could part the request is
refused (wire/README, Trust). The path itself is never rewritten.
"""

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from mmh3 import mmh3_32_uintdigest

from proxy.core.policy import Route
from proxy.errors import Refusal

BUCKETS = 10_000
"""Buckets run from 0 to 9999: one is a hundredth of a percent of the users."""

DIGITS = tuple(b"%d" % number for number in range(BUCKETS))
"""Buckets as text: each answer says its own, and to look it up costs less than a format."""

SALT = b"exposure"
"""Salt of the bucket that exposure and the recovery ramp share (facts 2.12)."""

_SLASH, _PERCENT, _PLUS = b"/%+"  # numbers: `b"%" in text` costs ten times as much as `0x25 in text`
# What most paths are: nothing in them can be read twice, and they are not searched for what could.
_PLAIN = rb"[A-Za-z0-9._~/-]*+"
_EMPTY_OR_DOT = rb"(?!.*/[/.])"
# Everything the normal form could change, and what is never right. Escapes that are left out are
# data in every reading: space, reserved characters other than / ; \ %, and all of non-ASCII.
_SUSPECT = re.compile(
    rb"[\x00-\x20\x7f#;\\]|/(?=/|\.\.?(?:/|\Z))"
    rb"|%(?!2[0-46-9A-Ca-c]|3[AaC-Fc-f]|40|5[BDEbde]|60|7[B-Db-d]|[89A-Fa-f][0-9A-Fa-f])"
).search
_MALFORMED = re.compile(
    rb"[\x00-\x20\x7f#]|%(?![0-9A-Fa-f]{2})"  # RFC 3986 2.1, 3.3; a target has no fragment (RFC 9112 3.2)
    rb"|%(?:[01][0-9A-Fa-f]|7[Ff])"  # encoded control characters
).search
_UNRESERVED = re.compile(  # RFC 3986 2.3
    rb"%(?:3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|2[DEde]|5[Ff]|7[Ee])"
)
_STRUCTURAL = re.compile(rb"%(?:25)*(2[EFef]|5[Cc]|3[Bb])")  # . / \ ; also encoded more than once
_PARAMETERS = re.compile(rb";[^/]*")


class RouteTable:
    """The routes of one policy, asked by path without query."""

    __slots__ = ("_entries", "_exact", "_plain", "_routes")

    def __init__(self, routes: Sequence[Route]) -> None:
        paths = sorted(((route.path.encode(), route) for route in routes), key=lambda e: -len(e[0]))
        # A prefix that does not end in a slash matches whole segments only: the third value is
        # where the next segment has to begin; 0: the prefix ends one itself.
        self._entries = tuple((path, route, 0 if path.endswith(b"/") else len(path)) for path, route in paths)

        # The same as one pattern, the route known by its group, for paths in which there is nothing odd.
        plain = [entry for entry in self._entries if re.fullmatch(_EMPTY_OR_DOT + _PLAIN, entry[0])]
        self._routes = (None, *(route for _, route, _ in plain))
        prefixes = b"|".join(
            b"(%b)" % re.escape(path) + (rb"(?=/|\Z)" if end else b"") for path, _, end in plain
        )
        self._plain = re.compile(b"%b(?:%b)%b" % (_EMPTY_OR_DOT, prefixes, _PLAIN)).fullmatch

        # Asked by their very path, plain routes (recommend routes, above all) need no second look.
        self._exact = {path: self.match(path) for path, _, _ in self._entries if not _SUSPECT(path)}

    def match(self, path: bytes) -> Route | None:
        """The route with the longest prefix of `path`, taken literally."""
        for prefix, route, end in self._entries:
            if path.startswith(prefix) and (not end or len(path) == end or path[end] == _SLASH):
                return route
        return None

    def resolve(self, path: bytes) -> Route | None:
        """The route of `path`, or None.

        Raises `Refusal` (400) for a malformed path, and for an ambiguous one that leads to a
        guarded route, to another route than its literal reading, or above the root.
        """
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        plain = self._plain
        found = plain(path)
        if found is not None:
            return self._routes[found.lastindex or 0]
        if not _SUSPECT(path):
            return self.match(path)
        return self._resolve_odd(path)

    def _resolve_odd(self, path: bytes) -> Route | None:
        if _MALFORMED(path):
            raise _refused("the path holds a bad percent-escape, a control character or a fragment")
        normal = normalised(path)
        literal = self.match(path)
        if normal == path:
            return literal
        route = None if normal is None else self.match(normal)
        if normal is None or route is not literal or (route is not None and _is_guarded(route)):
            raise _refused(
                "the path can be read in two ways; send it without dot segments, empty segments, "
                "parameters, backslashes and needless percent-escapes"
            )
        return route


def readings(path: bytes) -> tuple[bytes, ...]:
    """The ways to read a path: the normal form, and as it stands where that is something else."""
    if _SUSPECT(path) is None:
        return (path,)
    normal = normalised(path)
    return (path,) if normal is None or normal == path else (normal, path)


def normalised(path: bytes) -> bytes | None:
    """The path as the most eager reader would take it; None where it climbs above the root.

    Decodes what is unreserved, takes encoded and backward slashes for slashes, drops `;parameters`
    and empty segments, and removes dot segments (RFC 3986 5.2.4, 6.2.2).
    """
    decoded = _UNRESERVED.sub(lambda found: unquote_to_bytes(found[0]), path)
    decoded = _STRUCTURAL.sub(lambda found: unquote_to_bytes(b"%" + found[1]), decoded)
    segments = _PARAMETERS.sub(b"", decoded.replace(b"\\", b"/")).split(b"/")
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            if not kept:
                return None
            kept.pop()
        elif segment not in (b"", b"."):
            kept.append(segment)
    ends_open = bool(kept) and segments[-1] in (b"", b".", b"..")
    return b"/" + b"/".join(kept) + (b"/" if ends_open else b"")


def bucket(key: bytes, salt: bytes) -> int:
    """The bucket (0…9999) of a user: sticky, and even over users (facts 2.12)."""
    return (mmh3_32_uintdigest(salt + b":" + key) * BUCKETS) >> 32


def parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    """The names and values of a query in their order, decoded (percent-escapes, + as space)."""
    pairs = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name:
            pairs.append((decoded(name), decoded(value)))
    return pairs


def decoded(text: bytes) -> bytes:
    """One name or value of a query without its encoding."""
    if _PERCENT in text or _PLUS in text:
        return unquote_to_bytes(text.replace(b"+", b" "))
    return text


def _is_guarded(route: Route) -> bool:
    return bool(route.guarded or route.flag or route.methods)


def _refused(detail: str) -> Refusal:
    return Refusal("bad_request", 400, "Ambiguous or malformed path", detail)
