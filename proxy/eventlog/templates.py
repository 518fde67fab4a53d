"""SQL templates: what `sql/NAME.sql` asks, with parameters that are typed and checked before they are SQL.

A template is Spark SQL, the dialect of the source. Comments at its head say what it answers and what it
takes:

    -- How much of what was asked for was covered.
    -- param route name = '': of this route alone; empty: of all

`{NAME}` stands where the parameter goes, as a whole literal. `since`, `until` (epoch milliseconds) and the
days they are in, `since_date` and `until_date`, are given to every template.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias, get_args

from proxy.errors import FuseboxError

Type: TypeAlias = Literal["count", "integer", "number", "name", "time"]

_FOLDER = "proxy.eventlog"
_PARAM = re.compile(r"^-- param (\w+) (\w+)(?: = (.*?))?: (.+)$")
_PLACE = re.compile(r"\{(\w+)\}")
# Nothing that ends a string, escapes in one, or is not printed: Spark reads a backslash, DuckDB does not.
_TEXT = re.compile(r"[\w .:/@+-]{0,128}")
_GIVEN = ("since", "until", "since_date", "until_date")


class QueryError(FuseboxError):
    """A query that cannot be asked; the text says why, and what can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    name: str
    type: Type
    default: str | None
    """As it would be given; None: it has to be."""
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    name: str
    about: str
    params: Sequence[Param]
    sql: str

    def rendered(self, given: Mapping[str, str], since: float, until: float) -> str:
        """The SQL for these parameters, between two wall times. QueryError names the one that is wrong."""
        known = {param.name: param for param in self.params}
        if unknown := sorted(given.keys() - known.keys()):
            there = ", ".join(known) or "none"
            raise QueryError(f"{self.name} takes no parameter {unknown[0]!r}; there are: {there}")
        values = {
            "since": str(int(since * 1000)),
            "until": str(int(until * 1000)),
            "since_date": f"'{day(since)}'",
            "until_date": f"'{day(until)}'",
        }
        for param in self.params:
            text = given.get(param.name, param.default)
            if text is None:
                raise QueryError(f"{self.name} needs --param {param.name}=…: {param.about}")
            try:
                values[param.name] = _LITERALS[param.type](text)
            except ValueError:
                words = _WORDS[param.type]
                raise QueryError(f"{self.name}: {param.name} should be {words}, not {text!r}") from None
        return _PLACE.sub(lambda found: values[found[1]], self.sql)


def _integer(text: str) -> str:
    return str(int(text)) if re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else _wrong()


def _count(text: str) -> str:
    return str(int(text)) if re.fullmatch(r"\d{1,18}", text, re.ASCII) and int(text) else _wrong()


def _number(text: str) -> str:
    # With an exponent it is a DOUBLE in both dialects; without one Spark would take it for a DECIMAL.
    return f"{float(text):e}" if re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", text, re.ASCII) else _wrong()


def _name(text: str) -> str:
    return f"'{text}'" if _TEXT.fullmatch(text) else _wrong()


def _time(text: str) -> str:
    at = datetime.fromisoformat(text)
    return str(int(at.timestamp() * 1000)) if at.tzinfo else _wrong()


def _wrong() -> str:
    raise ValueError


_LITERALS: Mapping[Type, Callable[[str], str]] = {
    "count": _count,
    "integer": _integer,
    "number": _number,
    "name": _name,
    "time": _time,
}
_WORDS: Mapping[Type, str] = {
    "count": "a whole number from 1 on",
    "integer": "a whole number",
    "number": "a number",
    "name": "up to 128 letters, digits, spaces and any of . : / @ + - _",
    "time": "a time like 2026-11-25T10:00:00Z",
}


def day(seconds: float) -> str:
    """The day, UTC, of a wall time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


@cache
def templates() -> Mapping[str, Template]:
    """Those that are shipped, by name."""
    found = (file for file in (files(_FOLDER) / "sql").iterdir() if file.name.endswith(".sql"))
    read = (parsed(file.name.removesuffix(".sql"), file.read_text("utf-8")) for file in found)
    return {it.name: it for it in sorted(read, key=lambda it: it.name)}


def template(name: str) -> Template:
    """QueryError when there is none of that name."""
    try:
        return templates()[name]
    except KeyError:
        raise QueryError(f"there is no query {name!r}; there are: {', '.join(templates())}") from None


def parsed(name: str, text: str) -> Template:
    """A template; ValueError when its places and its parameters are not the same."""
    head = [line for line in text.splitlines() if line.startswith("--")]
    params = []
    about = []
    for line in head:
        if found := _PARAM.fullmatch(line):
            kind, default = found[2], found[3]
            if kind not in get_args(Type):
                raise ValueError(f"{name}.sql: {kind} is no type")
            if default is not None:
                default = default.strip("'")
            params.append(Param(name=found[1], type=kind, default=default, about=found[4]))  # type: ignore[arg-type]
        else:
            about.append(line.removeprefix("--").strip())
    sql = "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip().rstrip(";")
    places = set(_PLACE.findall(sql)) - set(_GIVEN)
    if places != {param.name for param in params}:
        raise ValueError(f"{name}.sql: parameters and places differ: {sorted(places)}")
    return Template(name=name, about=" ".join(about), params=tuple(params), sql=sql)
