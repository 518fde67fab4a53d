"""Scopes: AND across region, cohort and client, OR within one, the first rule counts (facts 2.11)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.scopes import NO_RULE, Scopes
from proxy.core.toggles import Rule, Scope, Toggles


def rules(*scopes):
    return tuple(Rule(scope=scope, toggles={"disable_cf": True}) for scope in scopes)


@pytest.mark.parametrize(
    ("who", "covered"),
    [
        ((b"eu", b"cold", b"tv"), True),
        ((b"us", b"cold", b"web"), True),
        ((b"asia", b"cold", b"tv"), False),
        ((b"eu", b"heavy", b"tv"), False),
        ((b"", b"cold", b"tv"), False),
        ((b"EU", b"cold", b"tv"), False),
    ],
)
def test_a_document_is_for_one_of_each_list(who, covered):
    scopes = Scopes(Scope(region=("eu", "us"), cohort=("cold",)), ())
    assert scopes.covers(*who) is covered


def test_without_scopes_it_is_for_everybody():
    assert Scopes(Scope(), ()).covers(b"", b"", b"")
    assert Scopes(Scope(), ()).everybody
    assert not Scopes(Scope(client=("tv",)), ()).everybody
    assert not Scopes(Scope(), rules(Scope())).everybody


def test_the_first_that_fits_counts():
    scopes = Scopes(
        Scope(), rules(Scope(region=("eu",), client=("tv",)), Scope(region=("eu",)), Scope(client=("tv",)))
    )
    asked = [(b"eu", b"tv"), (b"eu", b"web"), (b"us", b"tv"), (b"us", b"web"), (b"", b"")]
    assert [scopes.rule(region, b"", client) for region, client in asked] == [0, 1, 2, NO_RULE, NO_RULE]


def test_a_rule_for_all_ends_the_list():
    assert Scopes(Scope(), rules(Scope(region=("eu",)), Scope())).rule(b"x", b"", b"") == 1


NAMES = ("a", "b", "c")
lists = st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple)
scope = st.builds(Scope, region=lists, cohort=lists, client=lists)
value = st.sampled_from([b"", b"a", b"b", b"c", b"d"])


def fits(scope, *who):
    return all(
        not names or asked.decode() in names
        for names, asked in zip((scope.region, scope.cohort, scope.client), who, strict=True)
    )


@given(scope, st.lists(scope, max_size=8), value, value, value)
def test_it_agrees_with_reading_one_after_the_other(document, listed, region, cohort, client):
    scopes = Scopes(document, rules(*listed))
    found = next((at for at, each in enumerate(listed) if fits(each, region, cohort, client)), NO_RULE)
    assert scopes.rule(region, cohort, client) == found
    assert scopes.covers(region, cohort, client) == fits(document, region, cohort, client)


def test_what_a_kill_leaves_as_it_is_is_not_sorted_anew():
    toggles = Toggles(rules=rules(Scope(region=("eu",))))
    known = Scopes.of(toggles, None)
    assert Scopes.of(Toggles(rules=toggles.rules, kill_switch=True, version=9), known) is known
    assert Scopes.of(Toggles(rules=toggles.rules, region_scope=("eu",)), known) is not known
    assert Scopes.of(Toggles(rules=rules(Scope(region=("us",)))), known) is not known
