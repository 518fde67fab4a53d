"""Pages of an answer, whatever the sources do between them."""

from dataclasses import replace

import orjson
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from test_recommend_properties import alphas, asks, catalogues, sources

from proxy.core.decision import NOTHING_LAID, Decision
from proxy.core.paging import Asked, first, opened, paged
from proxy.core.recommend import compose, first_round, second_round

KEY = b"k" * 32
NOW = 1_800_000_000
DECISION = Decision(
    reason="experiment", policy="bucket_gate", sources=("cf", "content"), level="A", arm="treatment_a"
)
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6)
OFFERS = st.tuples(sources, sources, sources)
SIZED = SIZES.flatmap(lambda it: st.tuples(st.just(it), st.tuples(*[OFFERS] * len(it))))


def composed(ask, popularity, offers, alpha):
    """One answer, made of what cf, content and its neighbours offer."""
    cf, content, neighbours = offers
    decision = replace(DECISION, alpha=alpha)
    _, offered = first_round(decision, {"cf": cf, "content": content}, ask, popularity.catalogue)
    answer = compose(
        request_id="r",
        ask=ask,
        rounds=[offered, second_round(neighbours, ask, popularity.catalogue)],
        popularity=popularity,
        bucket=0,
        decision=decision,
        toggles_version=1,
    )
    document = orjson.loads(answer.body)
    return [item["id"] for item in document["items"]], document["metadata"]


def turn(ask, popularity, sizes, offers, alpha):
    """The ids of each page; `offers` are those of each page."""
    asked = Asked(b"ann", ask.filters, "films", NOTHING_LAID)
    page = first(asked, DECISION, KEY, 8_000, NOW)
    pages = []
    for k, offered in zip(sizes, offers, strict=True):
        ids, metadata = composed(paged(structs.replace(ask, k=k), page), popularity, offered, alpha)
        pages.append(ids)
        assert (metadata["next"] is not None) == (len(ids) == k)
        if metadata["next"] is None:
            break
        page = opened(metadata["next"].encode(), asked, KEY, 8_000, NOW)
    return pages


@given(asks, catalogues, SIZED, alphas)
def test_no_item_comes_twice_whatever_the_sources_say_meanwhile(ask, popularity, sized, alpha):
    sizes, offers = sized
    pages = turn(ask, popularity, sizes, offers, alpha)
    shown = [key for page in pages for key in page]
    assert len(shown) == len(set(shown))
    assert all(len(page) == k for page, k in zip(pages[:-1], sizes, strict=False))
    if len(pages[-1]) < sizes[len(pages) - 1]:
        assert set(popularity.catalogue) <= set(shown)  # only then an answer may be short


@given(asks, catalogues, SIZES, OFFERS, alphas)
def test_without_changes_pages_are_one_long_answer_cut_in_pieces(ask, popularity, sizes, offered, alpha):
    pages = turn(ask, popularity, sizes, [offered] * len(sizes), alpha)
    shown = [key for page in pages for key in page]
    whole, _ = composed(structs.replace(ask, k=sum(sizes)), popularity, offered, alpha)
    assert shown == whole[: len(shown)]
    if len(pages) == len(sizes):
        assert shown == whole
