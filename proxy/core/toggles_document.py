"""A toggles document, read and checked against the catalogue: every fault at once, each with its place."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from proxy.core.toggles import BY_NAME, CATALOGUE, CONTRADICTIONS, DEFAULTS, Rule, Scope, Toggle, Toggles

MAX_RULES = 10_000
MAX_NAMES = 1_000
MAX_NAME_BYTES = 256
MAX_COMBINATIONS = 200_000
"""Of region, cohort and client that the scopes of all rules may name together: each takes memory."""

METADATA: Mapping[str, type] = {
    "version": int,
    "environment": str,
    "updated_by": str,
    "updated_at": str,
    "reason": str,
}
PARTS: Mapping[str, type] = {"metadata": dict, "toggles": dict, "rules": list, "flags": dict}
SCOPES: Mapping[str, Toggle] = {part: BY_NAME[f"{part}_scope"] for part in ("region", "cohort", "client")}
"""What a rule's scope may name, and the toggle that says the same of the whole document."""

_CONTRADICTING = frozenset(name for each in CONTRADICTIONS for name in each.values)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]").search
_KINDS = {dict: "an object", list: "a list", bool: "true or false", int: "a whole number", str: "text"}


class Fault(NamedTuple):
    """Something wrong in a document."""

    place: tuple[str | int, ...]
    """Keys and indices from its top."""
    message: str
    hint: str = ""
    known: tuple[str, ...] = ()
    """For a name that is not known: those that are."""

    @property
    def way_out(self) -> str:
        """The hint, or the names that are known, to be added to the message."""
        said = self.hint or (f"there are: {', '.join(self.known)}" if self.known else "")
        return f" ({said})" if said else ""


def read_document(raw: Any, flags: Collection[str]) -> tuple[Toggles, list[Fault]]:
    """What `raw`, parsed JSON, says; `flags` are the names that routes ask for.

    Where something is wrong the default stands in, so the toggles are for use only without faults.
    """
    faults: list[Fault] = []
    if type(raw) is not dict:
        return DEFAULTS, [Fault((), "should be an object with metadata, toggles, rules and flags")]
    faults += (Fault((key,), "unknown key", known=tuple(PARTS)) for key in raw.keys() - PARTS.keys())
    metadata, chosen, rules, switched = (
        _of(kind, raw.get(key, kind()), (key,), faults) or kind() for key, kind in PARTS.items()
    )
    version = _version(metadata, faults)
    values = _values(chosen, ("toggles",), faults, CATALOGUE)
    for flag, on in switched.items():
        _of(bool, on, ("flags", flag), faults)
        if flag not in flags:
            faults.append(Fault(("flags", flag), "no route has this flag", known=tuple(flags)))
    toggles = replace(DEFAULTS, version=version, flags=dict(switched), **values)
    faults += (Fault(("toggles", name), why) for name, why in contradictions(toggles))
    return replace(toggles, rules=_rules(rules, toggles, faults)), faults


def read_values(chosen: Mapping[str, Any], allowed: Collection[Toggle]) -> tuple[dict[str, Any], list[Fault]]:
    """Toggles by name, alone: those of `allowed` that are as they may be, and what is wrong with the rest."""
    faults: list[Fault] = []
    return _values(chosen, (), faults, allowed), faults


def contradictions(toggles: Toggles) -> Iterator[tuple[str, str]]:
    """What excludes each other among the values: the toggle to change, and why."""
    return ((each.place, each.why) for each in CONTRADICTIONS if each.found_in(toggles))


def _version(metadata: dict[str, Any], faults: list[Fault]) -> int:
    for key, value in metadata.items():
        if key not in METADATA:
            faults.append(Fault(("metadata", key), "unknown key", known=tuple(METADATA)))
        else:
            _of(METADATA[key], value, ("metadata", key), faults)
    version = metadata.get("version", 1)
    if type(version) is not int:
        return 1
    if version < 1:
        faults.append(Fault(("metadata", "version"), "should be 1 or more"))
    return version


def read_over(
    raw: Mapping[str, Any], place: tuple[str | int, ...], bases: Sequence[Toggles] = (DEFAULTS,)
) -> tuple[dict[str, Any], list[Fault]]:
    """Toggles that are laid over others, as those of a rule, and what is wrong with them over `bases`."""
    faults: list[Fault] = []
    values = _values(raw, place, faults, [toggle for toggle in CATALOGUE if toggle.scoped])
    faults += (Fault((*place, name), why) for name, why in sorted(_contradictions(values, bases)))
    return values, faults


def _values(
    chosen: Mapping[str, Any], place: tuple[str | int, ...], faults: list[Fault], allowed: Collection[Toggle]
) -> dict[str, Any]:
    """The toggles that are as they may be, with the types of `Toggles`."""
    names = {toggle.name for toggle in allowed}
    values = {}
    for name, value in chosen.items():
        toggle = BY_NAME.get(name)
        if toggle is None:
            faults.append(Fault((*place, name), "unknown toggle", known=tuple(sorted(names))))
        elif name not in names:
            faults.append(Fault((*place, name), "is for everybody and cannot differ by scope"))
        elif (wrong := _wrong(toggle, value)) is None:
            values[name] = tuple(value) if toggle.kind == "names" else value
        else:
            faults.append(Fault((*place, name, *wrong.place), *wrong[1:]))
    return values


def _wrong(toggle: Toggle, value: Any) -> Fault | None:
    """What is wrong with a value, its place seen from there."""
    if value is None and toggle.nullable:
        return None
    match toggle.kind:
        case "switch":
            return None if type(value) is bool else Fault((), "should be true or false")
        case "number":
            return _wrong_number(toggle, value)
        case "choice":
            if type(value) is str and value in toggle.choices:
                return None
            said = ", ".join(toggle.choices) + (" or null" if toggle.nullable else "")
            return Fault((), f"should be one of {said}")
        case "names":
            return wrong_names(toggle, value)


def _wrong_number(toggle: Toggle, value: Any) -> Fault | None:
    if type(value) not in {int, float} or not toggle.low <= value <= toggle.high:
        null = " or null" if toggle.nullable else ""
        return Fault((), f"should be a number from {toggle.low:g} to {toggle.high:g}{null}")
    if toggle.name == "exposure_percent" and abs(value * 100 - round(value * 100)) > 1e-6:
        return Fault((), "is finer than 0.01, which is one bucket")
    return None


def wrong_names(toggle: Toggle, value: Any) -> Fault | None:
    """What is wrong with a list of names, or None."""
    if type(value) is not list or len(value) > MAX_NAMES:
        return Fault((), f"should be a list of at most {MAX_NAMES} names; empty: all")
    for index, name in enumerate(value):
        if type(name) is not str or not 0 < len(name.encode()) <= MAX_NAME_BYTES or _CONTROL(name):
            return Fault((index,), f"should be text of 1 to {MAX_NAME_BYTES} bytes, no control characters")
        if toggle.choices and name not in toggle.choices:
            return Fault((index,), f"there is no cohort {name!r}", known=toggle.choices)
        if name in value[:index]:
            return Fault((index,), f"{name!r} stands there already")
    return None


def _rules(raw: list[Any], toggles: Toggles, faults: list[Fault]) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    if len(raw) > MAX_RULES:
        faults.append(Fault(("rules",), f"are {len(raw)}; at most {MAX_RULES}"))
        return ()
    at: list[int] = []  # where each stands in `raw`
    seen: dict[Scope, int] = {}
    combinations = 0
    scoped = [toggle for toggle in CATALOGUE if toggle.scoped]
    for index, each in enumerate(raw):
        place = ("rules", index)
        if _of(dict, each, place, faults) is None:
            continue
        faults += (
            Fault((*place, key), "unknown key", known=("scope", "toggles"))
            for key in each.keys() - {"scope", "toggles"}
        )
        scope = _scope(_of(dict, each.get("scope", {}), (*place, "scope"), faults) or {}, place, faults)
        chosen = _of(dict, each.get("toggles", {}), (*place, "toggles"), faults)
        if chosen == {}:
            faults.append(Fault((*place, "toggles"), "are missing: the rule would do nothing"))
        values = _values(chosen or {}, (*place, "toggles"), faults, scoped)
        first = min(seen.setdefault(scope, index), seen.get(Scope(), index))
        if first != index:
            faults.append(Fault((*place, "scope"), f"never counts: rules[{first}] comes first"))
        combinations += (len(scope.region) or 1) * (len(scope.cohort) or 1) * (len(scope.client) or 1)
        rules.append(Rule(scope=scope, toggles=values))
        at.append(index)
    if combinations > MAX_COMBINATIONS:
        faults.append(
            Fault(
                ("rules",),
                f"name {combinations} combinations of region, cohort and client; at most {MAX_COMBINATIONS}",
                "use fewer names in one scope",
            )
        )
    faults += (
        Fault(("rules", at[rule], "toggles"), message) for rule, message in contradicting(rules, toggles)
    )
    return tuple(rules)


def contradicting(rules: Sequence[Rule], toggles: Toggles) -> Iterator[tuple[int, str]]:
    """What rules that are fine in themselves contradict, laid over these toggles: which rule, and what."""
    # Requests outside the document's scope see the rule over the defaults.
    bases = (toggles,) if toggles.scope == Scope() else (toggles, DEFAULTS)
    known = set(contradictions(toggles))
    for index, rule in enumerate(rules):
        for name, why in _contradictions(rule.toggles, bases) - known:
            yield index, f"{name} {why}"


def _contradictions(values: Mapping[str, Any], bases: Sequence[Toggles]) -> set[tuple[str, str]]:
    """Those that a rule's values lead to, over any of `bases`."""
    if values.keys().isdisjoint(_CONTRADICTING):
        return set()
    return {found for base in bases for found in contradictions(replace(base, **values))}


def _scope(raw: dict[str, Any], place: tuple[str | int, ...], faults: list[Fault]) -> Scope:
    parts: dict[str, tuple[str, ...]] = {}
    for part, names in raw.items():
        where = (*place, "scope", part)
        if part not in SCOPES:
            faults.append(Fault(where, "unknown key", known=tuple(SCOPES)))
        elif (wrong := wrong_names(SCOPES[part], names)) is None:
            parts[part] = tuple(sorted(names))
        else:
            faults.append(Fault((*where, *wrong.place), *wrong[1:]))
    return Scope(**parts)


def _of(kind: type, value: Any, place: tuple[str | int, ...], faults: list[Fault]) -> Any:
    """`value` if it is of this very type; a bool is no int here."""
    if type(value) is kind:
        return value
    faults.append(Fault(place, f"should be {_KINDS[kind]}"))
    return None
