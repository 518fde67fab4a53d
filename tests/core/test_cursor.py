"""Cursors: what they hold, whom they are for, how long they count."""

from base64 import urlsafe_b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.decision import Decision, Laid, ServingMode
from proxy.core.override import Override, sign
from proxy.core.paging import LIFE_S, MAX_SHOWN, Asked, digest, first, opened
from proxy.core.popularity import Filters
from proxy.errors import Refusal

KEY = b"k" * 32
NOW = 1_800_000_000
ROOM = 8_192
ASKED = Asked(b"ann", Filters(frozenset({"drama", "war"}), frozenset(), 1990, None), "films", Laid())
HYBRID = Decision(
    reason="experiment",
    policy="bucket_gate",
    sources=("cf", "content"),
    alpha=0.4,
    level="A",
    arm="treatment_a",
)
MODES = st.builds(
    ServingMode,
    st.booleans(),
    st.text("abc_.-1", min_size=1, max_size=64),
    st.sampled_from(["bucket_gate", "content_only", "collab_only", "hybrid_default", "control", "popularity",
                     "kill_switch"]),
    st.floats(0, 1),
    st.sampled_from("ABCD"),
    st.booleans(),
)  # fmt: skip
IDS = st.lists(st.text(min_size=1), max_size=60, unique=True)


def cursor(ids=("a", "b"), *, asked=ASKED, key=KEY, now=NOW, decision=HYBRID):
    return first(asked, decision, key, ROOM, now).next(ids).encode()


def refusal(value, *, asked=ASKED, key=KEY, now=NOW):
    with pytest.raises(Refusal) as caught:
        opened(value, asked, key, ROOM, now)
    assert (caught.value.code, caught.value.status) == ("bad_request", 400)
    assert caught.value.detail.startswith("cursor ")
    return caught.value.detail


@given(MODES, IDS, IDS)
def test_mode_and_what_was_shown_come_back(mode, one, other):
    decision = Decision(reason="", **mode._asdict())
    page = opened(cursor(one, decision=decision), ASKED, KEY, ROOM, NOW)
    assert page.begun.mode == mode
    assert set(page.shown) == {digest(key) for key in one}
    page = opened(page.next(other).encode(), ASKED, KEY, ROOM, NOW + 60)
    assert page.begun.mode == mode
    assert set(page.shown) == {digest(key) for key in (*one, *other)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"user": b"bob"}, "another user"),
        ({"user": b""}, "another user"),
        ({"filters": Filters(frozenset({"drama"}), frozenset(), 1990, None)}, "set of filters"),
        (
            {"filters": Filters(frozenset({"drama", "war"}), frozenset(), 1990, 2000)},
            "another set of filters",
        ),
        ({"route": "shows"}, "another path"),
        ({"laid": Laid((("disable_cf", True),), "override")}, "another X-Fusebox-Override"),
        ({"laid": Laid((), "override")}, "another X-Fusebox-Override"),
        ({"user": b"bob", "filters": Filters()}, "another user and set of filters"),
    ],
)
def test_it_counts_for_the_same_user_filters_and_path(change, named):
    assert named in refusal(cursor(), asked=ASKED._replace(**change))
    assert named in refusal(cursor(asked=ASKED._replace(**change)))


def test_the_order_of_names_in_a_filter_makes_no_difference():
    same = ASKED._replace(filters=ASKED.filters._replace(genres=frozenset(["war", "drama"])))
    assert opened(cursor(), same, KEY, ROOM, NOW).shown


@pytest.mark.parametrize(
    ("now", "counts"),
    [(NOW, True), (NOW + LIFE_S, True), (NOW - 4, True), (NOW + LIFE_S + 1, False), (NOW - 60, False)],
)
def test_it_counts_for_an_hour_from_the_first_page(now, counts):
    if counts:
        again = opened(cursor(), ASKED, KEY, ROOM, now).next(["c"])
        assert "expired" in refusal(again.encode(), now=NOW + LIFE_S + 1)
    else:
        assert "has expired" in refusal(cursor(), now=now)


@pytest.mark.parametrize("value", [b"x", b"!", "ü".encode(), cursor()[:-1], cursor() + b"A", b"A" * 9_000,
                                   cursor(key=b"o" * 32), b"0" * 200])  # fmt: skip
def test_what_was_not_signed_here_is_refused(value):
    refusal(value)


def test_an_override_is_no_cursor_nor_the_other_way_round():
    token = sign(KEY, Override("o", "ann", NOW, NOW + 60, ())).encode()
    assert "signature" in refusal(token)


def test_without_a_key_there_is_no_further_page():
    assert first(ASKED, HYBRID, b"", ROOM, NOW).next(["a"]) is None
    assert "no signing key" in refusal(cursor(), key=b"")


def test_pages_end_at_their_number_of_items_and_at_the_room_of_a_target():
    ids = [f"film-{number}" for number in range(MAX_SHOWN + 1)]
    assert first(ASKED, HYBRID, KEY, ROOM, NOW).next(ids) is None
    longest = first(ASKED, HYBRID, KEY, ROOM, NOW).next(ids[:MAX_SHOWN])
    assert len(longest) < 6_000
    assert len(opened(longest.encode(), ASKED, KEY, ROOM, NOW).shown) == MAX_SHOWN
    assert first(ASKED, HYBRID, KEY, len(longest) - 1, NOW).next(ids[:MAX_SHOWN]) is None


def test_it_names_nobody():
    """It is opaque: neither the user nor what was shown can be read in it."""
    held = cursor(["film-1"]) + b"=="
    assert not {it for it in (b"ann", b"film") if it in urlsafe_b64decode(held[: len(held) // 4 * 4])}
