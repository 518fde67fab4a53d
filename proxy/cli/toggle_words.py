"""Toggles as they are typed and as they are shown: `exposure_percent=50`, `region_scope=eu,us`."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import click
import orjson

from proxy.core.toggles import BY_NAME, Toggle
from proxy.core.toggles_document import read_document

NULL = "null"

_SWITCH = {"true": True, "on": True, "false": False, "off": False}


def may_be(toggle: Toggle) -> str:
    """What a value is typed like."""
    null = f" or {NULL}" if toggle.nullable else ""
    match toggle.kind:
        case "switch":
            return "true or false"
        case "number":
            return f"a number from {toggle.low:g} to {toggle.high:g}{null}"
        case "choice":
            return f"one of {', '.join(toggle.choices)}{null}"
        case "names":
            known = f" of {', '.join(toggle.choices)}" if toggle.choices else ""
            return f"names{known}, with commas between them; nothing: all"


def value_of(toggle: Toggle, text: str) -> Any:
    """The value as it stands in a document. ValueError says what it may be."""
    value: Any = text
    if text == NULL and toggle.nullable:
        return None
    if toggle.kind == "switch":
        value = _SWITCH.get(text.lower(), text)
    elif toggle.kind == "number":
        value = _number(text)
    elif toggle.kind == "names":
        value = [name.strip() for name in text.split(",")] if text.strip() else []
    _, faults = read_document({"toggles": {toggle.name: value}}, ())
    if faults:
        said = "; ".join(dict.fromkeys(fault.message for fault in faults))
        raise ValueError(said if may_be(toggle) in said else f"{said}: it may be {may_be(toggle)}")
    return value


def shown(value: Any) -> str:
    """A value as it would be typed."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def shown_at(name: str, value: Any) -> str:
    """The same by its name in a diff: rules and flags are told apart from toggles."""
    if name == "rules":
        count = value if isinstance(value, int) else len(value or ())
        return f"{count} rule{'' if count == 1 else 's'}"
    if name.startswith("flags."):
        return "OFF" if value is False else "on"
    return shown(value) or "all"


def move(name: str, before: Any, after: Any) -> str:
    """A line of a diff."""
    return f"{shown_at(name, before)} → {shown_at(name, after)}"


def rule_words(rule: Mapping[str, Any]) -> tuple[str, str]:
    """Whom a scoped rule is for, and what it says."""
    scope = " ".join(f"{part}={','.join(names)}" for part, names in rule["scope"].items() if names)
    return scope or "everybody", " ".join(f"{name}={shown(it)}" for name, it in rule["toggles"].items())


def returns(document: Mapping[str, Any]) -> dict[str, str]:
    """When what was changed for a time returns, by name; the soonest, where there are several."""
    found: dict[str, str] = {}
    for each in document.get("reverts", ()):
        for name in each["names"]:
            found[name] = min(each["at"], found.get(name, each["at"]))
    return found


def held_words(held: Mapping[str, Any]) -> str:
    """Who waits for the flap budget, and until when; as `GET /v1/status` tells it."""
    scope = held["scope"] or {}
    whose = "".join(f", {part} {' or '.join(names)}" for part, names in scope.items() if names)
    return (
        f"held in control by the flap budget: buckets {held['low']} to {held['high']}, "
        f"{held['percent']:g} % of the users{whose}, until {held['until']}"
    )


def assigned(words: tuple[str, ...], read: Callable[[str, str], Any]) -> dict[str, Any]:
    """What `NAME=VALUE …` says; BadParameter names every word that is wrong, and why."""
    found: dict[str, Any] = {}
    faults = []
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip()
        try:
            if not equals or not name:
                raise ValueError("should be like NAME=VALUE")  # noqa: TRY301 - told as the others are
            if name in found:
                raise ValueError(f"{name} is given more than once")  # noqa: TRY301 - as above
            found[name] = read(name, text)
        except ValueError as error:
            faults.append(f"{word}: {error}")
    if faults:
        raise click.BadParameter(faults[0] if len(faults) == 1 else "".join(f"\n  {it}" for it in faults))
    return found


def toggle_values(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> dict[str, Any]:
    """The callback of an argument or option that takes toggles."""
    return assigned(words, _toggle)


def _toggle(name: str, text: str) -> Any:
    toggle = BY_NAME.get(name)
    if toggle is None:
        close = get_close_matches(name, BY_NAME, n=1)
        raise ValueError(
            f"no toggle is named {name!r}"
            + (f"; did you mean {close[0]}?" if close else f"; there are {', '.join(BY_NAME)}")
        )
    return value_of(toggle, text)


def _number(text: str) -> Any:
    """As JSON has numbers; anything else stays text, which is none."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if type(value) in {int, float} else text
