"""Recommend: the answer made of what the sources said (contract, facts 1).

Whatever the sources did, an answer holds exactly k unique items (fewer only when the catalogue holds
fewer); what they left open is filled from the popularity list, and said so.
"""

from collections.abc import Mapping, Sequence

import orjson
from msgspec import UNSET, Struct, UnsetType, structs
from msgspec.json import Encoder

from proxy.core.asks import Ask
from proxy.core.blending import Ranking, blend, ranking
from proxy.core.candidates import Candidates
from proxy.core.decision import Decision
from proxy.core.experiment import CONTROL
from proxy.core.ladder import Offered, climb, sift
from proxy.core.policy import Film
from proxy.core.popularity import NO_FILTERS, Item, Popularity, popular_item

MAX_RENDERED = 256
"""Popular answers of different length that are kept rendered."""


class Answer(Struct, frozen=True, gc=False):
    """A body in the contract's shape, and what counters and headers say about it."""

    body: bytes
    level: str
    """The lowest rung of the ladder that was needed, `D` where popularity filled; the decision's at best."""
    source: str
    """Label of the first item; "" when there is none."""
    covered: int
    """Slots filled by levels A to C (facts 2.19)."""
    returned: int
    degraded: bool
    """A source failed, or popularity had to fill."""


def first_round(
    decision: Decision,
    items: Mapping[str, Candidates | None],
    ask: Ask,
    catalogue: Mapping[str, Film],
) -> tuple[Ranking, Offered]:
    """What the sources offer, by kind, as one ranking, and what of it can be shown.

    Of control that is only what passes all filters: the ladder below is the recommender's (facts 2.8).
    """
    if decision.exposed:
        cf, content = items.get("cf"), items.get("content")
        if ask.filters is NO_FILTERS and ask.page is None:
            ranked = blend(decision.alpha, cf, content, ask.k)
            offered = sift(ranked, ask, catalogue)
            if len(offered.kept) == ask.k:
                return ranked, offered
        ranked = blend(decision.alpha, cf, content)
        return ranked, _sifted(ranked, ask, catalogue)
    ranked = ranking(CONTROL, items.get(CONTROL))
    return ranked, Offered(_sifted(ranked, ask, catalogue).kept)


def second_round(neighbours: Candidates | None, ask: Ask, catalogue: Mapping[str, Film]) -> Offered:
    """What the content source offers when asked for neighbours."""
    return _sifted(ranking("content", neighbours), ask, catalogue)


def _sifted(ranked: Ranking, ask: Ask, catalogue: Mapping[str, Film]) -> Offered:
    return sift(ranked if ask.page is None else ask.page.unseen(ranked), ask, catalogue)


def compose(
    *,
    request_id: str,
    ask: Ask,
    rounds: Sequence[Offered],
    popularity: Popularity,
    bucket: int,
    decision: Decision,
    toggles_version: int,
    failed: bool = False,
    cache: str = "bypass",
) -> Answer:
    """The answer: what the rounds of asking offer, the rest from popularity.

    `rounds` are used up. `failed`: a source that was asked did not answer as it should.
    """
    k = ask.k
    items, level = climb(k, rounds, decision.level)
    covered = len(items)
    if covered < k:
        exclude = [item.id for item in items]
        if ask.page is not None:
            exclude += ask.page.seen_of(popularity)
        films = popularity.top(k - covered, ask.filters, exclude)
        items += [popular_item(rank, film) for rank, film in enumerate(films, covered + 1)]
    source = items[0].source if items else ""
    if covered < k:
        level = "D"
    degraded = failed or covered < k
    after: str | UnsetType | None = UNSET
    if ask.page is not None:  # a page that is not full is the last one
        after = ask.page.next([item.id for item in items]) if len(items) == k else None
    metadata = _Metadata(
        k,
        len(items),
        covered / k,
        decision.arm,
        bucket,
        decision.exposed,
        decision.policy,
        decision.alpha,
        level,
        toggles_version,
        degraded,
        cache,
        after,
    )
    body = _encode(_Document(request_id, ask.user_id, k, items, metadata))
    return Answer(body, level, source, covered, len(items), degraded)


class _Metadata(Struct, gc=False):
    k_requested: int
    k_returned: int
    coverage: float
    arm: str
    bucket: int
    exposed: bool
    policy: str
    alpha: float
    level: str
    toggles_version: int
    degraded: bool
    cache: str
    next: str | UnsetType | None


class _Document(Struct, gc=False):
    request_id: str
    user_id: str
    k: int
    items: list[Item]
    metadata: _Metadata


_encode = Encoder().encode


class PopularAnswers:
    """What `compose` says without candidates, for one decision of one policy. What asks without filters
    get is rendered once for each k: all but whom it is for.
    """

    __slots__ = ("_decision", "_popularity", "_rendered", "_toggles_version", "source")

    def __init__(self, popularity: Popularity, decision: Decision, *, toggles_version: int) -> None:
        self._popularity = popularity
        self._decision = decision
        self._toggles_version = toggles_version
        self.source = "popularity" if len(popularity) else ""
        self._rendered: dict[int, tuple[Answer, bytes, bytes]] = {}

    def answer(self, ask: Ask, user: bytes, request_id: bytes, bucket: int) -> Answer:
        """`request_id` is well-formed: it needs no escapes."""
        if ask.filters != NO_FILTERS or ask.page is not None:
            return self._composed(request_id.decode("ascii"), ask, bucket)
        body = self.body(ask.k, user, request_id, bucket)
        return structs.replace(self._rendered[ask.k][0], body=body)

    def body(self, k: int, user: bytes, request_id: bytes, bucket: int) -> bytes:
        """The body of the answer to who asks for `k` without filters, ids as in `answer`."""
        _, items, labels = self._rendered.get(k) or self._render(k)
        user_id = orjson.dumps(user.decode("utf-8", "replace"))
        return b'{"request_id":"%b","user_id":%b%b%d%b' % (request_id, user_id, items, bucket, labels)

    def _composed(self, request_id: str, ask: Ask, bucket: int) -> Answer:
        return compose(
            request_id=request_id,
            ask=ask,
            rounds=(),
            popularity=self._popularity,
            bucket=bucket,
            decision=self._decision,
            toggles_version=self._toggles_version,
        )

    def _render(self, k: int) -> tuple[Answer, bytes, bytes]:
        """The answer to nobody, its body from `k` to the bucket's number, and behind that."""
        answer = self._composed("", Ask("", k, NO_FILTERS, b""), 0)
        start, end = b'{"request_id":"","user_id":""', b'"bucket":'
        items, _, labels = answer.body.removeprefix(start).rpartition(end + b"0")
        if len(self._rendered) >= MAX_RENDERED:
            self._rendered.clear()
        self._rendered[k] = rendered = answer, items + end, labels
        return rendered
