"""The audit entry: one canonical form, a spooled form that comes back, columns that can be derived."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.audit import PRIVATE, Entry, Outcome, canonical, document, parse, row, spooled
from proxy.core.merkle import leaf_hash

AT = "2026-01-02T03:04:05.000006Z"
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
mappings = st.none() | st.dictionaries(texts, scalars, max_size=3)
entries = st.builds(
    Entry,
    action=texts.filter(bool),
    outcome=st.sampled_from(Outcome),
    at=st.just(AT),
    actor=texts,
    role=texts,
    subject=texts.filter(bool),
    target=texts,
    before=mappings,
    after=mappings,
    reason=texts,
    address=texts,
    request_id=texts,
    instance=texts,
    status=st.integers(0, 599),
    sample=st.floats(0.001, 1),
    of=st.none() | st.integers(0, 10**9),
    private=st.lists(st.sampled_from(PRIVATE), unique=True).map(tuple),
)


@given(entries)
def test_an_entry_comes_back_from_the_spool(entry):
    """Nothing is lost on the way."""
    assert parse(spooled(entry)) == entry


@given(entries, st.integers(0, 10**9))
def test_a_row_is_derived_from_the_canonical_bytes(entry, seq):
    """Whatever was written, `row` reads it, and its columns say what the entry says."""
    data = document(entry, seq)
    kept = row(data)
    assert kept.seq == seq
    assert kept.leaf == leaf_hash(data)
    assert kept.action == entry.action.replace("\0", "\ufffd")
    assert orjson.loads(data)["action"] == entry.action


@given(entries)
def test_what_is_private_is_not_in_a_sealed_document(entry):
    """The fields are left out, the box stands for them."""
    values = orjson.loads(document(entry, 1, key_id="k", box="b"))
    assert not set(values) & set(entry.private)
    assert values["sealed"] == {"key": "k", "box": "b"}


def test_the_canonical_form_is_fixed():
    """A change of this form would make every kept checkpoint worthless."""
    entry = Entry(
        action="kill.on", outcome=Outcome.ACCEPTED, at=AT, actor="ö", after={"b": 1.5, "a": None}, of=3
    )
    assert document(entry, 7).decode() == (
        '{"action":"kill.on","actor":"ö","after":{"a":null,"b":1.5},"at":"2026-01-02T03:04:05.000006Z",'
        '"of":3,"outcome":"accepted","seq":7}'
    )


def test_columns_are_cut_and_hold_no_nul():
    """PostgreSQL takes no NUL, and indexes have limits."""
    kept = row(document(Entry(action="a", outcome=Outcome.DONE, at=AT, actor="x\0" * 500), 0))
    assert kept.actor == "x\ufffd" * 128


def test_what_json_cannot_hold_is_replaced():
    """Half a surrogate pair from a command line, an integer without end: recorded, not refused."""
    entry = Entry(action="a", outcome=Outcome.DONE, at=AT, reason="\udcff", after={"n": 2**70, "\udc00": "x"})
    values = orjson.loads(document(entry, 0))
    assert values["reason"] == "?"
    assert values["after"] == {"n": str(2**70), "?": "x"}
    assert parse(spooled(entry)).reason == "?"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"action": ""}, "action"),
        ({"at": "2026-01-02T03:04:05Z"}, "rfc3339"),
        ({"private": ("actor",)}, "subject"),
        ({"subject": "s", "private": ("status",)}, "status"),
    ],
)
def test_entries_that_make_no_sense_are_refused(fields, why):
    """Where they are made, so that who wrote the line sees it."""
    with pytest.raises(ValueError, match=why):
        Entry(**{"action": "a", "outcome": Outcome.DONE, "at": AT} | fields)


LEAST = {"action": "a", "outcome": "done", "at": AT}


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"nonsense", b"\xff", b'{"action":"a"}'])
def test_what_is_no_entry_does_not_come_out_of_the_spool(data):
    """A ValueError, whatever it is."""
    with pytest.raises(ValueError):  # noqa: PT011 - any
        parse(data)


@pytest.mark.parametrize(
    "fields",
    [{"at": "t"}, {"outcome": "x"}, {"action": 1}, {"more": 1}, {"after": {"a": []}}, {"of": True},
     {"at": None}, {"private": ["actor"]}, {"private": "actor"}, {"status": "200"}, {"sample": None}],
)  # fmt: skip
def test_fields_that_do_not_fit_do_not_come_out_of_the_spool(fields):
    """Nor those that nobody knows."""
    assert parse(canonical(LEAST)).action == "a"
    with pytest.raises(ValueError):  # noqa: PT011 - any
        parse(canonical(LEAST | fields))


@pytest.mark.parametrize(
    "data",
    [b"[]", b"{}", b"x", b'{"seq":1}', b'{ "seq":1}', canonical({"seq": 1, "at": 1}),
     canonical(dict.fromkeys(("action", "at", "outcome"), "x") | {"seq": True}),
     canonical(dict.fromkeys(("action", "at", "outcome"), "x") | {"seq": 1, "sealed": "x"}),
     canonical(dict.fromkeys(("action", "at", "outcome"), "x") | {"seq": 1, "sealed": {"key": 1}}),
     canonical(dict.fromkeys(("action", "outcome"), "x") | {"seq": 1, "at": []})],
)  # fmt: skip
def test_only_canonical_entries_are_rows(data):
    """Anything else is a ValueError, whatever it is."""
    with pytest.raises(ValueError):  # noqa: PT011 - any
        row(data)
