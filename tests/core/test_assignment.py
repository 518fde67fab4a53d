"""Who is in which bucket and arm: as published, evenly, independently, and the same everywhere for ever."""

import os
import subprocess
import sys
from collections import Counter
from itertools import combinations, pairwise

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import routing
from proxy.core.decide import Decider
from proxy.core.experiment import Arm, Experiment
from proxy.core.identity import Who
from proxy.core.policy import Route, Sources
from proxy.core.routing import BUCKETS, SALT, bucket
from proxy.core.scopes import Scopes
from proxy.core.shadow import SALT as SHADOW
from proxy.core.toggles import Toggles

FOX = b"The quick brown fox jumps over the lazy dog"
ROUTE = Route(name="films", path="/f", kind="recommend", sources=Sources(cf="a", content="b", control="c"))
HYBRID = Experiment(name="hybrid_v1")
SALTS = {"exposure": SALT, "arms": HYBRID.salted, "shadow": SHADOW}
LEAST, MOST = 54.9, 160.2  # the 0.01 % and 99.99 % points of χ² with 99 degrees of freedom
SAMPLES = {
    "numbers": [b"%d" % n for n in range(50_000)],
    "padded": [b"user-%08d" % n for n in range(50_000)],
    "addresses": [b"ann.%d@example.org" % n for n in range(50_000)],
    "identifiers": [b"%08x-0000-4000-8000-%012x" % (n, n * n) for n in range(50_000)],
    "long": [b"a rather long name of somebody, " * 4 + b"%d" % n for n in range(50_000)],
}
# What two of our salts make of a few users. Whoever changes one of these moves every user.
PINNED = {
    b"": (2_504, 2_658), b"1": (2_936, 9_888), b"2": (4_039, 273), b"42": (2_735, 6_979),
    b"ann": (6_742, 2_839), b"user-00000001": (7_232, 2_694), b"\xc3\xa9ric": (6_342, 3_035),
}  # fmt: skip


def decided(user, **toggles):
    made = Toggles(**toggles)
    decider = Decider(ROUTE, made, HYBRID, Scopes(made.scope, made.rules))
    return decider.decide(Who(user, b"", b"", b""), user, bucket(user, SALT))


class TestHash:
    @pytest.mark.parametrize(
        ("data", "seed", "digest"),
        [
            # Wikipedia, MurmurHash
            (b"", 0, 0), (b"", 1, 0x514E28B7), (b"", 0xFFFFFFFF, 0x81F16F39), (b"test", 0, 0xBA6BD213),
            (b"test", 0x9747B28C, 0x704B81DC), (b"Hello, world!", 0, 0xC0363E43),
            (b"Hello, world!", 0x9747B28C, 0x24884CBA), (FOX, 0, 0x2E4FF723), (FOX, 0x9747B28C, 0x2FA826CD),
            # the vectors that most implementations carry: signs, lengths of 1 to 4, zeros
            (b"\xff\xff\xff\xff", 0, 0x76293B50), (b"\x21\x43\x65\x87", 0, 0xF55B516B),
            (b"\x21\x43\x65\x87", 0x5082EDEE, 0x2362F9DE), (b"\x21\x43\x65", 0, 0x7E4A8634),
            (b"\x21\x43", 0, 0xA0F7B07A), (b"\x21", 0, 0x72661CF4), (b"\0\0\0\0", 0, 0x2362F9DE),
            (b"\0\0\0", 0, 0x85F0B427), (b"\0\0", 0, 0x30F4C306), (b"\0", 0, 0x514E28B7),
        ],
    )  # fmt: skip
    def test_vectors_with_seeds(self, data, seed, digest):
        assert mmh3.mmh3_32_uintdigest(data, seed) == digest

    def test_the_value_by_which_smhasher_verifies_an_implementation(self):
        """All lengths from 0 to 255, each with a seed of its own, hashed together."""
        digests = b"".join(
            mmh3.mmh3_32_uintdigest(bytes(range(n)), 256 - n).to_bytes(4, "little") for n in range(256)
        )
        assert mmh3.mmh3_32_uintdigest(digests) == 0xB0F57EE3


class TestMapping:
    @pytest.mark.parametrize("number", [1, 2, 3, 1_233, 4_999, 5_000, 9_998, 9_999])
    def test_a_bucket_begins_where_its_share_of_all_hashes_does(self, number, monkeypatch):
        first = -(-number * 2**32 // BUCKETS)
        for digest, expected in ((first, number), (first - 1, number - 1), (0, 0), (2**32 - 1, 9_999)):
            monkeypatch.setattr(routing, "mmh3_32_uintdigest", lambda _, digest=digest: digest)
            assert bucket(b"any", b"salt") == expected

    def test_all_buckets_are_as_large_as_whole_numbers_allow(self):
        starts = [-(-number * 2**32 // BUCKETS) for number in range(BUCKETS + 1)]
        assert set(Counter(b - a for a, b in pairwise(starts))) == {429_496, 429_497}

    @pytest.mark.parametrize("user", PINNED)
    def test_nobody_has_moved(self, user):
        assert (bucket(user, SALT), bucket(user, b"hybrid_v1")) == PINNED[user]


class TestEvenness:
    """χ² of fixed samples: deterministic, and neither unevenness nor suspicious evenness passes."""

    @pytest.mark.parametrize("salt", SALTS)
    @pytest.mark.parametrize("sample", SAMPLES)
    def test_users_of_any_kind_are_spread_evenly(self, sample, salt):
        """Over 100 groups of 1 %: 99 degrees of freedom."""
        users = SAMPLES[sample]
        found = Counter(bucket(user, SALTS[salt]) // 100 for user in users)
        mean = len(users) / 100
        squares = sum((found[group] - mean) ** 2 / mean for group in range(100))
        assert LEAST < squares < MOST

    @pytest.mark.parametrize("pair", list(combinations(SALTS, 2)), ids="-".join)
    @pytest.mark.parametrize("sample", SAMPLES)
    def test_the_draws_do_not_know_of_each_other(self, sample, pair):
        """10 by 10 groups: 99 degrees of freedom again, the margins being known."""
        users = SAMPLES[sample]
        one, other = (SALTS[name] for name in pair)
        found = Counter((bucket(user, one) // 1_000, bucket(user, other) // 1_000) for user in users)
        mean = len(users) / 100
        squares = sum((found[a, b] - mean) ** 2 / mean for a in range(10) for b in range(10))
        assert LEAST < squares < MOST

    def test_a_salt_that_differs_in_one_letter_draws_anew(self):
        users = SAMPLES["padded"][:10_000]
        same = sum(bucket(user, b"exp-1") // 100 == bucket(user, b"exp-2") // 100 for user in users)
        assert 60 < same < 140


class TestStickiness:
    @given(st.binary(min_size=1, max_size=12), st.integers(1, 10_000), st.integers(1, 10_000))
    def test_more_exposure_changes_nobodys_arm(self, user, one, other):
        low, high = sorted((one, other))
        before = decided(user, exposure_percent=low / 100)
        if before.exposed:
            assert decided(user, exposure_percent=high / 100) == before

    @given(st.binary(min_size=1, max_size=12), st.integers(0, 100), st.integers(0, 100))
    def test_an_arm_that_grows_at_the_end_of_its_range_keeps_its_users(self, user, one, other):
        low, high = sorted((one, other))

        def treated(percent):
            arms = (Arm(name="t", percent=percent, policy_mode="collab_only"),
                    Arm(name="c", percent=100 - percent, policy_mode="content_only"))  # fmt: skip
            made = Decider(ROUTE, Toggles(), Experiment(name="x", arms=arms), Scopes(Toggles().scope, ()))
            return made.decide(Who(user, b"", b"", b""), user, bucket(user, SALT)).arm == "t"

        assert treated(low) <= treated(high)

    def test_every_process_decides_the_same(self):
        """Another process, whose own hashes have another seed."""
        users = [b"user-%d" % n for n in range(300)]
        here = [
            (it.arm, it.exposed, it.policy) for it in (decided(user, exposure_percent=60) for user in users)
        ]
        code = (
            "import sys; sys.path[:0] = ['tests/core']; from test_assignment import decided; "
            "found = (decided(b'user-%d' % n, exposure_percent=60) for n in range(300)); "
            "print([(it.arm, it.exposed, it.policy) for it in found])"
        )
        for seed in ("1", "2"):
            there = subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60,
                env=os.environ | {"PYTHONHASHSEED": seed},
            )  # fmt: skip
            assert there.stdout.strip() == repr(here)
