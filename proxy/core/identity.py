"""Who is asking, read from the places that `[identity]` names.

What is read here chooses buckets and segments; it proves nothing. A value that is too long or holds
control characters is treated as absent, so that it can go into headers, logs and keys as it is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from proxy.core.policy import Identity
from proxy.core.routing import decoded, parameters

MAX_VALUE_BYTES = 256

_PERCENT = 0x25
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]").search
_SPEC = re.compile(r"(header|query|cookie):([!#$%&'*+.^_`|~0-9A-Za-z-]+)")  # RFC 9110 5.6.2, a token


class Who(NamedTuple):
    """The asking user and the segments they belong to; b"" is unknown."""

    user: bytes
    region: bytes
    cohort: bytes
    client: bytes


class IdentityReader:
    """Reads `Who` from a request, each field from the first of its sources that has a value.

    Raises `ValueError`, naming the spec, for one that is not `header:`, `query:` or `cookie:NAME`.
    """

    __slots__ = ("_client", "_cohort", "_region", "_user", "_user_field", "header_names", "segment_fields")

    def __init__(self, identity: Identity) -> None:
        self._user = _sources(identity.user)
        kind, name, _ = self._user[0] if self._user else ("", b"", None)
        self._user_field = name if kind == "header" else b""  # looked at first
        self._region = _sources(identity.region)
        self._cohort = _sources(identity.cohort)
        self._client = _sources(identity.client)
        self.header_names = frozenset(
            b"cookie" if kind == "cookie" else name
            for sources in (self._user, self._region, self._cohort, self._client)
            for kind, name, _ in sources
            if kind != "query"
        )
        """The request headers that have to be given to `read`, in lower case."""
        segments = self._region, self._cohort, self._client
        self.segment_fields = (
            (self._region[0][1], self._cohort[0][1], self._client[0][1])
            if all(len(it) == 1 and it[0][0] == "header" for it in segments)
            else None
        )
        """Of region, cohort and client, where each is read from one header and from nowhere else."""

    def read(self, headers: Mapping[bytes, bytes], query: bytes) -> Who:
        """`headers` by lower-case name, several `cookie` lines joined by `; `; `query` without `?`."""
        return self.who(_first(self._user, headers, query), headers, query)

    def who(self, user: bytes, headers: Mapping[bytes, bytes], query: bytes) -> Who:
        """As `read`, where the user is known already."""
        names = self.segment_fields
        if names is not None:
            region, cohort, client = names
            find = headers.get
            return Who(user, _sound(find(region)), _sound(find(cohort)), _sound(find(client)))
        return Who(
            user,
            _first(self._region, headers, query),
            _first(self._cohort, headers, query),
            _first(self._client, headers, query),
        )

    def user(self, headers: Mapping[bytes, bytes], query: bytes) -> bytes:
        """The user alone: all that a request without scoped rules needs."""
        value = headers.get(self._user_field)
        if value and len(value) <= MAX_VALUE_BYTES and value.decode("latin-1").isprintable():
            return value  # most are; of those that are not, not all are refused
        return _first(self._user, headers, query)


_Source: TypeAlias = tuple[str, bytes, Callable[[bytes], bytes]]


def _sources(specs: Sequence[str]) -> tuple[_Source, ...]:
    sources = []
    for spec in specs:
        found = _SPEC.fullmatch(spec)
        if found is None:
            raise ValueError(f"{spec!r} is not header:NAME, query:NAME or cookie:NAME")
        kind, name = found[1], found[2].encode()
        if kind == "header":
            name = name.lower()
        sources.append((kind, name, finder(name)))
    return tuple(sources)


def _first(sources: tuple[_Source, ...], headers: Mapping[bytes, bytes], query: bytes) -> bytes:
    for kind, name, find in sources:
        if kind == "header":
            value = headers.get(name)
        elif kind == "query":
            value = find(query) if query else None
        else:
            value = cookie(name, headers.get(b"cookie", b""))
        if value and len(value) <= MAX_VALUE_BYTES and not _CONTROL(value):
            return value
    return b""


def _sound(value: bytes | None) -> bytes:
    return value if value and len(value) <= MAX_VALUE_BYTES and not _CONTROL(value) else b""


def finder(name: bytes) -> Callable[[bytes], bytes]:
    """Gives the first value of this parameter in a query, decoded; b"" without one."""
    start = b"&" + name + b"="

    def find(query: bytes) -> bytes:
        if _PERCENT not in query:  # then names stand as they are
            _, known, rest = (b"&" + query).partition(start)
            if not known:
                return b""
            value = rest.partition(b"&")[0]
            if value:
                return decoded(value)
        return next((value for key, value in parameters(query) if key == name and value), b"")

    return find


def cookie(name: bytes, cookies: bytes) -> bytes:
    """The value of a cookie, without its quotes; b"" without one."""
    for pair in cookies.split(b";"):  # RFC 6265 5.4
        key, _, value = pair.strip().partition(b"=")
        if key == name and value:
            return value.strip(b'"')
    return b""
