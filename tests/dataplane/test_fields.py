"""Cutting fields out of a head, and reading lists."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dataplane.fields import HOP_BY_HOP, list_members, spelled_as, without

names = st.sampled_from([b"a", b"A", b"ab", b"a-b", b"A-B", b"b"])
lines = st.lists(st.tuples(names, st.sampled_from([b"", b" a", b" x: y", b" b:", b"\ta"])), max_size=8)


@settings(derandomize=True)
@given(lines, st.lists(names, max_size=4))
def test_cutting_takes_exactly_the_named_lines(fields, cut):
    """As they are spelled, all of them, and nothing that only looks alike."""

    def text(some: list[tuple[bytes, bytes]]) -> bytes:
        return b"HTTP/1.1\r\n" + b"".join(b"%b:%b\r\n" % field for field in some) + b"\r\n"

    assert without(text(fields), cut) == text([field for field in fields if field[0] not in cut])


def test_spellings_are_those_that_occur():
    head = b"HTTP/1.1\r\nX-A: x-A\r\nx-a: 1\r\nX-AB: 2\r\nY: X-a:\r\n\r\n"
    assert spelled_as((b"x-a",), head) == {b"X-A", b"x-a"}
    assert spelled_as((b"z",), head) == set()


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", set()),
        (b"close", {b"close"}),
        (b" Close ,\tKEEP-alive,,", {b"close", b"keep-alive"}),
        (b"a b,c;d", {b"a b", b"c;d"}),
        (b"x" * 100 + b",y", {b"x" * 100, b"y"}),
    ],
)
def test_members_of_a_list(value, members):
    """RFC 9110 §5.6.1: empty elements are none; the second reading is the first."""
    assert list_members(value) == members
    assert list_members(value) == members


def test_lists_do_not_pile_up_in_memory():
    """What clients may vary endlessly is not kept endlessly, and read right all the same."""
    for number in range(2_000):
        assert list_members(b"n%d, close" % number) == {b"n%d" % number, b"close"}


def test_hop_by_hop_fields_are_those_of_the_standard():
    """RFC 9110 §7.6.1, and what older proxies said."""
    standard = (
        b"connection keep-alive proxy-connection te transfer-encoding upgrade trailer proxy-authorization"
    )
    assert set(standard.split()) <= HOP_BY_HOP
    assert all(re.fullmatch(rb"[a-z-]+", name) for name in HOP_BY_HOP)
