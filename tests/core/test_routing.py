"""Routes are found on raw paths, and odd paths cannot be read around a guard."""

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.policy import Route
from proxy.core.routing import BUCKETS, RouteTable, bucket, normalised, parameters
from proxy.errors import Refusal

TABLE = RouteTable(
    [
        Route(name="content", path="/content/"),
        Route(name="payment", path="/payment/", guarded=True),
        Route(name="email", path="/email/", flag="notifications"),
        Route(name="read", path="/content/read/", methods=("GET",)),
        Route(name="recommendations", path="/recommendations", kind="recommend"),
    ]
)
EVERYTHING = RouteTable([Route(name="root", path="/"), Route(name="payment", path="/payment/", guarded=True)])


def name(route: Route | None) -> str | None:
    return route and route.name


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/payment/", "payment"),
        (b"/payment/charge", "payment"),
        (b"/payment", None),
        (b"/recommendations", "recommendations"),
        (b"/recommendations/", "recommendations"),
        (b"/recommendations/home", "recommendations"),
        (b"/recommendationsx", None),
        (b"/content/read/1", "read"),
        (b"/content/readx", "content"),
        (b"/Content/x", None),
        (b"/", None),
        (b"*", None),
        (b"", None),
    ],
)
def test_the_longest_prefix_of_whole_segments_wins(path, expected):
    assert name(TABLE.match(path)) == expected
    assert name(TABLE.resolve(path)) == expected


def test_the_root_takes_what_no_other_route_takes():
    assert name(EVERYTHING.match(b"/")) == "root"
    assert name(EVERYTHING.match(b"/payments")) == "root"
    assert name(EVERYTHING.match(b"/payment/x")) == "payment"


@pytest.mark.parametrize(
    "rest",
    [
        b"a%20b",
        b"caf%C3%A9",
        b"caf%c3%a9",
        b"a%2Cb%3Ac%40d",
        b"100%25",
        b"a.b/c..d/.hidden/..x/...",
        b"~user/x=1,2'(3)!$&*+",
    ],
)
def test_clean_paths_pass_a_guard(rest):
    assert name(TABLE.resolve(b"/payment/" + rest)) == "payment"


@pytest.mark.parametrize(
    "rest",
    [
        b"./x",
        b"a/../b",
        b"a/..",
        b".",
        b"a//b",
        b"/",
        b"a;v=1/b",
        b"a;",
        b"a\\b",
        b"a%2fb",
        b"a%2Fb",
        b"a%5cb",
        b"a%5Cb",
        b"a%3bb",
        b"%2e/x",
        b"a/%2e%2e/b",
        b"a/.%2E/b",
        b"%63harge",
        b"a/%252e%252e/b",
        b"a%25252fb",
    ],
)
@pytest.mark.parametrize("guarded", [b"/payment/", b"/email/", b"/content/read/"])
def test_ambiguous_paths_do_not_pass_a_guard_a_flag_or_methods(guarded, rest):
    with pytest.raises(Refusal) as refused:
        TABLE.resolve(guarded + rest)
    assert (refused.value.code, refused.value.status) == ("bad_request", 400)


@pytest.mark.parametrize("rest", [b"a/./b", b"a/../b", b"a//b", b"a;v=1", b"a%2fb", b"%61", b"a\\b"])
def test_an_unguarded_route_serves_paths_that_stay_inside_it(rest):
    assert name(TABLE.resolve(b"/content/" + rest)) == "content"


@pytest.mark.parametrize(
    "path",
    [
        b"/content/../payment/charge",
        b"/content/..%2fpayment/charge",
        b"/content/%2e%2e/payment/charge",
        b"/content/..;/payment/charge",
        b"/content/..\\payment/charge",
        b"/content/%252e%252e%252fpayment/charge",
        b"/content/./read/1",
        b"//payment/charge",
        b"/p%61yment/charge",
        b"/payment;x/charge",
        b"/payment/../nowhere",
        b"/payment/../content/x",
        b"/nowhere/../content/x",
    ],
)
def test_paths_that_two_readers_would_take_to_two_routes_are_refused(path):
    with pytest.raises(Refusal):
        TABLE.resolve(path)


@pytest.mark.parametrize("path", [b"/..", b"/../", b"/content/../../content/x", b"/content/a/..//../../x"])
def test_paths_above_the_root_are_refused(path):
    with pytest.raises(Refusal):
        EVERYTHING.resolve(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/content/%00",
        b"/content/%0a",
        b"/content/%1F",
        b"/content/%7f",
        b"/content/\x00",
        b"/content/a b",
        b"/content/a\x7f",
        b"/content/%",
        b"/content/%2",
        b"/content/%zz",
        b"/content/a#b",
    ],
)
def test_malformed_paths_are_refused_on_every_route(path):
    with pytest.raises(Refusal) as refused:
        TABLE.resolve(path)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a/b/../c/./d", b"/a/c/d"),
        (b"/a/b/..", b"/a/"),
        (b"/a/.", b"/a/"),
        (b"/a//b/", b"/a/b/"),
        (b"/a/..", b"/"),
        (b"/", b"/"),
        (b"/%41%7e%2D", b"/A~-"),
        (b"/a%20b", b"/a%20b"),
        (b"/a/..;x=1/b", b"/b"),
        (b"/a/../..", None),
    ],
)
def test_the_normal_form(path, expected):
    assert normalised(path) == expected


ODD = st.lists(
    st.sampled_from(
        b"/ // .. . %2e %2E %2f %5c \\ ; ;a=1 %25 2e 2f payment content a %61 %70ayment %20".split()
    ),
    max_size=14,
).map(lambda parts: b"/" + b"".join(parts))


@given(ODD)
def test_what_is_served_leads_to_the_same_route_in_its_normal_form(path):
    try:
        route = TABLE.resolve(path)
    except Refusal:
        return
    normal = normalised(path)
    assert normal is not None
    assert TABLE.match(normal) is route
    if route is not None and (route.guarded or route.flag or route.methods):
        assert normal == path


@given(ODD)
def test_a_normal_form_is_stable_unless_it_was_encoded_more_than_once(path):
    normal = normalised(path)
    if normal is not None and b"%25" not in path:
        assert normalised(normal) == normal


def test_buckets_are_those_of_mmh3_over_salt_and_key():
    # murmur3 x86 32-bit, seed 0, published vectors
    assert mmh3.mmh3_32_uintdigest(b"hello") == 0x248BFA47
    assert mmh3.mmh3_32_uintdigest(b"hello, world") == 0x149BBB7F
    assert bucket(b"lo", b"hel") == mmh3.mmh3_32_uintdigest(b"hel:lo") * BUCKETS >> 32
    assert bucket(b"user-1", b"exposure") == 4144  # pinned: users keep their buckets over releases
    assert bucket(b"user-1", b"hybrid_v1") != bucket(b"user-1", b"exposure")


@given(st.binary(), st.binary(max_size=16))
def test_a_bucket_is_sticky_and_in_range(key, salt):
    assert 0 <= bucket(key, salt) < BUCKETS
    assert bucket(key, salt) == bucket(key, salt)


def test_buckets_are_even_over_users():
    tenths = [0] * 10
    for user in range(20_000):
        tenths[bucket(b"user-%d" % user, b"exposure") // 1000] += 1
    # 20 000 draws into tenths: standard deviation 42; five of them
    assert all(abs(count - 2000) < 210 for count in tenths)


def test_a_query_is_read_in_order_and_decoded():
    query = b"a=1&b=x%20y+z&&=lost&c&a=%C3%A9&%64=4"
    assert parameters(query) == [
        (b"a", b"1"),
        (b"b", b"x y z"),
        (b"c", b""),
        (b"a", "é".encode()),
        (b"d", b"4"),
    ]
    assert parameters(b"") == []
