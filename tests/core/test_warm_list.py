"""What a warm list may hold, and what its queries ask."""

import orjson
import pytest

from proxy.core.identity import IdentityReader
from proxy.core.policy import Identity, Policy, Route, Toggles
from proxy.core.toggles import Rule, Scope
from proxy.core.warm_list import MAX_QUERIES, NoWarmList, read_warm_list, reads_through, refusal_of, warm_ask
from proxy.errors import Refusal

ROUTE = Route(name="films", path="/r", kind="recommend", k_default=50, k_max=200)
READER = IdentityReader(Identity())


def test_queries_are_read_as_they_stand():
    assert read_warm_list(b'["user_id=1&k=5", "genres=a%20b"]') == [b"user_id=1&k=5", b"genres=a%20b"]
    assert read_warm_list(b"[]") == []


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no JSON"), (b"{}", "a list of queries"), (b'"user_id=1"', "a list of queries"),
        (b"[1]", "[0]"), (b'["a=1", null]', "[1]"), (b'[["a=1"]]', "[0]"), (b'[""]', "[0]"),
        (b'["user_id=a b"]', "[0]"), ('["user_id=é"]'.encode(), "[0]"), (b'["a=1#x"]', "[0]"),
        (b'["a=1\\r\\nX: y"]', "[0]"), (orjson.dumps(["a=1"] * (MAX_QUERIES + 1)), "more than"),
    ],
)  # fmt: skip
def test_anything_else_is_no_list(raw, words):
    with pytest.raises(NoWarmList) as caught:
        read_warm_list(raw)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("query", "user", "asked"),
    [
        (b"user_id=7&k=5", b"7", b"user_id=7&k=5"),
        (b"k=5&user_id=a%20b&x=1", b"a b", b"user_id=a%20b&k=5&x=1"),
        (b"k=5", b"", b"user_id=&k=5"),
        (b"user_id=7", b"7", b"user_id=7&k=50"),
    ],
)
def test_a_query_asks_what_it_would_of_a_client(query, user, asked):
    found, ask = warm_ask(query, ROUTE, READER)
    assert (found, ask.query) == (user, asked)


def test_who_asks_is_read_where_the_settings_say_and_else_from_user_id():
    elsewhere = IdentityReader(Identity(user=("query:uid",)))
    assert warm_ask(b"uid=9&user_id=7", ROUTE, elsewhere)[0] == b"9"
    assert warm_ask(b"user_id=7", ROUTE, IdentityReader(Identity(user=("header:x-user-id",))))[0] == b"7"


@pytest.mark.parametrize("query", [b"k=0", b"k=201", b"year_min=x", b"user_id=7&cursor="])
def test_what_a_client_would_be_refused_is_refused(query):
    with pytest.raises(Refusal):
        warm_ask(query, ROUTE, READER)


def test_a_query_is_refused_when_no_route_takes_it():
    wide = Route(name="wide", path="/w", kind="recommend", k_max=500)
    other = Route(name="pay", path="/pay", upstream="pay")
    assert refusal_of(b"k=300", routes=(ROUTE, wide), identity=READER) == ""
    assert "from 1 to 200" in refusal_of(b"k=300", routes=(ROUTE, other), identity=READER)
    assert refusal_of(b"k=3", routes=(other,), identity=READER) == "there is no recommend route"


@pytest.mark.parametrize(
    ("mode", "ruled", "reads"),
    [("prewarm", "cold", True), ("cold", "prewarm", True), ("cold", "warm_only", False),
     ("warm_only", "cold", False)],
)  # fmt: skip
def test_somebody_reads_through_where_document_or_rule_says_so(mode, ruled, reads):
    rules = Rule(Scope(), {"disable_cf": True}), Rule(Scope(region=("a",)), {"cache_mode": ruled})
    toggles = Toggles(cache_mode=mode, rules=rules)
    assert reads_through(Policy(routes=(), upstreams={}, toggles=toggles)) is reads
