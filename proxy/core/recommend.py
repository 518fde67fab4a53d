"""Recommend: what was asked, what the sources said, and the answer made of it (contract, facts 1, 2.1).

Whatever the sources did, an answer holds exactly k unique items (fewer only when the catalogue holds
fewer); what they left open is filled from the popularity list, and said so.
"""

import re
from collections.abc import Mapping, Sequence
from math import isinf
from typing import Any, NamedTuple, TypeGuard
from urllib.parse import quote_from_bytes

import orjson

from proxy.core.policy import Film
from proxy.core.popularity import NO_FILTERS, Filters, Popularity, popular_item
from proxy.core.routing import decoded
from proxy.errors import Refusal

PROVIDERS = ("netflix", "hulu", "amazon", "disney", "hbo")
MAX_NAMES = 20
MAX_NAME_LENGTH = 64
MAX_CANDIDATES = 10_000

Candidate = tuple[str, float, Mapping[str, Any]]
"""Id, score as the source gave it, and all fields of the item as they came."""

Ranked = tuple[float, str, str, Mapping[str, Any]]
"""Minus the score (0…1), id, label and fields: sorts best first, then by id."""


_TEXT = frozenset((str,))
_NUMBER = frozenset((float, int))


class ContractBroken(ValueError):
    """A source answered something that is not what sources answer (contract, Recommend route)."""


class Ask(NamedTuple):
    """A checked request for recommendations."""

    user_id: str
    """"" is unknown."""
    k: int
    filters: Filters
    query: bytes
    """The query for the sources: user, k, and all other parameters as they came."""


class Answer(NamedTuple):
    """A body in the contract's shape, and what counters and headers say about it."""

    body: bytes
    level: str
    """`A`: the sources filled all slots. `D`: popularity filled some or all."""
    source: str
    """Label of the first item; "" when there is none."""
    covered: int
    """Slots filled by the sources (facts 2.19)."""
    returned: int
    degraded: bool
    """A source failed, or popularity had to fill."""


# Arm and exposure are those of a route without an experiment; the answers are not cached.
_BODY = (
    b'{"request_id":%b,"user_id":%b,"k":%d,"items":[%b],"metadata":{"k_requested":%d,"k_returned":%d,'
    b'"coverage":%a,"arm":"none","bucket":%d,"exposed":true,"policy":"%b","alpha":%a,"level":"%b",'
    b'"toggles_version":%d,"degraded":%b,"cache":"bypass"}}'
)
_USUAL = re.compile(rb"(?:user_id=[^&%+]*&?)?(?:k=([0-9]{1,9}))?").fullmatch
_WHOLE = re.compile(rb"[0-9]{1,9}").fullmatch
_YEAR = re.compile(rb"[0-9]{1,4}").fullmatch


def parse_ask(query: bytes, user: bytes, *, k_default: int, k_max: int) -> Ask:
    """What `query` asks for `user` (as identity found them).

    Raises `Refusal` (400) that names the parameter and what is allowed. Unknown parameters are
    left to the sources.
    """
    usual = _USUAL(query)
    if usual:
        k = _k(usual[1], k_max) if usual[1] else k_default
        return Ask(user.decode("utf-8", "replace"), k, NO_FILTERS, _source_query(user, k, b""))

    once: dict[bytes, bytes] = {}
    names: dict[bytes, list[str]] = {b"genres": [], b"providers": []}
    passed_on = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        name = decoded(name)
        if name in names:
            names[name] += _names(name.decode(), decoded(value))
        elif name in (b"k", b"year_min", b"year_max"):
            if name in once:
                raise _refused(f"{name.decode()} may be given once only")
            once[name] = decoded(value)
        if part and name not in (b"user_id", b"k"):
            passed_on.append(part)
    k = _k(once[b"k"], k_max) if b"k" in once else k_default
    filters = Filters(
        frozenset(names[b"genres"]),
        frozenset(names[b"providers"]),
        _year("year_min", once.get(b"year_min", b"")),
        _year("year_max", once.get(b"year_max", b"")),
    )
    _check(filters)
    return Ask(user.decode("utf-8", "replace"), k, filters, _source_query(user, k, b"&".join(passed_on)))


def parse_candidates(body: bytes) -> list[Candidate]:
    """The candidates of a source's answer `{"items": [{"id", "score", …}, …]}`, without repeated ids.

    Raises `ContractBroken` for anything else, also for an empty list beside an `error` (facts 1,
    pitfall). An empty list alone is an answer: nothing to recommend.
    """
    try:
        document = orjson.loads(body)  # refuses NaN, Infinity and what is too large for a double
    except orjson.JSONDecodeError as error:
        raise ContractBroken("no JSON") from error
    items = document.get("items") if type(document) is dict else None
    if type(items) is not list:
        raise ContractBroken("no list of items")
    if len(items) > MAX_CANDIDATES:
        raise ContractBroken(f"more than {MAX_CANDIDATES} items")
    if not items and "error" in document:
        raise ContractBroken("an error with an empty list")
    try:
        keys = [item["id"] for item in items]
        scores = [item["score"] for item in items]
    except (KeyError, TypeError) as error:
        raise ContractBroken("an item without id and score") from error
    if not _TEXT.issuperset(map(type, keys)) or "" in keys:
        raise ContractBroken("an id that is no text")
    if not _NUMBER.issuperset(map(type, scores)):
        raise ContractBroken("a score that is no number")
    candidates = list(zip(keys, map(float, scores), items, strict=True))
    if len(set(keys)) < len(keys):
        first = {candidate[0]: candidate for candidate in reversed(candidates)}
        candidates = [candidate for candidate in candidates if first[candidate[0]] is candidate]
    return candidates


def blend(alpha: float, cf: Sequence[Candidate] | None, content: Sequence[Candidate] | None) -> list[Ranked]:
    """One ranking of both sources: alpha · cf + (1 - alpha) · content, each normalised (facts 2.1).

    None stands for a source that is missing or broken; it and an empty one leave the other with
    weight 1. An item of one source only gets nothing for the other, and that source's label. Of an
    item of both, the richer fields are kept.
    """
    if not content:
        return _alone(cf or (), "cf")
    if not cf:
        return _alone(content, "content")
    by_key = {ranked[1]: ranked for ranked in _weighted(content, 1.0 - alpha, "content")}
    for ranked in _weighted(cf, alpha, "cf"):
        key = ranked[1]
        other = by_key.get(key)
        if other is not None:
            fields = other[3] if len(other[3]) > len(ranked[3]) else ranked[3]
            ranked = (ranked[0] + other[0], key, "hybrid", fields)  # noqa: PLW2901 - the same item, merged
        by_key[key] = ranked
    return sorted(by_key.values())


def compose(
    *,
    request_id: str,
    ask: Ask,
    ranked: Sequence[Ranked],
    popularity: Popularity,
    bucket: int,
    alpha: float,
    toggles_version: int,
    failed: bool = False,
    policy: str = "hybrid_default",
) -> Answer:
    """The answer: the best k of `ranked` that can be shown, the rest from popularity.

    An item that breaks a filter, by its own fields or else the catalogue's, is left out; so is one
    whose title, year or genres neither of the two knows. `failed`: a source that was asked did not
    answer as it should.
    """
    items = _shown(ranked, ask, popularity.catalogue)
    covered = len(items)
    if covered < ask.k:
        films = popularity.top(ask.k - covered, ask.filters, [item["id"] for item in items])
        items += [popular_item(rank, film) for rank, film in enumerate(films, covered + 1)]
    return _answer(
        orjson.dumps(items)[1:-1],
        source=items[0]["source"] if items else "",
        covered=covered,
        returned=len(items),
        failed=failed,
        ask=ask,
        labels=(request_id, bucket, policy, alpha, toggles_version),
    )


def popular_answer(
    *,
    request_id: str,
    ask: Ask,
    popularity: Popularity,
    bucket: int,
    toggles_version: int,
    killed: bool,
) -> Answer:
    """What `compose` says without candidates; `killed`: because the kill switch is on (facts 2.9).

    Without filters it comes from the rendered list, for a few microseconds.
    """
    policy = "kill_switch" if killed else "hybrid_default"
    if ask.filters != NO_FILTERS:
        return compose(
            request_id=request_id,
            ask=ask,
            ranked=(),
            popularity=popularity,
            bucket=bucket,
            alpha=0.0,
            toggles_version=toggles_version,
            policy=policy,
        )
    items, returned = popularity.rendered(ask.k)
    return _answer(
        items,
        source="popularity" if returned else "",
        covered=0,
        returned=returned,
        failed=False,
        ask=ask,
        labels=(request_id, bucket, policy, 0.0, toggles_version),
    )


def _answer(
    items: bytes,
    *,
    source: str,
    covered: int,
    returned: int,
    failed: bool,
    ask: Ask,
    labels: tuple[str, int, str, float, int],
) -> Answer:
    request_id, bucket, policy, alpha, toggles_version = labels
    level = "A" if covered == ask.k else "D"
    degraded = failed or covered < ask.k
    body = _BODY % (
        orjson.dumps(request_id),
        orjson.dumps(ask.user_id),
        ask.k,
        items,
        ask.k,
        returned,
        covered / ask.k,
        bucket,
        policy.encode(),
        alpha,
        level.encode(),
        toggles_version,
        b"true" if degraded else b"false",
    )
    return Answer(body, level, source, covered, returned, degraded)


def _shown(ranked: Sequence[Ranked], ask: Ask, catalogue: Mapping[str, Film]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    filtered = ask.filters != NO_FILTERS
    for minus, key, source, fields in ranked:
        title, year, genres = fields.get("title"), fields.get("year"), fields.get("genres")
        if not (type(title) is str and type(year) is int and _is_names(genres)):
            film = catalogue.get(key)
            if film is None:
                continue
            title, year, genres = film.title, film.year, film.genres
        if filtered and not _passes(ask.filters, year, genres, _providers(fields, catalogue.get(key))):
            continue
        items.append(
            {
                "rank": len(items) + 1,
                "id": key,
                "score": 0.0 - minus,  # not -0.0
                "source": source,
                "title": title,
                "year": year,
                "genres": genres,
            }
        )
        if len(items) == ask.k:
            break
    return items


def _passes(filters: Filters, year: int, genres: Sequence[str], providers: Sequence[str] | None) -> bool:
    """`providers` None: unknown, and no reason to leave an item out."""
    return (
        (filters.year_min is None or year >= filters.year_min)
        and (filters.year_max is None or year <= filters.year_max)
        and _any_of(filters.genres, genres)
        and (providers is None or _any_of(filters.providers, providers))
    )


def _any_of(wanted: frozenset[str], names: Sequence[str]) -> bool:
    return not wanted or not wanted.isdisjoint(map(str.casefold, names))


def _providers(fields: Mapping[str, Any], film: Film | None) -> Sequence[str] | None:
    names = fields.get("providers")
    if _is_names(names):
        return names
    return None if film is None else film.providers


def _is_names(value: Any) -> TypeGuard[list[str]]:
    return type(value) is list and _TEXT.issuperset(map(type, value))


def _alone(candidates: Sequence[Candidate], label: str) -> list[Ranked]:
    return sorted(_weighted(candidates, 1.0, label))


def _weighted(candidates: Sequence[Candidate], weight: float, label: str) -> list[Ranked]:
    """The candidates with their scores stretched to 0…weight; `weight` for all when they do not
    differ (facts 2.1).
    """
    scores = [candidate[1] for candidate in candidates]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    span = high - low
    if not span:
        return [(-weight, key, label, fields) for key, _, fields in candidates]
    if isinf(span):
        return _weighted([(key, score / 2, fields) for key, score, fields in candidates], weight, label)
    return [((low - score) / span * weight, key, label, fields) for key, score, fields in candidates]


def _source_query(user: bytes, k: int, rest: bytes) -> bytes:
    if not user.isalnum():
        user = quote_from_bytes(user, "").encode()
    return b"user_id=%b&k=%d%b%b" % (user, k, b"&" if rest else b"", rest)


def _k(value: bytes, k_max: int) -> int:
    k = int(value) if _WHOLE(value) else 0
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
