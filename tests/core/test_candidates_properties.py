"""The quick reading of what a source answers finds what the careful one finds, or leaves it to that one."""

import json
import re

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from pipeline import run

from proxy.core import candidates
from proxy.core.asks import parse_ask
from proxy.core.candidates import MAX_CANDIDATES, ContractBroken, names, parse_candidates
from proxy.core.decision import Decision
from proxy.core.policy import Film
from proxy.core.popularity import Popularity

LIST = Popularity(
    Film(id=key, title=key, year=1999, genres=("War",), providers=("hbo",), score=0.5) for key in "abc"
)
DECISION = Decision(
    reason="default", policy="hybrid_default", sources=("cf", "content"), alpha=0.6, level="A", expands=True
)
ASKS = [
    parse_ask(query, b"u1", k_default=5, k_max=50)
    for query in (b"k=2", b"k=30", b"genres=war&k=4", b"providers=hbo&year_min=1999&k=9")
]


def carefully(body):
    try:
        return candidates._careful(body, None)
    except ContractBroken:
        return None


def meant(found):
    """All that is read of candidates, in their order."""
    return [
        (key, it.id, repr(it.score), it.title, it.year, names(it.genres), found.providers(key))
        for key, it in found.by_id.items()
    ]


def agree(body: bytes) -> bool:
    """Whether the quick reading dared."""
    quick, careful = candidates._quick(body), carefully(body)
    if quick is None:
        return False
    assert careful is not None
    assert meant(quick) == meant(careful)
    return True


text = st.text(max_size=4) | st.sampled_from(["War", "Ünsinn", 'a"b\\c', "\N{CLAPPER BOARD}", "\x7f", "\0"])
keys = st.sampled_from([*"abcdefghij", "é", "\N{CLAPPER BOARD}"])
spelled = st.from_regex(r"#-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?#", fullmatch=True)
values = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-9, 9, width=16) | text
odd = values | st.lists(values, max_size=3) | st.dictionaries(keys, values | st.lists(values), max_size=2)
texts = st.lists(text, max_size=3)


def mostly(strategy, once_in=30):
    return st.sampled_from(range(once_in)).flatmap(lambda drawn: strategy if drawn else odd)


items = st.fixed_dictionaries(
    {"id": keys, "score": st.floats(allow_nan=False, allow_infinity=False) | spelled},
    optional={
        "title": mostly(text | st.none()), "year": mostly(st.integers(1900, 2030) | st.none()),
        "genres": texts | odd, "providers": texts | odd, "poster": odd, "rank": odd,
    },
)  # fmt: skip
whole = st.lists(items, min_size=1, max_size=8, unique_by=lambda it: it["id"])
documents = st.fixed_dictionaries(
    {"items": mostly(whole | st.lists(mostly(items), max_size=8), 10)}, optional={"error": odd, "next": odd}
)


def written(document, *, ascii_only, spaced):
    """As JSON; numbers between `#` as they are spelled."""
    separators = (", ", ": ") if spaced else (",", ":")
    body = json.dumps(document, ensure_ascii=ascii_only, separators=separators)
    return re.sub(r'"#([-+.eE0-9]+)#"', r"\1", body).encode()


bodies = st.builds(written, documents, ascii_only=st.booleans(), spaced=st.booleans())


@st.composite
def broken_bodies(draw):
    """A piece of it taken out, doubled, or replaced."""
    body = draw(bodies)
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, min(len(body), start + draw(st.sampled_from([1, 1, 2, 8, 400])))))
    piece = draw(
        st.sampled_from([b"", body[start:end] * 2, b'"', b"\\", b",", b"}", b"]", b"0", b"-", b".", b"\n"])
        | st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xef\xbb\xbf", b"\\ud800", b"\\u00e9"])
        | st.binary(max_size=3)
    )
    return body[:start] + piece + body[end:]


@given(bodies)
def test_what_is_whole_is_read_alike(body):
    event(f"quick: {agree(body)}")


@given(broken_bodies())
def test_what_is_broken_is_read_alike(body):
    event(f"quick: {agree(body)}")


@given(bodies | broken_bodies(), bodies, bodies, st.sampled_from(ASKS))
def test_answers_are_the_same_byte_for_byte(cf, content, neighbours, ask):
    said = {"cf": cf, "content": content, "neighbours": neighbours}

    def read(body):
        try:
            return parse_candidates(body)
        except ContractBroken:
            return None

    quick = run(DECISION, ask, {kind: read(body) for kind, body in said.items()}, LIST)
    assert quick == run(DECISION, ask, {kind: carefully(body) for kind, body in said.items()}, LIST)


def test_both_readings_are_used():
    """What sources usually say is read quickly."""
    whole = {"title": "A", "year": 1, "genres": ["War"], "providers": ["hbo"], "poster": {"at": [1.5, None]}}
    usual = {"items": [{"id": "é", "score": 1, **whole}, {"id": "b", "score": 0.5, "year": None}]}
    for ascii_only in (True, False):
        assert agree(written(usual, ascii_only=ascii_only, spaced=True))
    assert not agree(b'{"items":[]}')


ONE = b'{"items":[{"id":"a","score":1%b}]}'


@pytest.mark.parametrize(
    "body",
    [
        *(ONE % more for more in (
            b',"x":"\xff"', b',"\xff":1', b',"x":"\xed\xa0\x80"', b',"x":"\xc0\x80"', b',"x":"a\nb"',
            b',"x":"\\x"', b',"x":"\\ud800"', b',"\\udc00":1', b',"x":NaN', b',"x":-Infinity', b',"x":01',
            b',"x":1.', b',"x":+1', b',"x":tru', b",", b"/*x*/", b',"x":' + b"[" * 1020 + b"]" * 1020,
            b',"x":' + b"[" * 9999 + b"]" * 9999, b',"id":7', b',"id":"b"', b',"score":"1"',
            b',"\\u0069d":"z"', b',"year":1e3', b',"year":12345678901', b',"year":-0', b',"title":5',
            b',"year":99999999999999999999999', b',"title":null', b',"genres":[1]', b',"genres":null',
            b',"genres":["a\\u00e9", "b" ]', b',"genres":[],"genres":["a"]', b',"providers":5',
            b'},{"id":"a","score":2', b'},{"id":"","score":2', b'},["b",1', b'},{"score":2',
        )),
        b'{"items":[1],"items":[{"id":"a","score":1}]}',
        b'{"items":[{"id":"a","score":1}],"items":[]}',
        b"\xef\xbb\xbf" + ONE % b"",
        ONE % b"" + b"\0",
        ONE % b"" + b"x",
        ONE % b"" + b" \r\n\t",
        b'[["a",1]]',
        b'{"items":[["a",1]]}',
        json.dumps({"items": [{"id": str(n), "score": 1} for n in range(MAX_CANDIDATES + 1)]}).encode(),
    ],
)  # fmt: skip
def test_what_is_odd_is_read_alike(body):
    agree(body)


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" + b"0" * 400])
def test_numbers_that_no_double_holds_break_the_contract_where_they_are_read(number):
    """An item's score. In what is passed over they are JSON like any other (RFC 8259 §6)."""
    assert parse_candidates(ONE % (b',"x":%b' % number)).by_id.keys() == {"a"}
    for body in (b'{"items":[{"id":"a","score":%b}]}' % number, ONE % (b',"year":%b' % number)):
        with pytest.raises(ContractBroken):
            parse_candidates(body)
