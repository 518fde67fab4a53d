"""The fields of a head: which of them the sidecar manages, and how they are cut out of the bytes.

llhttp hands every field to a dict (no Python runs per header); names that mean nothing here are
remembered, so that a head is sorted by one set difference.
"""

from collections.abc import Collection, Iterable

import httptools

# Not passed on: hop-by-hop (RFC 9110 §7.6.1), and what the sidecar says itself.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
REPLACED = frozenset(
    (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip")
)
READ = frozenset(
    (
        b"content-length",
        b"expect",
        b"host",
        b"idempotency-key",
        b"max-forwards",
        b"traceparent",
        b"x-request-id",
    )
)
NO_TOKENS: frozenset[bytes] = frozenset()
USUAL_TOKENS = frozenset((b"close", b"keep-alive", b"upgrade"))

KEPT, CUT, ALIAS = range(3)

_OWN = b"x-fusebox-"
_CLAIMS = b"x-forwarded-"
MOST_CONNECTION_OPTIONS = 32
"""Members of a Connection field; nobody needs more, and each is looked for."""

_REMEMBERED = 4096
_MEMORABLE_BYTES = 64


class Sorter:
    """Tells managed fields from the others, whatever their spelling (case, `_` for `-`)."""

    __slots__ = ("_boring", "_bulky", "_kinds", "sorts")

    def __init__(self, kept: Iterable[bytes], cut: Iterable[bytes]) -> None:
        self._kinds = dict.fromkeys(kept, KEPT) | dict.fromkeys(cut, CUT)
        self._boring: set[bytes] = set()
        self._bulky = False  # a name is in there that is too long to be kept
        self.sorts: dict[bytes, tuple[bytes, int]] = {}
        """Of managed names as spelled: the lower-case name, and what to do with it."""

    def managed(self, names: Iterable[bytes]) -> set[bytes]:
        """Those of the names that are managed. Each is in `sorts` as long as nothing else is asked."""
        if len(self.sorts) > _REMEMBERED or self._bulky:
            self.sorts.clear()
            self._bulky = False
        found = set(names) - self._boring
        if not self.sorts.keys() >= found:
            found = {spelled for spelled in found if spelled in self.sorts or self._learn(spelled)}
        return found

    def _learn(self, spelled: bytes) -> bool:
        """Sort a name that was not seen before; False: there is nothing to do with it."""
        memorable = len(spelled) <= _MEMORABLE_BYTES
        self._bulky = self._bulky or not memorable
        folded = spelled.lower()
        name = folded.replace(b"_", b"-")
        if name.startswith(_OWN):  # another spelling goes as well, and is nobody's name
            self.sorts[spelled] = (folded, CUT)
            return True
        kind = CUT if name.startswith(_CLAIMS) else self._kinds.get(name)
        if kind is None:
            if memorable and len(self._boring) < _REMEMBERED:
                self._boring.add(spelled)
            return False
        self.sorts[spelled] = (name, kind if name == folded else ALIAS)
        return True


def lines_of(head: bytes) -> list[tuple[bytes, bytes]]:
    """All fields in their order, repeated ones too. `head` begins behind its first line."""
    fields = (line.partition(b":") for line in head.split(b"\r\n"))
    return [(spelled, value.strip(b" \t")) for spelled, colon, value in fields if colon]


def without(head: bytes, names: Iterable[bytes]) -> bytes:
    """`head` without the fields of these names, as they are spelled."""
    for name in names:
        line = b"\r\n%b:" % name
        at = head.find(line)
        while at >= 0:
            head = head[:at] + head[head.index(b"\r\n", at + 2) :]
            at = head.find(line, at)
    return head


def spelled_as(names: Collection[bytes], head: bytes) -> set[bytes]:
    """The spellings of these lower-case names that occur in `head`."""
    found = (line.partition(b":")[0] for line in head.split(b"\r\n"))
    return {spelled for spelled in found if spelled.lower() in names}


_known_members: dict[bytes, frozenset[bytes]] = {}


def list_members(value: bytes) -> frozenset[bytes]:
    """The lower-case members of a list, remembered: there are few that occur."""
    found = _known_members.get(value)
    if found is None:
        found = frozenset(token.strip(b" \t") for token in value.lower().split(b",")) - {b""}
        if len(_known_members) < 256 and len(value) < 64:
            _known_members[value] = found
    return found


class Validator:
    """llhttp reads a head whole and hands its fields to a dict, without a Python frame per field.

    Each head gets a parser of its own (0.2 µs): one that served before could be waiting for a body it
    was never fed, and would then read the next head from its middle.
    """

    __slots__ = ("_parser_type", "fields", "on_header")

    def __init__(
        self, parser: type[httptools.HttpRequestParser] | type[httptools.HttpResponseParser]
    ) -> None:
        self._parser_type = parser
        self.fields: dict[bytes, bytes] = {}
        self.on_header = self.fields.__setitem__

    def read(self, head: bytes) -> bool:
        """Fill `fields`; whether the head asks for (or grants) an upgrade. Raises `HttpParserError`."""
        self.fields.clear()
        try:
            self._parser_type(self).feed_data(head)
        except httptools.HttpParserUpgrade:
            return True
        return False


class Quiet:
    """A receiver without callbacks: llhttp validates, nobody is told."""
