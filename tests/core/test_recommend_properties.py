"""What holds for every answer, whatever the sources and the user say."""

from itertools import pairwise
from math import inf

import orjson
from hypothesis import assume, given
from hypothesis import strategies as st
from saying import said

from proxy.core.asks import PROVIDERS, Ask, parse_ask
from proxy.core.blending import blend, ranking
from proxy.core.candidates import ContractBroken, names, parse_candidates
from proxy.core.decision import Decision
from proxy.core.ladder import sift
from proxy.core.policy import Film
from proxy.core.popularity import Filters, Popularity
from proxy.core.recommend import PopularAnswers, compose

IDS = st.sampled_from([f"m{n}" for n in range(25)])
GENRES = ("Drama", "Comedy", "Horror", "Ünsinn")
YEARS = st.integers(1980, 2000)
ITEM_FIELDS = {"rank", "id", "score", "source", "title", "year", "genres"}

films = st.builds(
    Film,
    id=IDS,
    title=st.text(min_size=1, max_size=8),
    year=YEARS,
    genres=st.lists(st.sampled_from(GENRES), max_size=2, unique=True).map(tuple),
    providers=st.lists(st.sampled_from(PROVIDERS), max_size=2, unique=True).map(tuple),
    score=st.floats(0, 1),
)
catalogues = st.lists(films, max_size=25).map(Popularity)
filters = st.builds(
    Filters,
    genres=st.frozensets(st.sampled_from([genre.casefold() for genre in GENRES]), max_size=2),
    providers=st.frozensets(st.sampled_from(PROVIDERS), max_size=2),
    year_min=st.none() | YEARS,
    year_max=st.none() | YEARS,
)
asks = st.fixed_dictionaries(
    {
        "user_id": st.text(max_size=5).filter(str.isprintable),
        "k": st.integers(1, 30),
        "filters": filters,
        "query": st.just(b""),
    }
).map(lambda it: Ask(**it))
scores = st.floats(allow_nan=False, allow_infinity=False)
fields = st.fixed_dictionaries(
    {},
    optional={
        "title": st.text(max_size=3) | st.integers() | st.none(),
        "year": YEARS | st.text(max_size=2) | st.booleans(),
        "genres": st.lists(st.sampled_from(GENRES), max_size=2)
        | st.lists(st.integers(), max_size=1)
        | st.none(),
        "providers": st.lists(st.sampled_from(PROVIDERS), max_size=2) | st.just("netflix"),
    },
)
rows = st.lists(st.tuples(IDS, scores, fields), max_size=20, unique_by=lambda item: item[0])
sources = st.none() | rows.map(said)
alphas = st.floats(0, 1)
decisions = st.builds(
    Decision,
    reason=st.just("policy_mode"),
    policy=st.sampled_from(["kill_switch", "control", "popularity", "bucket_gate"]),
    alpha=alphas,
    level=st.sampled_from("ABCD"),
    arm=st.sampled_from(["none", "control", "treatment_a"]),
    exposed=st.booleans(),
)


@given(asks, catalogues, sources, sources, sources, alphas, st.sampled_from("ABC"))
def test_an_answer_holds_exactly_k_unique_complete_items(
    ask, popularity, cf, content, neighbours, alpha, ceiling
):
    rounds = [blend(alpha, cf, content), ranking("content", neighbours)]
    answer = compose(
        request_id="r",
        ask=ask,
        rounds=[sift(ranked, ask, popularity.catalogue) for ranked in rounds],
        popularity=popularity,
        bucket=1,
        decision=Decision(reason="default", policy="hybrid_default", alpha=alpha, level=ceiling),
        toggles_version=1,
    )
    document = orjson.loads(answer.body)
    items, metadata = document["items"], document["metadata"]
    ids = [item["id"] for item in items]
    assert len(set(ids)) == len(ids) <= ask.k
    if len(ids) < ask.k:  # then nothing that could be shown was left
        assert set(popularity.catalogue) <= set(ids)
    assert [item["rank"] for item in items] == list(range(1, len(items) + 1))
    for item in items:
        assert item.keys() == ITEM_FIELDS
        assert type(item["title"]) is str
        assert type(item["year"]) is int
        assert all(type(genre) is str for genre in item["genres"])
        assert item["source"] in {"hybrid", "cf", "content", "pruned", "popularity"}
    covered = sum(item["source"] != "popularity" for item in items)
    assert covered == answer.covered
    assert metadata["coverage"] == covered / ask.k
    assert metadata["k_returned"] == answer.returned == len(items)
    assert metadata["level"] == answer.level
    assert (answer.level == "D") is (covered < ask.k)
    assert answer.level >= ceiling
    assert metadata["degraded"] is answer.degraded is (covered < ask.k)
    scored = [item["score"] for item in items[:covered]]
    assert scored == sorted(scored, reverse=True)
    assert items[:covered] == climbed(ask, popularity, rounds)


def climbed(ask, popularity, rounds):
    """A plain reading of the ladder's table: for each rung, who needs just that much relaxed."""
    low, high = ask.filters.year_min, ask.filters.year_max

    def meets(wanted, names):
        return not wanted or any(name.casefold() in wanted for name in names)

    def needs(key, offered):
        film = popularity.catalogue.get(key)
        found = [it.by_id[key] for it in offered]
        tellers = [(it.title, it.year, names(it.genres)) for it in found]
        tellers += [] if film is None else [(film.title, film.year, list(film.genres))]
        whole = [it for it in tellers if None not in it]
        if not whole:
            return 9, None
        title, year, genres = whole[0]
        providers = [it.providers(key) for it in offered] + ([] if film is None else [film.providers])
        providers = next((it for it in providers if it is not None), None)
        shown = {"id": key, "title": title, "year": year, "genres": genres}
        if providers is not None and not meets(ask.filters.providers, providers):
            return 9, None
        if not meets(ask.filters.genres, genres):
            return 2, shown
        return int((low is not None and year < low) or (high is not None and year > high)), shown

    items = []
    for turn, relaxed in ((0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)):
        above = items[-1]["score"] if items else 1.0
        one, other = rounds[turn].one, rounds[turn].other
        for minus, key, _, source in rounds[turn].rows:
            need, shown = needs(key, [it for it in (one, other) if key in it.by_id])
            if need == relaxed and len(items) < ask.k and key not in {item["id"] for item in items}:
                label = "pruned" if relaxed else source
                items.append(
                    {"rank": len(items) + 1, "score": (0.0 - minus) * above, "source": label} | shown
                )
    return items


@given(sources, sources, alphas)
def test_a_blend_ranks_every_item_once_with_scores_from_0_to_1(cf, content, alpha):
    ranked = blend(alpha, cf, content)
    assert sorted(ranked.ids()) == sorted(
        {key for source in (cf, content) if source is not None for key in source.by_id}
    )
    assert all(0 <= -minus <= 1 for minus, *_ in ranked.rows)
    assert [row[:2] for row in ranked.rows] == sorted(row[:2] for row in ranked.rows)


@given(rows, rows, alphas)
def test_a_blend_is_the_sum_of_both_levels_by_their_weights(cf, content, alpha):
    """Facts 2.1 read plainly, whatever order sources give their items in."""

    def levels(found):
        low, high = min(score for _, score, _ in found), max(score for _, score, _ in found)
        assume(0 < high - low < inf)
        return {key: (score - low) / (high - low) for key, score, _ in found}

    assume(cf and content)
    ours, theirs = levels(cf), levels(content)
    assert {key: -minus for minus, key, _, _ in blend(alpha, said(cf), said(content)).rows} == {
        key: ours.get(key, 0.0) * alpha + theirs.get(key, 0.0) * (1 - alpha) for key in ours | theirs
    }


@given(sources, sources, alphas | st.sampled_from([0.0, 1.0, 1e-9]), st.integers(1, 12))
def test_the_best_are_the_same_where_no_more_are_wanted(cf, content, alpha, most):
    every, best = blend(alpha, cf, content), blend(alpha, cf, content, most)
    assert best.ids()[:most] == every.ids()[:most]
    assert {row[:2] for row in best.rows} <= {row[:2] for row in every.rows}


@given(sources, alphas)
def test_a_source_that_is_gone_leaves_the_other_s_order(source, alpha):
    ranked = blend(alpha, source, None)
    # scores closer than a double can tell after stretching may tie
    assert all(
        source.by_id[a].score >= source.by_id[b].score or x == y
        for (x, a, *_), (y, b, *_) in pairwise(ranked.rows)
    )


@given(
    st.binary(max_size=12) | st.text(max_size=6).map(str.encode),
    st.from_regex(r"[A-Za-z0-9._:/+=@~-]{1,128}", fullmatch=True),
    st.integers(0, 9999),
    catalogues,
    st.sampled_from([b"", b"k=3", b"user_id=x&k=30", b"k=5&lang=de", b"k=9&genres=drama&year_min=1990"]),
    decisions,
)
def test_the_rendered_answer_is_the_composed_one(user, request_id, bucket, popularity, query, decision):
    """Byte for byte, for whatever calls itself a user: the user is escaped and the rest is the same."""
    bounds = {"k_default": 7, "k_max": 50}
    labels = {"popularity": popularity, "decision": decision, "toggles_version": 2}
    answers = PopularAnswers(**labels)
    ask = parse_ask(query, user, **bounds)
    for _ in range(2):  # rendered, then remembered
        assert answers.answer(ask, user, request_id.encode(), bucket) == compose(
            **labels, request_id=request_id, ask=ask, rounds=(), bucket=bucket
        )


@given(catalogues, filters, st.integers(1, 30), st.frozensets(IDS, max_size=5))
def test_the_ladder_agrees_with_a_plain_reading_of_its_rungs(popularity, filters, k, exclude):
    def year(film: Film) -> bool:
        low, high = filters.year_min, filters.year_max
        return (low is None or film.year >= low) and (high is None or film.year <= high)

    def genre(film: Film) -> bool:
        return not filters.genres or any(name.casefold() in filters.genres for name in film.genres)

    def provider(film: Film) -> bool:
        return not filters.providers or any(name in filters.providers for name in film.providers)

    def rung(film: Film) -> int:
        return 3 if not provider(film) else 2 if not genre(film) else 1 if not year(film) else 0

    left = [film for film in popularity.catalogue.values() if film.id not in exclude]
    assert popularity.top(k, filters, exclude) == sorted(left, key=rung)[:k]


FRAME = (
    b'{"request_id":%b,"user_id":%b,"k":%d,"items":%b,"metadata":{"k_requested":%d,"k_returned":%d,'
    b'"coverage":%a,"arm":"%b","bucket":%d,"exposed":%b,"policy":"%b","alpha":%a,"level":"%b",'
    b'"toggles_version":%d,"degraded":%b,"cache":"bypass"}}'
)


@given(asks, catalogues, sources, sources, decisions, st.booleans(), st.text(max_size=5))
def test_the_document_is_the_frame_of_the_contract(
    ask, popularity, cf, content, decision, failed, request_id
):
    """The frame written out, field by field, in its order."""
    answer = compose(
        request_id=request_id,
        ask=ask,
        rounds=[sift(blend(decision.alpha, cf, content), ask, popularity.catalogue)],
        popularity=popularity,
        bucket=9999,
        decision=decision,
        toggles_version=7,
        failed=failed,
    )
    items = orjson.loads(answer.body)["items"]
    assert answer.source == (items[0]["source"] if items else "")
    assert orjson.loads(answer.body) == orjson.loads(
        FRAME
        % (
            *(orjson.dumps(request_id), orjson.dumps(ask.user_id), ask.k, orjson.dumps(items)),
            *(ask.k, answer.returned, answer.covered / ask.k, decision.arm.encode(), 9999),
            *(b"true" if decision.exposed else b"false", decision.policy.encode(), decision.alpha),
            *(answer.level.encode(), 7, b"true" if answer.degraded else b"false"),
        )
    )


json = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-9, 9)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["items", "id", "score", "error"]), inner, max_size=3)
    ),
)


@given(st.binary(max_size=20) | json.map(orjson.dumps))
def test_candidates_are_read_or_the_contract_is_broken_and_nothing_else(body):
    try:
        found = parse_candidates(body)
    except ContractBroken:
        return
    assert all(
        type(key) is str and key == it.id and type(it.score) is float for key, it in found.by_id.items()
    )
    assert "" not in found.by_id
