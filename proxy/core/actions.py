"""Actions of users, recognised on the wire: which request is one, and the entry that is made of it.

Rules are compiled once per policy and looked up by route, so a route without rules pays nothing. A rule
is asked both for the path as it stands and for its normal form: writing a path in an odd way must not
keep an action out of the log. A slash at the end makes no difference. Paths in which nothing is odd, which
most are, one pattern matches with all rules at once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

import orjson

from proxy.core.action_paths import PLAIN_REST, Captured, Template
from proxy.core.audit import PRIVATE, Outcome
from proxy.core.audit_settings import Action
from proxy.core.identity import cookie, finder
from proxy.core.policy import Identity, Route
from proxy.core.routing import readings

MAX_VALUE_BYTES = 256
"""What is recorded of one value; the rest is cut off."""

_SOURCE = re.compile(r"(header|query|cookie|path|answer):([!#$%&'*+.^_`|~0-9A-Za-z-]+)")  # RFC 9110 5.6.2
_STATUS = re.compile(r"[2-5]xx|[2-5][0-9][0-9]|101")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f]")
_PLAIN_TEXT = re.compile(rb"[ !#-\[\]-~]*+").fullmatch  # it stands in JSON as it is
_GAP = "\0"  # in no name

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
Seen = tuple[Fields, bytes, Captured, Fields]
"""What a rule reads: request headers by lower-case name (`cookie` lines joined by `; `), the query, what
the path holds under the names of the template, fields of the upstream's answer."""


def source(spec: str) -> Source:
    """ValueError for what is none of the five kinds."""
    found = _SOURCE.fullmatch(spec)
    if found is None:
        raise ValueError("is not header:NAME, query:NAME, cookie:NAME, path:NAME or answer:NAME")
    kind, name = found.groups()
    return Source(kind, (name.lower() if kind in ("header", "answer") else name).encode())


def _reader(it: Source, captures: Sequence[bytes]) -> Callable[[Seen], bytes]:
    """The value there, b"" without one; `captures` are the names of what a path holds."""
    name = it.name
    match it.kind:
        case "header":
            return lambda seen: seen[0].get(name, b"")
        case "query":
            find = finder(name)
            return lambda seen: find(seen[1]) if seen[1] else b""
        case "cookie":
            return lambda seen: cookie(name, seen[0].get(b"cookie", b""))
        case "path" if name in captures:
            at = captures.index(name)
            return lambda seen: seen[2][at]
        case "path":
            return lambda _: b""
        case _:
            return lambda seen: seen[3].get(name, b"")


def _first_of(readers: Sequence[Callable[[Seen], bytes]]) -> Callable[[Seen], bytes]:
    first, *others = readers
    if not others:
        return first
    second = _first_of(others)
    return lambda seen: first(seen) or second(seen)


def statuses(specs: Sequence[str]) -> frozenset[int]:
    """The status codes that are meant; ValueError names the spec that is none."""
    found: set[int] = set()
    for spec in specs:
        if not _STATUS.fullmatch(spec):
            raise ValueError(f'{spec!r} is no status: "2xx" or "401"')
        first = int(spec.replace("x", "0"))
        found.update(range(first, first + (100 if "x" in spec else 1)))
    return frozenset(found)


class Rule:
    """One `Action`, compiled. ValueError when it cannot be."""

    __slots__ = (
        "_end",
        "_end_of_nobody",
        "_end_with_code",
        "_form",
        "_needed",
        "_places",
        "_reads",
        "_statuses",
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
        self._read(sources)
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

    def _read(self, sources: Mapping[str, Sequence[Source]]) -> None:
        """Prepare what `written` mostly does: read, see that all is plain text, fill it in."""
        captures = [name.encode() for name in self.template.names]
        person = "actor" if self.subject_is_actor else "subject"
        texts = [person, *(name for name in _TEXTS if name != person)]
        readers = {name: [_reader(it, captures) for it in sources[name]] for name in sources}
        reads = [(name, "", _first_of(readers[name])) for name in texts if readers[name]]
        mapped = [
            (name, it.name.decode(), read)
            for name in _MAPPINGS
            for it, read in zip(sources[name], readers[name], strict=True)
        ]
        self._needed = 1 + len(mapped)
        reads[1:1] = mapped
        self._reads = tuple(read for _, _, read in reads)
        self._places = tuple((field, name) for field, name, _ in reads)
        told = {"action": self.action, "sample": self.sample}
        self._end_of_nobody = _end(told)
        self._end = _end(told | {"private": PRIVATE})
        self._end_with_code = _end(told | {"private": _BUT_REASON})
        # The whole of it with gaps, where a person is known and something stands under each name; a text may
        # be empty as well as missing.
        members: dict[str, Any] = {"subject": _GAP} if self.subject_is_actor else {}
        for field, name in self._places:
            if name:
                members.setdefault(field, {})[name] = _GAP
            else:
                members[field] = _GAP
        said_twice = len(set(self._places)) < len(self._places)
        self._form = _form(members, self._end) if readers[person] and not said_twice else []

    def written(self, said: str, seen: Seen, code: str = "") -> bytes:
        """The entry as it waits in the spool (`core.audit.parse` reads it).

        `said` are the members that the caller knows, in JSON. `code` (contract, Codes) is why there is no
        answer of the upstream's; it stands before the user's reason.
        """
        values = [read(seen) for read in self._reads]
        text = b"".join(values)
        plain = len(text) <= MAX_VALUE_BYTES and _PLAIN_TEXT(text)
        if not plain or code or not self._form or not all(values[: self._needed]):
            return self._escaped(said, values, code)
        values.append(said.encode())
        form = self._form.copy()
        form[1::2] = (values[0], *values) if self.subject_is_actor else values
        return b"".join(form)

    def _escaped(self, said: str, values: Sequence[bytes], code: str) -> bytes:
        """… whatever is missing, and whatever the values hold."""
        told: dict[str, Any] = {}
        for (field, name), value in zip(self._places, values, strict=True):
            if value and name:
                told.setdefault(field, {})[name] = safe(value)
            elif value:
                told[field] = safe(value)
        if self.subject_is_actor and "actor" in told:
            told["subject"] = told["actor"]
        end = self._end if "subject" in told else self._end_of_nobody
        if code and "reason" in told:
            told["reason"] = f"{code}: {told['reason']}"
        elif code:  # alone it is nobody's secret, and tells much to whoever searches
            told["reason"] = code
            end = self._end_with_code if "subject" in told else end
        members = orjson.dumps(told)[1:-1] + b"," if told else b""
        return b"{%b%b%b" % (members, said.encode(), end)


def _form(members: Mapping[str, Any], end: bytes) -> list[bytes]:
    """An entry in pieces, with places for values and, before the `end`, for what the caller says."""
    between = orjson.dumps(members)[:-1].split(orjson.dumps(_GAP)[1:-1])
    form = [b""] * (2 * len(between) + 1)
    form[::2] = [*between[:-1], between[-1] + b",", end]
    return form


def _end(members: Mapping[str, Any]) -> bytes:
    return b"," + orjson.dumps(members)[1:]


Match: TypeAlias = tuple[Rule, Captured]
"""A rule that a request fits, with what its path holds."""


class _Listed:
    """Rules in the order of the settings, asked for a path."""

    __slots__ = ("_by_group", "_plain", "_rules")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        # The first that fits is known by the empty group at its end.
        each = b"".join(rb"%b()|" % rule.template.plainly for rule in rules)
        self._plain = re.compile(rb"/(?:%b%b)" % (each, PLAIN_REST)).match
        self._by_group: dict[int, tuple[Rule, int, Sequence[Rule]]] = {}
        group = 0
        for at, rule in enumerate(rules):
            first = group
            group += len(rule.template.names) + 1
            # Those that may fit as well: mostly none, and then nobody is asked any more.
            later = [it for it in rules[at + 1 :] if it.template.meets(rule.template)]
            self._by_group[group] = rule, first, later

    def match(self, path: bytes) -> Sequence[Match]:
        plain = self._plain(path)
        if plain is None:
            return self.match_odd(path)
        group = plain.lastindex
        if group is None:
            return ()
        rule, first, later = self._by_group[group]
        found = (rule, plain.groups()[first : group - 1])
        if not later:
            return (found,)
        segments = _segments(path)
        others = [(it, captured) for it in later if (captured := it.template.match(segments)) is not None]
        return [found, *others]

    def match_odd(self, path: bytes) -> Sequence[Match]:
        """The same for any path, in all ways to read it."""
        ways = [_segments(reading) for reading in readings(path)]
        found: list[Match] = []
        for rule in self._rules:
            for segments in ways:
                captured = rule.template.match(segments)
                if captured is not None:
                    found.append((rule, captured))
                    break
        return found


class RouteRules:
    """The rules of one route, in the order of the settings."""

    __slots__ = ("_any", "_by_method")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._any = _Listed([rule for rule in rules if not rule.methods]).match
        methods = {method for rule in rules for method in rule.methods}
        self._by_method = {
            method: _Listed([rule for rule in rules if not rule.methods or method in rule.methods]).match
            for method in methods
        }

    def match(self, method: bytes, path: bytes) -> Sequence[Match]:
        """Those that a request fits; the first of them whose status fits the answer records it."""
        return self._by_method.get(method, self._any)(path)


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
    text = value[:MAX_VALUE_BYTES].decode("utf-8", "replace")
    return text if text.isprintable() else _UNSAFE.sub("\ufffd", text)
