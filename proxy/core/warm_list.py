"""The warm list: what to ask the sources for before anybody does.

A JSON list of queries as clients send them to a recommend route, `["user_id=42&k=10", …]`: an answer is found
again only by the query that it was asked for with, so user ids alone would not do.
"""

import re
from collections.abc import Iterable

import orjson

from proxy.core.asks import Ask, parse_ask
from proxy.core.identity import IdentityReader
from proxy.core.policy import Policy, Route
from proxy.core.routing import decoded
from proxy.errors import Refusal

MAX_QUERIES = 100_000

_QUERY = re.compile(r"[!$-~]+").fullmatch  # visible ASCII without " and #: others stand there encoded


class NoWarmList(ValueError):
    """What was read is none; the text says why and where."""


def read_warm_list(raw: bytes) -> list[bytes]:
    """The queries. Raises `NoWarmList`."""
    try:
        listed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise NoWarmList(f"no JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    if type(listed) is not list:
        raise NoWarmList('should be a list of queries, for example ["user_id=42&k=10"]')
    if len(listed) > MAX_QUERIES:
        raise NoWarmList(f"holds more than {MAX_QUERIES} queries")
    for index, query in enumerate(listed):
        if type(query) is not str or not _QUERY(query):
            raise NoWarmList(f'[{index}] should be a query as clients send it, for example "user_id=42&k=10"')
    return [query.encode() for query in listed]


def warm_ask(query: bytes, route: Route, identity: IdentityReader) -> tuple[bytes, Ask]:
    """Who asks, and what, as if a client had sent the query to this route. Raises `Refusal` as for him.

    Who is not named where the settings say is named by `user_id`.
    """
    user = identity.user({}, query)
    if not user:
        parts = (part.partition(b"=") for part in query.split(b"&"))
        user = next((decoded(value) for name, _, value in parts if decoded(name) == b"user_id"), b"")
    ask = parse_ask(query, user, k_default=route.k_default, k_max=route.k_max)
    if ask.cursor is not None:
        raise Refusal("bad_request", 400, "Bad Request", "a page is nothing to be asked for beforehand")
    return user, ask


def refusal_of(query: bytes, *, routes: Iterable[Route], identity: IdentityReader) -> str:
    """Why no route takes it; empty: one does."""
    why = "there is no recommend route"
    for route in routes:
        if route.kind != "recommend":
            continue
        try:
            warm_ask(query, route, identity)
        except Refusal as refusal:
            why = refusal.detail
        else:
            return ""
    return why


def reads_through(policy: Policy) -> bool:
    """Whether anybody is to read the cache and fill it: `prewarm`, in the document, one of its rules, or a
    layer over them.
    """
    toggles = policy.toggles
    over = [rule.toggles for rule in toggles.rules] + [patch.toggles for patch in policy.layers]
    return toggles.cache_mode == "prewarm" or any(it.get("cache_mode") == "prewarm" for it in over)
