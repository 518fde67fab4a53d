"""From text to checked records: TOML and JSON files, `${NAME}`, types; faults as `Problem`s."""

import math
import re
import tomllib
import types
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass
from datetime import date, time
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import orjson
from pydantic import TypeAdapter, ValidationError

from proxy.errors import Problem, SettingsError

T = TypeVar("T")
Place = tuple[str | int, ...]
"""Where in a document: keys and indices from its top."""

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MISSING = {"missing"}
_UNKNOWN = {"unexpected_keyword_argument", "extra_forbidden"}


class Report:
    """Problems of one file, in the order they are found."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)
        self.problems: list[Problem] = []
        self._unusable: set[Place] = set()

    def add(self, place: Place, message: str, hint: str = "") -> None:
        if place not in self._unusable:
            self.problems.append(Problem(self.file, dotted(place), message, hint))

    def unusable(self, place: Place, message: str, hint: str = "") -> None:
        """As `add`, for a value that is replaced by a blank, of which nothing more shall be said."""
        self.add(place, message, hint)
        self._unusable.add(place)


def dotted(place: Place) -> str:
    """`routes[2].upstream`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def likeness(name: str, known: Iterable[str]) -> str:
    """A hint at what was probably meant, or at what there is."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(names)}" if names else "there are none"


def read_toml(path: Path) -> dict[str, Any]:
    """The document; SettingsError names the file, and the line of a syntax error."""
    try:
        return tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        message, _, where = str(error).rpartition(" (at ")
        raise SettingsError(
            [Problem(str(path), where.rstrip(")"), f"no TOML: {message or error}")],
        ) from error


def read_json(path: Path) -> Any:
    try:
        return orjson.loads(_read(path))
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise SettingsError([Problem(str(path), where, f"no JSON: {error.msg}")]) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            [Problem(str(path), "", f"cannot be read: {error.strerror or error}")],
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError([Problem(str(path), "", f"is not UTF-8 at byte {error.start}")]) from error


def fill(raw: Any, env: Mapping[str, str], report: Report, place: Place = ()) -> Any:
    """A copy with `${NAME}` in every text replaced from `env`; `$${` stands for `${`."""
    match raw:
        case dict():
            return {key: fill(value, env, report, (*place, key)) for key, value in raw.items()}
        case list():
            return [fill(value, env, report, (*place, index)) for index, value in enumerate(raw)]
        case str():
            return _REFERENCE.sub(lambda found: _value(found, env, report, place), raw)
        case bool():
            return raw
        case date() | time():
            report.unusable(place, "is a date or time, which nothing here takes", "put it in quotes")
        case float() if not math.isfinite(raw):
            report.unusable(place, "should be a finite number")
            return 1.0
        case int() if not -(2**63) <= raw < 2**63:
            report.unusable(place, "is too large a number")
            return 1
        case _:
            return raw
    return ""


def _value(found: re.Match[str], env: Mapping[str, str], report: Report, place: Place) -> str:
    name, end = found[1], found[2]
    if name is None:
        return "${"
    if not end or not _NAME.fullmatch(name):
        report.unusable(place, "has a ${ that begins no ${NAME}", "write $${ for the characters themselves")
    elif name not in env:
        report.unusable(place, f"environment variable {name} is not set", f"export {name} before starting")
    else:
        return env[name]
    return ""


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def record(kind: type[T], raw: Any, place: Place, report: Report) -> T | None:
    """`raw` as `kind`, or None. Every fault is reported.

    A faulty field is left out after its report and what remains is read again, so that one typing
    error does not hide the next, nor what the cross checks would find.
    """
    adapter: TypeAdapter[T] = _adapter(cast("Any", kind))
    raw = deepcopy(raw)
    told: set[Place] = set()
    while True:
        try:
            # as JSON: strict there still reads a list as a tuple and a table as a record
            return adapter.validate_json(orjson.dumps(raw), strict=True)
        except ValidationError as error:
            faults: dict[Place, list[Any]] = {}
            for fault in error.errors(include_url=False, include_input=False):
                faults.setdefault(_place(raw, fault), []).append(fault)
            for where, found in faults.items():
                if where not in told and not _wraps(where, faults):
                    report.add((*place, *where), *_explain(kind, where, found, _at(raw, where)))
            told |= faults.keys()
            if not [where for where in faults if _prune(raw, where)]:
                return None


def _place(raw: Any, fault: Any) -> Place:
    """Where in `raw`. Pydantic also names the branch of a union, which is no place."""
    place: list[str | int] = []
    for part in fault["loc"]:
        if (isinstance(raw, dict) and part in raw) or (isinstance(raw, list) and isinstance(part, int)):
            place.append(part)
            raw = raw[part]
        elif fault["type"] in _MISSING and part == fault["loc"][-1]:
            place.append(part)
    return tuple(place)


def _wraps(where: Place, faults: Iterable[Place]) -> bool:
    """Whether a fault further in says more: a list fails as text too, where either is allowed."""
    return any(len(other) > len(where) and other[: len(where)] == where for other in faults)


def _explain(kind: Any, where: Place, found: list[Any], value: Any) -> tuple[str, str]:
    """Message and hint for the faults `found` of one `value` at `where` inside `kind`."""
    if found[0]["type"] in _UNKNOWN:
        return "unknown key", likeness(str(where[-1]), _keys(kind, where[:-1]))
    if found[0]["type"] in _MISSING:
        return "is missing", ""
    said = [fault["msg"].removeprefix("Input ").removeprefix("Value error, ") for fault in found]
    return " or ".join(dict.fromkeys(said)), _hint(value, said)


def _hint(value: Any, said: list[str]) -> str:
    if isinstance(value, str) and not any("string" in message or "'" in message for message in said):
        return "write it without quotes"
    if isinstance(value, int | float) and any("string" in message for message in said):
        return "write it in quotes"
    return ""


def _at(raw: Any, where: Place) -> Any:
    """What stands there; None where it has been left out already."""
    for part in where:
        if raw is None or (isinstance(raw, dict) and part not in raw):
            return None
        raw = raw[part]
    return raw


def _prune(raw: Any, where: Place) -> bool:
    """Leave out the innermost named field around a fault; False when there is none to leave out."""
    for depth in range(len(where) - 1, -1, -1):
        holder = _at(raw, where[:depth])
        if isinstance(holder, dict) and where[depth] in holder:
            del holder[where[depth]]
            return True
    return False


def _keys(kind: Any, where: Place) -> list[str]:
    """Names of the fields of the record at `where` inside `kind`; a list's are those of its elements."""
    for part in where:
        kind = get_args(kind)[0] if isinstance(part, int) else get_type_hints(_record_in(kind))[part]
    return [field.name for field in fields(_record_in(kind))]


def _record_in(kind: Any) -> Any:
    """The dataclass behind a type with annotations or alternatives."""
    if get_origin(kind) in {Annotated, Union, types.UnionType}:
        return next(it for it in map(_record_in, get_args(kind)) if is_dataclass(it))
    return kind
