"""What a recommend request asks for, checked (contract, Recommend route)."""

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_from_bytes

from msgspec import Struct

from proxy.core.popularity import NO_FILTERS, Filters
from proxy.core.routing import decoded
from proxy.errors import Refusal

if TYPE_CHECKING:
    from proxy.core.paging import Page

PROVIDERS = ("netflix", "hulu", "amazon", "disney", "hbo")
MAX_NAMES = 20
MAX_NAME_LENGTH = 64
MAX_SEEDS = 10

_MOST_DIGITS = 9
_LONGEST_K = len(b"k=") + _MOST_DIGITS
_UNRESERVED = re.compile(rb"[A-Za-z0-9_.~-]*").fullmatch
_NOT_OF_NEIGHBOURS = frozenset((b"genres", b"year_min", b"year_max", b"seeds"))
_YEAR = re.compile(rb"[0-9]{1,4}").fullmatch


class Ask(Struct, frozen=True, gc=False):
    """A checked request for recommendations."""

    user_id: str
    """"" is unknown."""
    k: int
    filters: Filters
    query: bytes
    """The query for the sources: user, k, and all other parameters as they came."""
    cursor: bytes | None = None
    """One page of an answer is asked for: the first (b""), or the one that this leads to."""
    page: "Page | None" = None
    """What the cursor said."""


def parse_ask(query: bytes, user: bytes, *, k_default: int, k_max: int) -> Ask:
    """What `query` asks for `user` (as identity found them).

    Raises `Refusal` (400) that names the parameter and what is allowed. Unknown parameters are
    left to the sources.
    """
    k = plain_k(query, k_default=k_default, k_max=k_max)
    if k:
        return Ask(user.decode("utf-8", "replace"), k, NO_FILTERS, _source_query(user, k, b""))

    once: dict[bytes, bytes] = {}
    names: dict[bytes, list[str]] = {b"genres": [], b"providers": []}
    passed_on = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        name = decoded(name)
        if name in names:
            names[name] += _names(name.decode(), decoded(value))
        elif name in (b"k", b"year_min", b"year_max", b"cursor"):
            if name in once:
                raise _refused(f"{name.decode()} may be given once only")
            once[name] = decoded(value)
        if part and name not in (b"user_id", b"k", b"cursor"):
            passed_on.append(part)
    k = _k(once[b"k"], k_max) if b"k" in once else k_default
    filters = Filters(
        frozenset(names[b"genres"]),
        frozenset(names[b"providers"]),
        _year("year_min", once.get(b"year_min", b"")),
        _year("year_max", once.get(b"year_max", b"")),
    )
    _check(filters)
    rest = b"&".join(passed_on)
    return Ask(user.decode("utf-8", "replace"), k, filters, _source_query(user, k, rest), once.get(b"cursor"))


def plain_k(query: bytes, *, k_default: int, k_max: int) -> int:
    """The k of a query that holds user and k at most; 0: there is more, which `parse_ask` reads.

    Raises `Refusal` as that does.
    """
    user, _, rest = query.partition(b"&")
    if user[:8] != b"user_id=":
        rest = query
    return _k_alone(rest, k_default, k_max) if len(rest) <= _LONGEST_K else 0


@lru_cache(maxsize=1024)
def _k_alone(query: bytes, k_default: int, k_max: int) -> int:
    if not query:
        return k_default
    k = query[2:]
    return _k(k, k_max) if query[:2] == b"k=" and k.isdigit() else 0


def neighbours_query(ask: Ask, seeds: Iterable[str]) -> bytes:
    """What the content source is asked for beside candidates: neighbours of at most `MAX_SEEDS` seeds.

    Filters on genres and years are left out: what breaks them is worth more than popularity (level C).
    """
    parts = [it for it in ask.query.split(b"&") if decoded(it.partition(b"=")[0]) not in _NOT_OF_NEIGHBOURS]
    usable = (seed for seed in seeds if "," not in seed and len(seed) <= MAX_NAME_LENGTH)
    named = ",".join(quote(seed, "") for seed in islice(usable, MAX_SEEDS))
    return b"%b&seeds=%b" % (b"&".join(parts), named.encode())


def _source_query(user: bytes, k: int, rest: bytes) -> bytes:
    if not _UNRESERVED(user):
        user = quote_from_bytes(user, "").encode()
    return b"user_id=%b&k=%d%b%b" % (user, k, b"&" if rest else b"", rest)


def _k(value: bytes, k_max: int) -> int:
    k = int(value) if value.isdigit() and len(value) <= _MOST_DIGITS else 0
    if not 1 <= k <= k_max:
        raise _refused(f"k should be a whole number from 1 to {k_max}")
    return k


def _year(name: str, value: bytes) -> int | None:
    if not value:
        return None
    if not _YEAR(value):
        raise _refused(f"{name} should be a year of one to four digits")
    return int(value)


def _names(name: str, value: bytes) -> list[str]:
    try:
        names = [part.strip().casefold() for part in value.decode().split(",")]
    except UnicodeDecodeError:
        raise _refused(f"{name} should be UTF-8") from None
    return [part for part in names if part]


def _check(filters: Filters) -> None:
    for name, values in (("genres", filters.genres), ("providers", filters.providers)):
        if len(values) > MAX_NAMES or any(len(value) > MAX_NAME_LENGTH for value in values):
            raise _refused(f"{name} may hold {MAX_NAMES} names of {MAX_NAME_LENGTH} characters, by commas")
    if not filters.providers.issubset(PROVIDERS):
        raise _refused(f"providers should be some of {', '.join(PROVIDERS)}, by commas")
    if filters.year_min is not None and filters.year_max is not None and filters.year_min > filters.year_max:
        raise _refused("year_min should not be after year_max")


def _refused(detail: str) -> Refusal:
    return Refusal("bad_request", 400, "Bad Request", detail)
