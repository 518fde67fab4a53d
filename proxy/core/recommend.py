"""Recommend: what was asked, what the sources said, and the answer made of it (contract, facts 1, 2.1).

Whatever the sources did, an answer holds exactly k unique items (fewer only when the catalogue holds
fewer); what they left open is filled from the popularity list, and said so.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from math import isinf
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes

import orjson

from proxy.core.popularity import NO_FILTERS, Filters, Popularity, popular_item
from proxy.core.policy import Film
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
        tuple(names[b"genres"]),
        tuple(names[b"providers"]),
        _year("year_min", once.get(b"year_min")),
        _year("year_max", once.get(b"year_max")),
    )
    _check(filters)
    return Ask(
        user.decode("utf-8", "replace"), k, filters, _source_query(user, k, b"&".join(passed_on))
    )


def parse_candidates(body: bytes) -> list[Candidate]:
    """The candidates of a source's answer `{"items": [{"id", "score", …}, …]}`, without repeated ids.

    Raises `ContractBroken` for anything else, also for an empty list beside an `error` (facts 1,
    pitfall). An empty list alone is an answer: nothing to recommend.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ContractBroken("no JSON") from error
    items = document.get("items") if type(document) is dict else None
    if type(items) is not list:
        raise ContractBroken("no list of items")
    if len(items) > MAX_CANDIDATES:
        raise ContractBroken(f"more than {MAX_CANDIDATES} items")
    if not items and "error" in document:
        raise ContractBroken("an error with an empty list")
    found: dict[str, Candidate] = {}
    for item in items:
        try:
            key, score = item["id"], item["score"]
        except (KeyError, TypeError) as error:
            raise ContractBroken("an item without id and score") from error
        if type(key) is not str or not key:
            raise ContractBroken("an id that is no text")
        if type(score) is not float:
            if type(score) is not int:
                raise ContractBroken("a score that is no number")
            score = float(score)
        if key not in found:
            found[key] = (key, score, item)
    candidates = list(found.values())
    if any(isinf(score) for _, score, _ in candidates):
        raise ContractBroken("a score without bounds")
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
    shares = _normalised(content, 1.0 - alpha)
    others = {candidate[0]: (share, candidate[2]) for candidate, share in zip(content, shares, strict=True)}
    ranked: list[Ranked] = []
    for (key, _, fields), share in zip(cf, _normalised(cf, alpha), strict=True):
        other = others.pop(key, None)
        if other is None:
            ranked.append((-share, key, "cf", fields))
        else:
            more = other[1]
            ranked.append((-share - other[0], key, "hybrid", more if len(more) > len(fields) else fields))
    ranked += [(-share, key, "content", fields) for key, (share, fields) in others.items()]
    ranked.sort()
    return ranked
