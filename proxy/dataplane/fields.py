"""The fields of a head: which of them the sidecar manages, and how they are cut out of the bytes.

llhttp hands every field to a dict (no Python runs per header); what the names of a head mean here is
remembered by their order.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import httptools

if TYPE_CHECKING:
    from proxy.dataplane.patterns import Pattern

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
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"expect"))
MOST_CONNECTION_OPTIONS = 32
"""Members of a Connection field; nobody needs more, and each is looked for."""

_REMEMBERED = 128
_MOST_PATTERNS = 64
_MOST_NAMES = 1024
_MEMORABLE_NAMES = 40
_MEMORABLE_BYTES = 64


_Sort: TypeAlias = tuple[bytes, int]
"""The lower-case name, and what to do with it; without one the name means nothing here."""


class Names:
    """What the names of a head's fields, as spelled and in their order, mean here."""

    __slots__ = ("alias", "claims", "cut", "framing", "managed", "respelled")

    def __init__(self, sorted_: Sequence[tuple[bytes, bytes, int]]) -> None:
        self.managed = tuple((spelled, name) for spelled, name, _ in sorted_)
        """Each as spelled and as the lower-case name it stands for."""
        names = {name for _, name in self.managed}
        self.cut = tuple(spelled for spelled, _, kind in sorted_ if kind)
        """Those that do not go on."""
        self.alias = next((spelled for spelled, _, kind in sorted_ if kind == ALIAS), b"")
        """One that could be read as another; mostly there is none."""
        self.respelled = len(names) < len(sorted_)  # one name in several spellings
        self.claims = not names.isdisjoint(REPLACED)
        self.framing = not names.isdisjoint(_FRAMING)


class Order:
    """Names in an order that heads had: what they mean, how often they came, how such heads are read."""

    __slots__ = ("names", "pattern", "promising", "spelled", "times")

    def __init__(self, spelled: tuple[bytes, ...], names: Names, *, promising: bool) -> None:
        self.spelled = spelled
        self.names = names
        self.promising = promising  # it may get a pattern
        self.times = 0
        self.pattern: Pattern | None = None


class Sorter:
    """Tells managed fields from the others, whatever their spelling (case, `_` for `-`)."""

    __slots__ = ("_kinds", "_meanings", "_orders", "_sorts")

    def __init__(self, kept: Iterable[bytes], cut: Iterable[bytes]) -> None:
        self._kinds = dict.fromkeys(kept, KEPT) | dict.fromkeys(cut, CUT)
        self._sorts: dict[bytes, _Sort | None] = {}
        self._meanings: dict[tuple[bytes, ...], Names] = {}  # by the managed ones among them
        self._orders: dict[tuple[bytes, ...], Order] = {}

    def read(
        self, found: dict[bytes, bytes], count: int, head: bytes, start: int
    ) -> tuple[Order, dict[bytes, bytes]]:
        """The order of a head's names, and its managed fields by lower-case name.

        `found` is what llhttp gave, with but one of those that share a name; there are `count` of them
        in `head`, from `start` on.
        """
        if len(found) == count:
            order = self._order(tuple(found))
            if not order.names.respelled:
                return order, {name: found[spelled].rstrip(b" \t") for spelled, name in order.names.managed}
            lines = lines_of(head[start:-4])
        else:
            lines = lines_of(head[start:-4])
            order = self._order(tuple([spelled for spelled, _ in lines]))
        managed = dict(order.names.managed)
        fields: dict[bytes, bytes] = {}
        for spelled, value in lines:  # values of one name in a list, as they stood
            name = managed.get(spelled)
            if name is not None:
                joint = b"; " if name == b"cookie" else b", "
                fields[name] = fields[name] + joint + value if name in fields else value
        return order, fields

    def _order(self, order: tuple[bytes, ...]) -> Order:
        """Clients say the same fields in the same order again and again, so orders are remembered."""
        return self._orders.get(order) or self._learn(order)

    def _learn(self, order: tuple[bytes, ...]) -> Order:
        bulky = len(order) > _MEMORABLE_NAMES or len(max(order, key=len, default=b"")) > _MEMORABLE_BYTES
        sorts = {} if bulky else self._sorts
        if not sorts.keys() >= set(order):
            if len(sorts) >= _MOST_NAMES:
                sorts.clear()
            sorts.update((spelled, self._sort(spelled)) for spelled in order)
        managed = tuple([spelled for spelled in order if sorts[spelled]])
        names = self._meanings.get(managed)
        if names is None:
            names = Names([(spelled, *found) for spelled in managed if (found := sorts[spelled])])
        learnt = Order(order, names, promising=not bulky)
        if not bulky:
            if len(self._meanings) >= _REMEMBERED:
                self._meanings.clear()
            self._meanings[managed] = names
            if len(self._orders) >= _REMEMBERED:
                self._forget()
            self._orders[order] = learnt
        return learnt

    def _forget(self) -> None:
        """Who sends ever new orders takes nobody's pattern away."""
        kept = {key: order for key, order in self._orders.items() if order.pattern is not None}
        self._orders = kept if len(kept) <= _MOST_PATTERNS else {}

    def _sort(self, spelled: bytes) -> _Sort | None:
        folded = spelled.lower()
        name = folded.replace(b"_", b"-")
        if name.startswith(_OWN):  # another spelling goes as well, and is nobody's name
            return folded, CUT
        kind = CUT if name.startswith(_CLAIMS) else self._kinds.get(name)
        if kind is None:
            return None
        return name, kind if name == folded else ALIAS


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
        self.on_header = self.fields.setdefault  # called with a third less effort than __setitem__

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
