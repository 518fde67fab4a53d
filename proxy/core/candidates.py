"""What a source answers: candidates, believed as far as their contract goes (contract, Recommend route)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

import orjson
from msgspec import DecodeError, Meta, Raw, Struct
from msgspec.json import Decoder

from proxy.core.audit_settings import STRICT

MAX_CANDIDATES = 10_000

UNSAID = Raw(b"null")
"""In place of what a source did not say."""


class Candidate(Struct, frozen=True, gc=False):
    """An item as a source gave it, under the names of the contract."""

    id: str
    score: float
    title: str | None = None  # None: there is none, or something else
    year: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | None = None
    genres: Raw = UNSAID  # JSON of whatever kind, which `names` reads: few are ever shown


class Candidates(Struct, gc=False):
    """What a source answered."""

    items: list[Candidate]
    """In its order, each id once."""
    by_id: dict[str, Candidate]
    _providers: dict[str, Raw]
    _unread: bytes = b""  # the answer, until somebody asks for providers

    def providers(self, key: str) -> list[str] | None:
        """Who shows that item; None: nothing is said of it."""
        if self._unread:
            self._providers = {it.id: it.providers for it in _elsewhere(self._unread).items}
            self._unread = b""
        return names(self._providers.get(key, UNSAID))


NO_CANDIDATES = Candidates([], {}, {})

_Path = tuple[str, ...]


class ContractBroken(ValueError):
    """A source answered something that is not what sources answer (contract, Recommend route)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Where an upstream's answers have what, from the answer and from an item; a "." leads into an object."""

    __pydantic_config__: ClassVar[Any] = STRICT
    items: str = "items"  # empty: the answer itself is the list
    error: str = "error"  # beside an empty list it makes a failure of it
    id: str = "id"
    score: str = "score"
    title: str = "title"
    year: str = "year"
    genres: str = "genres"
    providers: str = "providers"
    number_ids: bool = False  # ids may be whole numbers, which become text

    @property
    def paths(self) -> Mapping[str, str]:
        return {it.name: getattr(self, it.name) for it in fields(self) if it.name != "number_ids"}


class Shape:
    """`Fields`, made ready to read by."""

    __slots__ = ("_error", "_items", "_named", "_number_ids", "names")

    def __init__(self, named: Fields) -> None:
        self.names = named
        paths = {name: tuple(path.split(".")) if path else () for name, path in named.paths.items()}
        self._items = paths.pop("items")
        self._error = paths.pop("error")
        alike = not named.number_ids and all(path == (name,) for name, path in paths.items())
        self._named = () if alike else tuple(paths.items())  # empty: items are taken as they are
        self._number_ids = named.number_ids

    @classmethod
    def of(cls, named: Fields) -> "Shape | None":
        """None where all has the contract's own names."""
        return None if named == Fields() else cls(named)

    def items(self, document: Any) -> Any:
        """The list of items under the contract's names; something else where there is none."""
        items = _at(document, self._items)
        if not self._named or type(items) is not list or len(items) > MAX_CANDIDATES:
            return items
        return [self._renamed(item) for item in items]

    def error(self, document: Any) -> Any:
        return _at(document, self._error)

    def _renamed(self, item: Any) -> dict[str, Any]:
        found = {name: value for name, path in self._named if (value := _at(item, path)) is not None}
        if self._number_ids and type(found.get("id")) is int:
            found["id"] = str(found["id"])
        return found


def parse_candidates(body: bytes, shape: Shape | None = None) -> Candidates:
    """The candidates of a source's answer `{"items": [{"id", "score", …}, …]}`; of repeated ids the first.

    Raises `ContractBroken` for anything else, also for an empty list beside an `error` (facts 1,
    pitfall), and for a list that mostly repeats itself. An empty list alone is an answer: nothing to
    recommend.
    """
    found = _quick(body) if shape is None else None
    return _careful(body, shape) if found is None else found


texts = Decoder(list[str]).decode
"""The list of texts that JSON is. Raises `NoTexts` where it is something else."""

NoTexts = DecodeError


def names(value: Raw) -> list[str] | None:
    """The list of texts that this is; None: it is something else."""
    try:
        return texts(value)
    except NoTexts:
        return None


class _Answer(Struct, gc=False):
    items: list[Candidate]


class _Shown(Struct, gc=False):
    id: str
    providers: Raw = UNSAID


class _Elsewhere(Struct, gc=False):
    items: list[_Shown]


_answer = Decoder(_Answer).decode
_elsewhere = Decoder(_Elsewhere).decode


def _quick(body: bytes) -> Candidates | None:
    """What `_careful` makes of it, for half the price; None: something about it needs that care."""
    try:
        if not body.isascii():
            body.decode()  # texts that are skipped are not looked into
        items = _answer(body).items
    except (DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found: dict[str, Candidate] = {}
    for item in items:
        found[item.id] = item
    if not found or not len(found) == len(items) <= MAX_CANDIDATES or "" in found:
        return None
    return Candidates(items, found, {}, body)


def _careful(body: bytes, shape: Shape | None) -> Candidates:
    try:
        document = orjson.loads(body)  # refuses NaN, Infinity, depth, and what is too large for a double
    except orjson.JSONDecodeError as error:
        raise ContractBroken("no JSON") from error
    if shape is not None:
        items, said = shape.items(document), shape.error(document)
    elif type(document) is dict:
        items, said = document.get("items"), document.get("error")
    else:
        items, said = None, None
    if type(items) is not list:
        raise ContractBroken(f"no list of items at {_names(shape).items or 'its top'}")
    if len(items) > MAX_CANDIDATES:
        raise ContractBroken(f"more than {MAX_CANDIDATES} items")
    if not items and said:
        raise ContractBroken("an error with an empty list")
    candidates: dict[str, Candidate] = {}
    providers: dict[str, Raw] = {}
    try:
        for item in items:
            key, score = item["id"], item["score"]
            if type(key) is not str or not key:
                number = " but a number, which number_ids = true would take" if type(key) is int else ""
                raise ContractBroken(f"an id that is no text{number}")
            if type(score) is not float:
                if type(score) is not int:
                    raise ContractBroken("a score that is no number")
                score = float(score)
            if key not in candidates:
                candidates[key] = _candidate(key, score, item)
                providers[key] = _raw(item.get("providers"))
    except (KeyError, TypeError) as error:
        named = _names(shape)
        raise ContractBroken(f"an item without {named.id} or {named.score}") from error
    if len(items) > 2 * len(candidates):
        raise ContractBroken("more repeated ids than items")
    return Candidates([*candidates.values()], candidates, providers)


def _candidate(key: str, score: float, item: Mapping[str, Any]) -> Candidate:
    title, year = item.get("title"), item.get("year")
    return Candidate(
        key,
        score,
        title if type(title) is str else None,
        year if type(year) is int else None,
        _raw(item.get("genres")),
    )


def _raw(value: Any) -> Raw:
    """The value as it would have been sent, if it is what `names` reads."""
    return Raw(orjson.dumps(value)) if type(value) is list and _TEXT.issuperset(map(type, value)) else UNSAID


_TEXT = frozenset((str,))


def _names(shape: Shape | None) -> Fields:
    return Fields() if shape is None else shape.names


def _at(value: Any, path: _Path) -> Any:
    """What stands there; None: nothing does."""
    for name in path:
        if type(value) is not dict:
            return None
        value = value.get(name)
    return value
