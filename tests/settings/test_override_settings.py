"""`[overrides]`: what may be overridden, and a secret that is never shown."""

import pytest

from proxy.core.override import OVERRIDABLE

SECRET = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('toggles = ["disable_fc"]', "overrides.toggles[0]", "did you mean 'disable_cf'?"),
        ('toggles = ["disable_cf", "kill_switch"]', "overrides.toggles[1]", "is for everybody"),
        ('toggles = ["region_scope"]', "overrides.toggles[0]", "is for everybody"),
        ("alpha_min = 0.6\nalpha_max = 0.5", "overrides.alpha_min", "more than alpha_max"),
        ("exposure_min = 60\nexposure_max = 50", "overrides.exposure_min", "more than exposure_max"),
        ("exposure_max = 33.333", "overrides.exposure_max", "finer than 0.01"),
        ("alpha_max = 1.5", "overrides.alpha_max", "less than or equal to 1"),
        ("max_ttl_s = 0", "overrides.max_ttl_s", "greater than or equal to 1"),
        ("max_ttl_s = 10_000_000", "overrides.max_ttl_s", "less than or equal to"),
        ('secret = "short"', "overrides.secret", "at least 32 characters"),
        ("secrte = 1", "overrides.secrte", "did you mean 'secret'?"),
        ('secret = "${NOBODY_HAS_SET_THIS}"', "overrides.secret", "NOBODY_HAS_SET_THIS is not set"),
    ],
)
def test_faults_are_named(folder, text, place, words):
    folder.add(f"[overrides]\n{text}\n")
    found = folder.problems()
    assert list(found) == [place]
    assert words in found[place]


def test_by_default_all_that_can_differ_by_scope_may_be_overridden(folder):
    found = folder.load().overrides
    assert (found.enabled, found.toggles) == (True, OVERRIDABLE)


def test_the_secret_is_in_no_text_and_does_not_go_down_with_the_policy(folder):
    folder.add('[overrides]\nsecret = "${ITS_SECRET}"\n')
    folder.env = {"ITS_SECRET": SECRET}
    settings = folder.load()
    assert settings.overrides.secret == SECRET
    policy = settings.policy(b"signing-key-of-32-bytes---------")
    assert SECRET not in repr(settings) + str(settings.overrides) + repr(policy)
    assert "signing-key" not in repr(policy)
    assert policy.overrides.secret == ""


def test_a_secret_that_is_no_text_is_not_repeated(folder):
    folder.add("[overrides]\nsecret = 12345678901234567\n")
    assert "1234567" not in str(folder.problems())
