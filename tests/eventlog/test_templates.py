"""Templates: what they take, and what never becomes SQL."""

import pytest
from eventing import NOON
from hypothesis import given
from hypothesis import strategies as st

from proxy.eventlog.templates import QueryError, parsed, template, templates

ASKED = parsed(
    "asked",
    "-- What.\n-- param n integer = 5: n\n-- param share number = 0.5: s\n-- param who name = '': w\n"
    "-- param most count = 9: m\n-- param at time: t\n"
    "SELECT {n}, {most}, {share}, {who}, {at}, {since}, {until_date}\n",
)
AT = "2025-11-25T12:00:00Z"


def rendered(**params):
    return ASKED.rendered({"at": AT} | params, NOON - 600, NOON)


def test_parameters_become_literals_of_their_type():
    assert rendered(n="-7", share="0.25", who="a b.c") == (
        f"SELECT -7, 9, 2.500000e-01, 'a b.c', {NOON * 1000:.0f}, {(NOON - 600) * 1000:.0f}, '2025-11-25'"
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("n", "5; DROP TABLE x", "a whole number"),
        ("n", "\uff11", "a whole number"),
        ("most", "0", "a whole number from 1 on"),
        ("most", "-5", "a whole number from 1 on"),
        ("share", "1e9", "a number"),
        ("share", "nan", "a number"),
        ("who", "'", "letters"),
        ("who", "a\\", "letters"),
        ("who", "a\nb", "letters"),
        ("at", "yesterday", "a time like"),
        ("at", "2025-11-25T12:00:00", "a time like"),
        ("nobody", "1", "there are: n, share, who, most, at"),
    ],
)
def test_what_is_no_value_is_refused_by_name(name, value, words):
    with pytest.raises(QueryError, match=words) as refused:
        rendered(**{name: value})
    assert name in str(refused.value)


def test_a_parameter_without_a_default_has_to_be_given():
    with pytest.raises(QueryError, match="needs --param at=…: t"):
        ASKED.rendered({}, 0, 1)


@given(st.text())
def test_no_text_gets_out_of_its_quotes(text):
    try:
        sql = rendered(who=text)
    except QueryError:
        return
    assert sql.count("'") == 4
    assert "\\" not in sql
    assert "--" not in sql.replace(f"'{text}'", "")


def test_an_unknown_query_names_those_there_are():
    with pytest.raises(QueryError, match=r"no query 'covrage'; there are: .*coverage.*error.*latency"):
        template("covrage")


@pytest.mark.parametrize("found", templates().values(), ids=lambda it: it.name)
def test_each_shipped_template_says_what_it_answers(found):
    assert found.about.endswith(".")
    assert "{since}" in found.sql


def test_a_place_without_a_parameter_is_a_fault_of_the_template():
    with pytest.raises(ValueError, match="differ"):
        parsed("x", "-- What.\nSELECT {missing}")
    with pytest.raises(ValueError, match="no type"):
        parsed("x", "-- What.\n-- param a blob: a\nSELECT {a}")
