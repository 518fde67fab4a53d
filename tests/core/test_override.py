"""Overrides: signed, expiring, within what settings allow."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.override import (
    _TOKEN,
    MAX_NAME,
    OVERRIDABLE,
    SKEW_S,
    Clamped,
    Override,
    Overrides,
    faults,
    sign,
    verify,
)
from proxy.core.toggles import BY_NAME, CATALOGUE
from proxy.errors import Refusal

KEY = b"k" * 32
NOW = 1_800_000_000
ALL = Overrides()
VALUES = {
    "alpha_override": st.none() | st.floats(0, 1),
    "policy_mode": st.none() | st.sampled_from(BY_NAME["policy_mode"].choices),
    "disable_cf": st.booleans(),
    "disable_content": st.booleans(),
    "candidate_fallback_level": st.sampled_from("ABCD"),
    "exposure_percent": st.integers(0, 10_000).map(lambda it: it / 100),
    "cache_mode": st.sampled_from(BY_NAME["cache_mode"].choices),
}


def made(*, ttl=600, at=NOW, **toggles):
    return Override("o-1", "ann", at, at + ttl, tuple(sorted(toggles.items())))


def header(override=None, key=KEY, **toggles):
    return sign(key, override or made(**toggles)).encode()


def refusal(value, settings=ALL, *, key=KEY, now=NOW):
    with pytest.raises(Refusal) as caught:
        verify(key, value, settings, now)
    assert (caught.value.code, caught.value.status) == ("override_invalid", 400)
    assert caught.value.detail.startswith("X-Fusebox-Override: ")
    return caught.value.detail


def test_what_can_be_overridden_is_what_can_differ_by_scope():
    assert set(OVERRIDABLE) == set(VALUES)
    assert "kill_switch" not in OVERRIDABLE


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_what_was_signed_is_what_holds(toggles):
    override = made(**toggles)
    assert verify(KEY, header(override), ALL, NOW) == (override, ())


def test_the_longest_that_can_be_signed_passes():
    toggles = {"alpha_override": 0.12345678901234567, "policy_mode": "hybrid_default", "disable_cf": False,
               "disable_content": False, "candidate_fallback_level": "A", "exposure_percent": 12.34,
               "cache_mode": "warm_only"}  # fmt: skip
    longest = Override(
        "o-" + 32 * "f", "\U0001f600" * MAX_NAME, NOW, NOW + 600, tuple(sorted(toggles.items()))
    )
    assert verify(KEY, header(longest), ALL, NOW).override == longest


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (NOW + 600, None),
        (NOW + 600 + SKEW_S, None),
        (NOW + 601 + SKEW_S, "has expired 6 s ago"),
        (NOW + 10**6, "has expired"),
        (NOW - SKEW_S, None),
        (NOW - 1 - SKEW_S, "was made 6 s from now"),
    ],
)
def test_it_counts_from_when_it_was_made_until_it_expires(now, words):
    if words:
        assert words in refusal(header(), now=now)
    else:
        assert verify(KEY, header(), ALL, now).override.id == "o-1"


def test_no_setting_makes_an_old_one_live_longer():
    """Settings that became stricter hold for what was signed before."""
    strict = replace(ALL, max_ttl_s=60)
    assert verify(KEY, header(), strict, NOW + 60).clamped == (Clamped("until", NOW + 600, NOW + 60),)
    assert "has expired" in refusal(header(), strict, now=NOW + 61 + SKEW_S)


@pytest.mark.parametrize(
    ("toggles", "clamped"),
    [
        ({"alpha_override": 0.9}, [("alpha_override", 0.9, 0.6)]),
        ({"alpha_override": 0}, [("alpha_override", 0, 0.2)]),
        ({"alpha_override": None}, []),
        ({"alpha_override": 0.6}, []),
        ({"exposure_percent": 100, "alpha_override": 0.9},
         [("alpha_override", 0.9, 0.6), ("exposure_percent", 100, 50)]),
    ],
)  # fmt: skip
def test_numbers_are_clamped_and_that_is_told(toggles, clamped):
    bounded = replace(ALL, alpha_min=0.2, alpha_max=0.6, exposure_max=50)
    override, told = verify(KEY, header(**toggles), bounded, NOW)
    assert [tuple(it) for it in told] == clamped
    assert dict(override.toggles) == toggles | {name: given for name, _, given in clamped}


@pytest.mark.parametrize(
    ("toggles", "words"),
    [
        ({"kill_switch": False}, "kill_switch is for everybody"),
        ({"kill_switch": True}, "kill_switch is for everybody"),
        ({"experiment_freeze": False}, "experiment_freeze is for everybody"),
        ({"region_scope": ["eu"]}, "region_scope is for everybody"),
        ({"cohort_scope": []}, "cohort_scope is for everybody"),
        ({"client_scope": []}, "client_scope is for everybody"),
        ({"disable_billing": True}, "disable_billing: unknown toggle"),
        ({"disable_cf": 1}, "disable_cf: should be true or false"),
        ({"disable_cf": {"a": []}}, "disable_cf: should be true or false"),
        ({"alpha_override": 1.5}, "alpha_override: should be a number from 0 to 1"),
        ({"policy_mode": "Content_only"}, "policy_mode: should be one of"),
        ({"cache_mode": "cold"}, "cache_mode may not be overridden here"),
    ],
)
def test_what_settings_do_not_allow_is_refused_and_named(toggles, words):
    """Also under our own signature: settings, or the version that signed, may have been others."""
    settings = replace(ALL, toggles=("disable_cf", "alpha_override", "policy_mode"))
    assert words in refusal(header(**toggles), settings)
    assert any(words in it for it in faults(toggles, settings))


def test_every_toggle_is_either_overridable_or_refused():
    for toggle in CATALOGUE:
        value = toggle.default
        if toggle.name in OVERRIDABLE:
            verify(KEY, header(**{toggle.name: value}), ALL, NOW)
        else:
            assert "is for everybody" in refusal(header(**{toggle.name: value}))


def test_switched_off_or_without_a_key_nothing_counts():
    assert "switched off" in refusal(header(), replace(ALL, enabled=False))
    assert "no signing key" in refusal(header(), key=b"")
    assert "no signing key" in refusal(sign(b"", made()).encode(), key=b"")


@pytest.mark.parametrize(
    "value",
    [b"", b"x", b"\xff\xfe", "ü".encode(), b"v1." + header(), header() + b"=", header()[:-1], header()[:-2],
     header()[1:], header().upper(), b"A" * 3000, b"A" * 100_000, b" " + header()],
)  # fmt: skip
def test_what_is_no_token_is_refused(value):
    refusal(value)


def test_a_repeated_header_is_told_as_such():
    assert "once only" in refusal(header() + b", " + header())


def test_the_key_of_yesterday_counts_no_more():
    assert "signature" in refusal(header(key=b"y" * 32))


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"[]", b"null", b"\xff", b'"x"', orjson.dumps(made()._asdict() | {"toggles": []}),
     orjson.dumps(made()._asdict() | {"toggles": {}, "at": "now"}),
     orjson.dumps(made()._asdict() | {"toggles": {}, "at": True}),
     orjson.dumps(made()._asdict() | {"toggles": {}, "until": 1e300})],
)  # fmt: skip
def test_something_else_under_our_signature_is_no_override(payload):
    assert "something else" in refusal(_TOKEN.sign(KEY, payload).encode())


class TestFaultsOfWhatIsToBeSigned:
    def test_a_number_out_of_range_is_a_fault_not_a_clamp(self):
        assert faults({"alpha_override": 0.9}, replace(ALL, alpha_max=0.5)) == [
            "alpha_override should be from 0 to 0.5 by [overrides]"
        ]

    def test_values_that_exclude_each_other_are_found_when_both_are_set(self):
        both = {"disable_cf": True, "policy_mode": "collab_only"}
        assert faults(both, ALL) == ["policy_mode collab_only asks cf alone, and disable_cf forbids that"]
        assert all(faults({name: value}, ALL) == [] for name, value in both.items())

    def test_all_are_told_at_once(self):
        assert len(faults({"kill_switch": True, "x": 1, "disable_cf": "no"}, ALL)) == 3
