"""Who is asking is read from the configured places, in their order."""

import pytest

from proxy.core.identity import MAX_VALUE_BYTES, IdentityReader, Who
from proxy.core.policy import Identity

USUAL = IdentityReader(Identity())
COOKIES = IdentityReader(Identity(user=("cookie:uid", "query:u"), client=("header:X-Client", "cookie:app")))


def user(headers: dict[bytes, bytes], query: bytes = b"") -> bytes:
    return USUAL.read(headers, query).user


def test_all_fields_are_read_from_their_headers():
    headers = {b"x-user-id": b"u1", b"x-region": b"eu", b"x-cohort": b"light", b"x-client": b"tv"}
    assert USUAL.read(headers, b"") == Who(b"u1", b"eu", b"light", b"tv")


def test_what_is_nowhere_is_unknown():
    assert USUAL.read({}, b"k=10") == Who(b"", b"", b"", b"")


def test_the_first_source_with_a_value_wins():
    assert user({b"x-user-id": b"header"}, b"user_id=query") == b"header"
    assert user({b"x-user-id": b""}, b"user_id=query") == b"query"
    assert COOKIES.read({b"cookie": b"uid=c"}, b"u=q").user == b"c"
    assert COOKIES.read({b"cookie": b"other=c"}, b"u=q").user == b"q"


def test_the_user_alone_is_the_user_of_the_whole_reading():
    for headers, query in (({b"x-user-id": b"u1"}, b"user_id=q"), ({}, b"user_id=q"), ({}, b"")):
        assert USUAL.user(headers, query) == USUAL.read(headers, query).user


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"user_id=u1", b"u1"),
        (b"k=10&user_id=u1&x=2", b"u1"),
        (b"xuser_id=no", b""),
        (b"user_id", b""),
        (b"user_id=&user_id=u2", b"u2"),
        (b"user_id=u1&user_id=u2", b"u1"),
        (b"user_id=a+b", b"a b"),
        (b"user_id=a%20b%2B", b"a b+"),
        (b"user%5Fid=u1", b"u1"),
        (b"x=user_id=no", b""),
        (b"user_id=a=b", b"a=b"),
    ],
)
def test_query_parameters_are_decoded(query, expected):
    assert user({}, query) == expected


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        (b"uid=c1", b"c1"),
        (b"a=1; uid=c1; b=2", b"c1"),
        (b'uid="c1"', b"c1"),
        (b"uid=a=b", b"a=b"),
        (b"xuid=no", b""),
        (b"UID=no", b""),
        (b"uid=", b""),
        (b"uid=; uid=c2", b"c2"),
        (b";;", b""),
    ],
)
def test_cookies_are_read_by_their_exact_name(cookies, expected):
    assert COOKIES.read({b"cookie": cookies}, b"").user == expected


@pytest.mark.parametrize("value", [b"a\x00b", b"a\r\nb", b"a\x7f", b"x" * (MAX_VALUE_BYTES + 1)])
def test_values_that_could_do_harm_are_absent(value):
    assert user({b"x-user-id": value}, b"user_id=other") == b"other"


def test_encoded_control_characters_are_absent_too():
    assert user({}, b"user_id=a%0d%0ab") == b""
    assert user({}, b"user_id=" + b"x" * MAX_VALUE_BYTES) == b"x" * MAX_VALUE_BYTES


def test_it_names_the_headers_that_it_needs():
    assert USUAL.header_names == {b"x-user-id", b"x-region", b"x-cohort", b"x-client"}
    assert COOKIES.header_names == {b"cookie", b"x-region", b"x-cohort", b"x-client"}


@pytest.mark.parametrize("spec", ["headr:x", "x-user-id", "header:", "query:a b", "cookie:a=b", ""])
def test_a_bad_source_is_named(spec):
    with pytest.raises(ValueError, match="is not header:NAME") as raised:
        IdentityReader(Identity(region=(spec,)))
    assert repr(spec) in str(raised.value)
