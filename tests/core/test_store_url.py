"""Where a store is, from its url; what is wrong with one is told without repeating it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.store_url import parse


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/a.db", "var/a.db"),
        ("sqlite:////var/a.db", "/var/a.db"),
        ("sqlite:///a%3Fb%20c.db", "a?b c.db"),
    ],
)
def test_files(url, path):
    place = parse(url)
    assert (place.kind, place.path, place.name) == ("sqlite", path, path)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://localhost/x", "postgresql://localhost/x"),
        ("postgresql://me:s%40crt@[::1]:5433/x?sslmode=require", "postgresql://me@[::1]:5433/x"),
        ("postgresql:///x?host=/run/postgresql", "postgresql:///x"),
    ],
)
def test_servers(url, name):
    place = parse(url)
    assert (place.kind, place.name, place.url) == ("postgresql", name, url)
    assert "crt" not in repr(place)


def test_memory():
    assert parse("memory://").kind == "memory"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "names no store that is known"),
        ("mysql://me:hush@host/x", "names no store that is known"),
        ("var/a.db", "names no store that is known"),
        ("sqlite://var/a.db", "three slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:///var/", "names no file"),
        ("sqlite:///a.db?mode=ro", "takes no options"),
        ("sqlite:///a%00.db", "names no file"),
        ("postgresql://me:hush@host", "names no database"),
        ("postgresql://me:hush@host:port/x", "is no url"),
        ("postgresql://me:hush@[host/x", "is no url"),
        ("memory://hush", "memory:// takes neither"),
    ],
)
def test_what_is_wrong_is_told_without_the_password(url, said):
    with pytest.raises(ValueError, match=said) as caught:
        parse(url)
    assert "hush" not in str(caught.value)


@given(st.text() | st.text().map("postgresql://".__add__) | st.text().map("sqlite:///".__add__))
def test_any_text_is_a_place_or_a_fault(text):
    with contextlib.suppress(ValueError):
        assert parse(text).name
