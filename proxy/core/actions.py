"""Actions of users, recognised on the wire: which request is one, and the entry that is made of it.

Rules are compiled once per policy and looked up by route, so a route without rules pays nothing. A rule
is asked both for the path as it stands and for its normal form: writing a path in an odd way must not
keep an action out of the log. A slash at the end makes no difference.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.core.audit import PRIVATE, Entry, Outcome, Scalar
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

_LISTS = ("actor", "subject", "target", "before", "after", "reason")
# Bytes that an entry may take beside its values: names, braces, action, request id, address, instance.
_FRAME_BYTES = 1536
# One byte of a value becomes three at most: a replacement character, or an escape and a character.
_GROWTH = 3


class Source(NamedTuple):
    """Where a value stands: header names in lower case."""

    kind: str
    name: bytes


def source(spec: str) -> Source:
    """ValueError for what is none of the five kinds."""
    found = _SOURCE.fullmatch(spec)
    if found is None:
        raise ValueError("is not header:NAME, query:NAME, cookie:NAME, path:NAME or answer:NAME")
    kind, name = found.groups()
    return Source(kind, (name.lower() if kind in ("header", "answer") else name).encode())


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

    __slots__ = ("_captures", "_fixed", "_length", "_open", "names")

    def __init__(self, text: str) -> None:
        if not text.startswith("/"):
            raise ValueError("should begin with /")
        segments = text[1:].split("/") if text != "/" else []
        self._open = bool(segments) and segments[-1] == "*"
        if self._open:
            segments.pop()
        self._fixed: list[tuple[int, bytes]] = []
        self._captures: list[tuple[int, bytes]] = []
        for index, segment in enumerate(segments):
            if capture := _CAPTURE.fullmatch(segment):
                self._captures.append((index, capture[1].encode()))
            elif _LITERAL.fullmatch(segment) and segment not in (".", ".."):
                self._fixed.append((index, segment.encode()))
            else:
                raise ValueError("should be plain segments and {names}, with /* at the end at most")
        self._length = len(segments)
        self.names = [name.decode() for _, name in self._captures]
        if len(set(self.names)) != len(self.names):
            raise ValueError("holds one {name} twice")

    def match(self, segments: Sequence[bytes]) -> dict[bytes, bytes] | None:
        """What was captured from decoded segments; None when they are another path."""
        length = len(segments)
        if length != self._length and not (self._open and length > self._length):
            return None
        for index, literal in self._fixed:
            if segments[index] != literal:
                return None
        return {name: segments[index] for index, name in self._captures}

    def reaches(self, prefix: str) -> bool:
        """Whether a path below this prefix of a route can match."""
        wanted = [segment.encode() for segment in prefix.split("/") if segment]
        fixed = dict(self._fixed)
        if len(wanted) > self._length and not self._open:
            return False
        return all(fixed.get(index, segment) == segment for index, segment in enumerate(wanted))


class Rule:
    """One `Action`, compiled. ValueError when it cannot be."""

    __slots__ = (
        "_sources",
        "_statuses",
        "action",
        "counted",
        "methods",
        "reads_answer",
        "sample",
        "size",
        "template",
    )

    def __init__(self, settings: Action, identity: Identity) -> None:
        self.action = f"user.{settings.action}"
        self.template = Template(settings.path)
        self.methods = frozenset(method.encode() for method in settings.methods)
        self.sample = settings.sample
        self.counted = settings.when_full == "count"
        self._statuses = statuses(settings.status)
        self._sources = {name: tuple(map(source, getattr(settings, name))) for name in _LISTS}
        if not settings.actor:
            self._sources["actor"] = tuple(map(source, identity.user))
        self.reads_answer = any(it.kind == "answer" for each in self._sources.values() for it in each)
        mapped = [*self._sources["before"], *self._sources["after"]]
        values = 4 + len(mapped)  # actor, subject, target, reason
        self.size = _FRAME_BYTES + values * MAX_VALUE_BYTES * _GROWTH + sum(len(it.name) for it in mapped)

    @property
    def header_names(self) -> frozenset[bytes]:
        """The request headers it reads, in lower case."""
        found = {it for sources in self._sources.values() for it in sources}
        named = {it.name for it in found if it.kind == "header"}
        return frozenset(named | {b"cookie"} if any(it.kind == "cookie" for it in found) else named)

    def takes(self, status: int, outcome: Outcome) -> bool:
        """Whether an answer is of the kind that is recorded; what is unknown always is."""
        return not self._statuses or status in self._statuses or outcome is Outcome.UNKNOWN

    def values(self, seen: "Seen", captured: Mapping[bytes, bytes]) -> "Values":
        """What the request and its answer say of the action."""
        first = {name: _first(self._sources[name], seen, captured) for name in _LISTS[:3]}
        return Values(
            actor=first["actor"],
            subject=first["subject"] or ("" if self._sources["subject"] else first["actor"]),
            target=first["target"],
            before=_all(self._sources["before"], seen, captured),
            after=_all(self._sources["after"], seen, captured),
            reason=_first(self._sources["reason"], seen, captured),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a rule may read. Header names are in lower case, `cookie` lines joined by `; `."""

    headers: Mapping[bytes, bytes]
    query: bytes
    answer: Mapping[bytes, bytes]


class Values(NamedTuple):
    actor: str
    subject: str
    target: str
    before: Mapping[str, Scalar] | None
    after: Mapping[str, Scalar] | None
    reason: str


class Match(NamedTuple):
    """A rule that a request fits, with what its path holds."""

    rule: Rule
    captured: Mapping[bytes, bytes]


class RouteRules:
    """The rules of one route, in the order of the settings."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)

    def match(self, method: bytes, path: bytes) -> list[Match]:
        """Those that a request fits; the first of them whose status fits the answer records it."""
        read = [_segments(reading) for reading in readings(path)]
        found = []
        for rule in self._rules:
            if rule.methods and method not in rule.methods:
                continue
            for segments in read:
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
        """The request headers that have to be given to `Seen`."""

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


def entry(
    match: Match,
    seen: Seen,
    *,
    outcome: Outcome,
    status: int,
    code: str,
    at: str,
    address: str,
    request_id: str,
    instance: str,
) -> Entry:
    """What is recorded. `code` says why there is no answer of the upstream's (contract, Codes)."""
    rule = match.rule
    values = rule.values(seen, match.captured)
    told = values._replace(reason=": ".join(filter(None, (code, values.reason))))
    private: tuple[str, ...] = ()
    if values.subject:  # a code alone is nobody's secret, and helps whoever searches
        private = tuple(name for name in PRIVATE if (address if name == "address" else getattr(values, name)))
    return Entry(
        action=rule.action,
        outcome=outcome,
        at=at,
        **told._asdict(),
        address=address,
        request_id=request_id,
        instance=instance,
        status=status,
        sample=rule.sample,
        private=private,
    )


def _segments(path: bytes) -> list[bytes]:
    """Decoded, without the slash at the end."""
    found = path[1:].split(b"/")
    if not found[-1]:
        found.pop()
    return [unquote_to_bytes(it) for it in found] if b"%" in path else found


def _first(sources: Sequence[Source], seen: Seen, captured: Mapping[bytes, bytes]) -> str:
    for it in sources:
        if value := _value(it, seen, captured):
            return safe(value)
    return ""


def _all(
    sources: Sequence[Source], seen: Seen, captured: Mapping[bytes, bytes]
) -> Mapping[str, Scalar] | None:
    found: dict[str, Scalar] = {
        it.name.decode(): safe(value) for it in sources if (value := _value(it, seen, captured))
    }
    return found or None


def _value(it: Source, seen: Seen, captured: Mapping[bytes, bytes]) -> bytes:
    match it.kind:
        case "header":
            return seen.headers.get(it.name, b"")
        case "query":
            return parameter(it.name, seen.query) if seen.query else b""
        case "cookie":
            return cookie(it.name, seen.headers.get(b"cookie", b""))
        case "path":
            return captured.get(it.name, b"")
        case _:
            return seen.answer.get(it.name, b"")


def safe(value: bytes) -> str:
    """Text of at most `MAX_VALUE_BYTES` bytes of the wire; what is no UTF-8 or a control is replaced."""
    if len(value) > MAX_VALUE_BYTES:
        value = value[:MAX_VALUE_BYTES]
    return _UNSAFE.sub("\ufffd", value.decode(errors="replace"))
