"""Shadow requests: which are copied, and how far the copy's answer agrees with the real one.

Agreement of rankings is rank-biased overlap, extrapolated (Webber, Moffat, Zobel 2010, "A similarity
measure for indefinite rankings", equation 32): 1 for the same items in the same order, 0 for none in
common, and the top counts most. With `PERSISTENCE` 0.9 the first ten ranks carry 86 % of the weight.
"""

import zlib
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import orjson

from proxy.core.experiment import hundredths
from proxy.core.routing import bucket

SALT = b"shadow"
"""Of the draw by request id: not that of exposure, nor of arms."""

PERSISTENCE = 0.9
"""How willing the reader of a ranking is to look at the next rank: p of rank-biased overlap."""

Verdict: TypeAlias = Literal["same", "other_status", "other_items", "other_body", "unreadable"]
COMPARED: tuple[Verdict, ...] = get_args(Verdict)
"""The verdicts on two answers that are both there."""


class Shown(NamedTuple):
    """An answer, as far as it is compared."""

    status: int
    body: bytes
    coding: bytes = b""
    """Its Content-Encoding, lower case."""


class Comparison(NamedTuple):
    """How two answers agree. Without items on both sides there is no overlap and no rank."""

    verdict: Verdict
    overlap: float | None = None
    """|A ∩ B| ÷ k, k the length of the longer list."""
    rank: float | None = None
    """Rank-biased overlap."""


def drawn(request_id: bytes, percent: float) -> bool:
    """Whether this request is copied: always the same answer, and raising the percentage only adds."""
    return bucket(request_id, SALT) < hundredths(percent)


def compare(real: Shown, shadow: Shown, *, limit: int) -> Comparison:
    """Status first, then items by their ids, else the bodies. `limit`: bytes that a body may unpack to."""
    if real.status != shadow.status:
        return Comparison("other_status")
    if real[1:] == shadow[1:]:
        ids = items_of(_unpacked(real, limit) or b"")
        return Comparison("same") if ids is None else Comparison("same", 1.0, 1.0)
    bodies = _unpacked(real, limit), _unpacked(shadow, limit)
    if bodies[0] is None or bodies[1] is None:
        return Comparison("unreadable")
    mine, other = items_of(bodies[0]), items_of(bodies[1])
    if mine is None or other is None:
        return Comparison("same" if bodies[0] == bodies[1] else "other_body")
    return Comparison(
        "same" if mine == other else "other_items", overlap(mine, other), rank_biased_overlap(mine, other)
    )


def items_of(body: bytes) -> list[str] | None:
    """The ids in `{"items": [{"id": …}, …]}`, each once, best first; None: the body is something else."""
    if body.lstrip()[:1] != b"{":
        return None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    items = document.get("items")
    if not isinstance(items, list):
        return None
    ids = [item.get("id") if isinstance(item, dict) else None for item in items]
    if not all(type(key) in (str, int) for key in ids):
        return None
    return list(dict.fromkeys(map(str, ids)))


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """The share of items that both have, in the longer list; of two empty ones 1."""
    k = max(len(one), len(other))
    return len(set(one) & set(other)) / k if k else 1.0


def rank_biased_overlap(one: Sequence[str], other: Sequence[str], p: float = PERSISTENCE) -> float:
    """Rank-biased overlap of two rankings without repetitions, 0…1; of two empty ones 1."""
    short, long = sorted((one, other), key=len)
    s, l = len(short), len(long)  # noqa: E741 - as the paper names them
    if not s:
        return 1.0 if not l else 0.0
    only_short: set[str] = set()
    only_long: set[str] = set()
    weight, total, shared, at_s = 1.0, 0.0, 0, 0
    for d in range(1, l + 1):
        weight *= p
        if (key := long[d - 1]) in only_short:
            shared += 1
        else:
            only_long.add(key)
        if d <= s:
            if (key := short[d - 1]) in only_long:
                shared += 1
            else:
                only_short.add(key)
            at_s = shared
        total += shared / d * weight
        if d > s:
            total += at_s * (d - s) / (s * d) * weight
    return min(1.0, total * (1 - p) / p + ((shared - at_s) / l + at_s / s) * weight)  # rounding


def _unpacked(answer: Shown, limit: int) -> bytes | None:
    """The body without its coding; None: it cannot be read, or is longer than `limit`."""
    if answer.coding in (b"", b"identity"):
        return answer.body if len(answer.body) <= limit else None
    if answer.coding not in (b"gzip", b"x-gzip", b"deflate"):
        return None
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # tells gzip from zlib by its head
    try:
        body = unpack.decompress(answer.body, limit)
    except zlib.error:
        return None
    return body if unpack.eof else None
