"""Actions of users, recognised on the wire: which request is one, and the entry that is made of it.

Rules are compiled once per policy and looked up by route, so a route without rules pays nothing. A rule
is asked both for the path as it stands and for its normal form: writing a path in an odd way must not
keep an action out of the log. A slash at the end makes no difference.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

from proxy.core.audit import PRIVATE, Outcome
from proxy.core.audit_settings import Action
from proxy.core.identity import cookie, parameter
from proxy.core.policy import Identity, Route
from proxy.core.routing import readings

MAX_VALUE_BYTES = 256
"""What is recorded of one value; the rest is cut off."""

_SOURCE = re.compile(r"(header|query|cookie|path|answer):([!#$%&'*+.^_`|~0-9A-Za-z-]+)")  # RFC 9110 5.6.2
_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LITERAL = re.compile(r"[\w!$&'()+,:=@~.-]+", re.ASCII)
_STATUS = re.compile(r"[2-5]xx|[2-5][0-9][0-9]|101")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f]")

_TEXTS = ("actor", "subject", "target", "reason")
_MAPPINGS = ("before", "after")
_BUT_REASON = tuple(name for name in PRIVATE if name != "reason")
# Bytes that an entry may take beside its values: names, braces, action, request id, address, instance.
_FRAME_BYTES = 1536
# One byte of a value becomes three at most: a replacement character, or an escape and a character.
_GROWTH = 3


class Source(NamedTuple):
    """Where a value stands: header names in lower case."""

    kind: str
    name: bytes


Fields = Mapping[bytes, bytes]
Seen = tuple[Fields, bytes, Fields, Fields]
"""What a rule reads: request headers by lower-case name (`cookie` lines joined by `; `), the query, what
the path holds, fields of the upstream's answer."""


def source(spec: str) -> Source:
    """ValueError for what is none of the five kinds."""
    found = _SOURCE.fullmatch(spec)
    if found is None:
        raise ValueError("is not header:NAME, query:NAME, cookie:NAME, path:NAME or answer:NAME")
    kind, name = found.groups()
    return Source(kind, (name.lower() if kind in ("header", "answer") else name).encode())


def _reader(it: Source) -> Callable[[Seen], bytes]:
    """The value there, b"" without one."""
    name = it.name
    match it.kind:
        case "header":
            return lambda seen: seen[0].get(name, b"")
        case "query":
            return lambda seen: parameter(name, seen[1]) if seen[1] else b""
        case "cookie":
            return lambda seen: cookie(name, seen[0].get(b"cookie", b""))
        case "path":
            return lambda seen: seen[2].get(name, b"")
        case _:
            return lambda seen: seen[3].get(name, b"")


def statuses(specs: Sequence[str]) -> frozenset[int]:
    """The status codes that are meant; ValueError names the spec that is none."""
    found: set[int] = set()
    for spec in specs:
        if not _STATUS.fullmatch(spec):
            raise ValueError(f'{spec!r} is no status: "2xx" or "401"')
        first = int(spec.replace("x", "0"))
        found.update(range(first, first + (100 if "x" in spec else 1)))
    return frozenset(found)


class Template:
    """A path with `{name}` for single segments, perhaps with `/*` at its end for any rest.

    ValueError says what is wrong with it.
    """

    __slots__ = ("_captures", "_fixed", "_length", "_literals", "_open", "_pick", "names")

    def __init__(self, text: str) -> None:
        if not text.startswith("/"):
            raise ValueError("should begin with /")
        segments = text[1:].split("/") if text != "/" else []
        self._open = bool(segments) and segments[-1] == "*"
        if self._open:
            segments.pop()
        self._fixed: dict[int, bytes] = {}
        self._captures: list[tuple[int, bytes]] = []
        for index, segment in enumerate(segments):
            if capture := _CAPTURE.fullmatch(segment):
                self._captures.append((index, capture[1].encode()))
            elif _LITERAL.fullmatch(segment) and segment not in (".", ".."):
                self._fixed[index] = segment.encode()
            else:
                raise ValueError("should be plain segments and {names}, with /* at the end at most")
        self._length = len(segments)
        self.names = [name.decode() for _, name in self._captures]
        if len(set(self.names)) != len(self.names):
            raise ValueError("holds one {name} twice")
        # one comparison for all literal segments
        self._pick: Callable[[Any], Any] = itemgetter(*self._fixed) if self._fixed else tuple
        self._literals = self._pick(self._fixed)

    def match(self, segments: Sequence[bytes]) -> dict[bytes, bytes] | None:
        """What was captured from decoded segments; None when they are another path."""
        length = len(segments)
        if length != self._length and not (self._open and length > self._length):
            return None
        if self._fixed and self._pick(segments) != self._literals:
            return None
        return {name: segments[index] for index, name in self._captures}

    def reaches(self, prefix: str) -> bool:
        """Whether a path below this prefix of a route can match."""
        wanted = [segment.encode() for segment in prefix.split("/") if segment]
        if len(wanted) > self._length and not self._open:
            return False
        return all(self._fixed.get(index, segment) == segment for index, segment in enumerate(wanted))


class Rule:
    """One `Action`, compiled. ValueError when it cannot be."""

    __slots__ = (
        "_mappings",
        "_statuses",
        "_texts",
        "action",
        "counted",
        "header_names",
        "methods",
        "reads_answer",
        "sample",
        "size",
        "subject_is_actor",
        "template",
    )

    def __init__(self, settings: Action, identity: Identity) -> None:
        self.action = f"user.{settings.action}"
        self.template = Template(settings.path)
        self.methods = frozenset(method.encode() for method in settings.methods)
        self.sample = settings.sample
        self.counted = settings.when_full == "count"
        self.subject_is_actor = not settings.subject
        self._statuses = statuses(settings.status)
        sources = {name: [source(spec) for spec in getattr(settings, name)] for name in (*_TEXTS, *_MAPPINGS)}
        sources["actor"] = sources["actor"] or [source(spec) for spec in identity.user]
        self._texts = tuple((it, tuple(map(_reader, sources[it]))) for it in _TEXTS if sources[it])
        self._mappings = tuple(
            (field, tuple((it.name.decode(), _reader(it)) for it in sources[field]))
            for field in _MAPPINGS
            if sources[field]
        )
        every = {it for listed in sources.values() for it in listed}
        self.reads_answer = any(it.kind == "answer" for it in every)
        self.header_names = frozenset(
            b"cookie" if it.kind == "cookie" else it.name for it in every if it.kind in ("header", "cookie")
        )
        """The request headers it reads, in lower case."""
        mapped = [it for name in _MAPPINGS for it in sources[name]]
        values = len(_TEXTS) + len(mapped)
        self.size = _FRAME_BYTES + values * MAX_VALUE_BYTES * _GROWTH + sum(len(it.name) for it in mapped)
        """The most bytes that `written` gives."""

    def takes(self, status: int, outcome: Outcome) -> bool:
        """Whether an answer is of the kind that is recorded; what is unknown always is."""
        return not self._statuses or status in self._statuses or outcome is Outcome.UNKNOWN

    def written(self, values: dict[str, Any], seen: Seen) -> bytes:
        """The entry as it waits in the spool (`core.audit.parse` reads it).

        `values` holds the fields that the caller knows. A `reason` among them is the code (contract,
        Codes) why there is no answer of the upstream's; it stands before the user's reason.
        """
        code = values.pop("reason", "")
        values["action"] = self.action
        values["sample"] = self.sample
        for field, readers in self._texts:
            for read in readers:
                if value := read(seen):
                    values[field] = safe(value)
                    break
        for field, named in self._mappings:
            if found := {name: safe(value) for name, read in named if (value := read(seen))}:
                values[field] = found
        if self.subject_is_actor and "actor" in values:
            values["subject"] = values["actor"]
        private: Sequence[str] = PRIVATE
        if code and "reason" in values:
            values["reason"] = f"{code}: {values['reason']}"
        elif code:  # alone it is nobody's secret, and tells much to whoever searches
            values["reason"] = code
            private = _BUT_REASON
        if "subject" in values:
            values["private"] = private
        return orjson.dumps(values)


class Match(NamedTuple):
    """A rule that a request fits, with what its path holds."""

    rule: Rule
    captured: Mapping[bytes, bytes]


class RouteRules:
    """The rules of one route, in the order of the settings."""

    __slots__ = ("_any", "_by_method")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._any = tuple(rule for rule in rules if not rule.methods)
        methods = {method for rule in rules for method in rule.methods}
        self._by_method = {
            method: tuple(rule for rule in rules if not rule.methods or method in rule.methods)
            for method in methods
        }

    def match(self, method: bytes, path: bytes) -> Sequence[Match]:
        """Those that a request fits; the first of them whose status fits the answer records it."""
        rules = self._by_method.get(method, self._any)
        if not rules:
            return ()
        ways = [_segments(reading) for reading in readings(path)]
        found = []
        for rule in rules:
            for segments in ways:
                captured = rule.template.match(segments)
                if captured is not None:
                    found.append(Match(rule, captured))
                    break
        return found


class ActionRules:
    """All rules of a policy."""

    __slots__ = ("_actions", "header_names")

    def __init__(self, actions: Sequence[Action], identity: Identity) -> None:
        self._actions = tuple((action.route, Rule(action, identity)) for action in actions)
        self.header_names = frozenset().union(*(rule.header_names for _, rule in self._actions))
        """The request headers that have to be given to `Rule.written`."""

    def of(self, route: Route) -> RouteRules | None:
        """None for a route without rules. Recommend routes answer reads and have none."""
        if route.kind != "forward":
            return None
        rules = [
            rule
            for name, rule in self._actions
            if name in ("", route.name) and rule.template.reaches(route.path)
        ]
        return RouteRules(rules) if rules else None


def _segments(path: bytes) -> list[bytes]:
    """Decoded, without the slash at the end."""
    found = path[1:].split(b"/")
    if not found[-1]:
        found.pop()
    return [unquote_to_bytes(it) for it in found] if b"%" in path else found


def safe(value: bytes) -> str:
    """Text of at most `MAX_VALUE_BYTES` bytes of the wire; what is no UTF-8 or a control is replaced."""
    text = value[:MAX_VALUE_BYTES].decode(errors="replace")
    return text if text.isprintable() else _UNSAFE.sub("\ufffd", text)
