"""Tokens that come back: only what was signed here, for this, is believed."""

import string
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.signing import BadToken, Kind, key_from

KEY, OTHER = bytes(range(32)), bytes(32)
ONE = Kind(b"one", version=1, most=1000)
ALPHABET = (string.ascii_letters + string.digits + "-_").encode()


@given(st.binary(max_size=200))
def test_what_was_signed_comes_back(payload):
    token = ONE.sign(KEY, payload)
    assert set(token.encode()) <= set(ALPHABET)
    assert ONE.open(KEY, token.encode()) == payload


@given(st.binary(max_size=60), st.data())
def test_no_other_character_anywhere_passes(payload, data):
    """Not even one that a lenient decoder would read as the same bytes."""
    token = bytearray(ONE.sign(KEY, payload).encode())
    at = data.draw(st.integers(0, len(token) - 1))
    token[at] = data.draw(st.sampled_from([it for it in range(256) if it != token[at]]))
    with pytest.raises(BadToken):
        ONE.open(KEY, bytes(token))


@given(st.binary(max_size=60).filter(lambda it: (len(it) + 33) % 3))
def test_bits_that_mean_nothing_make_no_second_token(payload):
    """The last character of an incomplete group holds some that a decoder drops."""
    token = ONE.sign(KEY, payload).encode()
    others = [token[:-1] + bytes((it,)) for it in ALPHABET if it != token[-1]]
    whole = token + b"=" * (-len(token) % 4)
    same = [it for it in others if urlsafe_b64decode(it + whole[len(token) :]) == urlsafe_b64decode(whole)]
    assert same
    for each in same:
        with pytest.raises(BadToken, match="base64url"):
            ONE.open(KEY, each)


@given(st.binary(max_size=60), st.data())
def test_nothing_cut_off_or_put_on_passes(payload, data):
    token = ONE.sign(KEY, payload).encode()
    shorter = token[: data.draw(st.integers(0, len(token) - 1))]
    longer = token + data.draw(st.binary(min_size=1, max_size=8))
    for each in (shorter, longer, b"=" + token, token + b"=", b" " + token):
        with pytest.raises(BadToken):
            ONE.open(KEY, each)


@given(st.binary(max_size=300))
@example(b"")
@example(b"\xff" * 40)
def test_what_anybody_makes_up_does_not_pass(made_up):
    for each in (made_up, urlsafe_b64encode(made_up).rstrip(b"=")):
        with pytest.raises(BadToken):
            ONE.open(KEY, each)


@pytest.mark.parametrize(
    ("kind", "key"),
    [(Kind(b"two", version=1, most=1000), KEY), (Kind(b"on", version=1, most=1000), KEY), (ONE, OTHER)],
)
def test_another_kind_or_key_does_not_pass(kind, key):
    with pytest.raises(BadToken, match="signature"):
        ONE.open(KEY, kind.sign(key, b"e\0payload").encode())


def test_another_version_is_told_and_only_under_our_signature():
    newer = Kind(b"one", version=2, most=1000).sign(KEY, b"x").encode()
    with pytest.raises(BadToken, match="another version"):
        ONE.open(KEY, newer)
    forged = bytearray(urlsafe_b64decode(newer + b"=" * (-len(newer) % 4)))
    forged[0] = 1
    with pytest.raises(BadToken, match="signature"):
        ONE.open(KEY, urlsafe_b64encode(forged).rstrip(b"="))


def test_length_is_bounded_before_anything_is_read():
    short = Kind(b"one", version=1, most=60)
    with pytest.raises(BadToken, match="longer than 60"):
        short.open(KEY, ONE.sign(KEY, b"x" * 40).encode())


def test_a_secret_stands_for_one_key():
    assert key_from("a" * 32) == key_from("a" * 32) != key_from("b" * 32)
    assert len(key_from("x")) == 32
