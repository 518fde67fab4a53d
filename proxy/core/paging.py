"""Pages of one long answer: what was shown is not shown again, and the serving mode stays (`cursor`).

A cursor is opaque to its holder and signed by us. It holds the serving mode in which the first page was
decided, and 32 bits of each id that was shown: so nothing is kept between pages, any instance with the key
serves the next one, and whatever fails in between, no item comes twice. Two ids may share their 32 bits; then
one of them is never shown, which of a thousand happens once in several thousand answers.
"""

import re
import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple, get_args

from msgspec import structs

from proxy.core.asks import Ask
from proxy.core.blending import Ranking
from proxy.core.decision import KILLED, NOTHING_LAID, POPULARITY, Decision, Laid, ServingMode
from proxy.core.experiment import CONTROL
from proxy.core.popularity import Filters, Popularity, digest
from proxy.core.signing import BadToken, Kind
from proxy.core.toggles import Level, Mode
from proxy.errors import Refusal

MAX_SHOWN = 1_000
"""Items on all pages together."""

LIFE_S = 3_600
"""From the first page; the mode of an hour ago is old enough."""

_SKEW_S = 5
_CURSOR = Kind(b"cursor", version=1, most=6_144)  # a new version too when modes or levels change
_K = re.compile(rb"&k=[0-9]+")
_MARK = 6
_HEAD = struct.Struct(f">I{_MARK}s{_MARK}s{_MARK}s{_MARK}sBBdB")
_LEVELS: tuple[Level, ...] = get_args(Level)
_POLICIES = (*get_args(Mode), CONTROL, POPULARITY, KILLED.policy)


class Begun(NamedTuple):
    """What the pages of one answer have in common."""

    at: int  # wall clock, seconds
    user: bytes  # marks: the same again give the same
    filters: bytes
    route: bytes
    laid: bytes
    mode: ServingMode


class Page(NamedTuple):
    """One page: what it must not show, and what the cursor behind it will say."""

    begun: Begun
    shown: tuple[int, ...]  # digests of ids
    key: bytes  # signs; empty: there is no further page
    room: int  # characters that the next cursor may have

    def unseen(self, ranked: Ranking) -> Ranking:
        """What may be shown."""
        seen = frozenset(self.shown)
        rows = [row for row in ranked.rows if digest(row[1]) not in seen]
        return Ranking(rows, ranked.one, ranked.other)

    def seen_of(self, popularity: Popularity) -> list[str]:
        """The ids in the list that may not be."""
        by_digest = popularity.by_digest
        return [key for each in self.shown if each in by_digest for key in by_digest[each]]

    def next(self, ids: Sequence[str]) -> str | None:
        """The cursor behind a page with these items; None: no further page."""
        shown = (*self.shown, *map(digest, ids))
        if not self.key or len(shown) > MAX_SHOWN:
            return None
        at, user, filters, route, laid, mode = self.begun
        arm = mode.arm.encode()
        head = _HEAD.pack(
            at,
            user,
            filters,
            route,
            laid,
            mode.expands << 3 | mode.exposed << 2 | _LEVELS.index(mode.level),
            _POLICIES.index(mode.policy),
            mode.alpha,
            len(arm),
        )
        cursor = _CURSOR.sign(self.key, head + arm + struct.pack(f">{len(shown)}I", *shown))
        return cursor if len(cursor) <= self.room else None


class Asked(NamedTuple):
    """For whom and for what a page is asked: all that has to stay the same."""

    user: bytes
    filters: Filters
    route: str
    laid: Laid | None  # None: it makes no difference now

    def marks(self) -> tuple[bytes, bytes, bytes, bytes]:
        genres, providers, *years = self.filters
        filters = repr((sorted(genres), sorted(providers), years))
        laid = repr((self.laid or NOTHING_LAID)[:2]).encode()
        return _mark(self.user), _mark(filters.encode()), _mark(self.route.encode()), _mark(laid)


def first(asked: Asked, decision: Decision, key: bytes, room: int, now: float) -> Page:
    """The first page of an answer that is decided so; `now` is wall clock."""
    return Page(Begun(int(now), *asked.marks(), ServingMode.of(decision)), (), key, room)


def opened(cursor: bytes, asked: Asked, key: bytes, room: int, now: float) -> Page:
    """The page that a cursor leads to. Raises `Refusal` (400) that says why there is none."""
    if not key:
        raise _refused("cannot be read: there is no signing key here")
    try:
        begun, shown = _read(_CURSOR.open(key, cursor))
    except BadToken as error:
        raise _refused(str(error)) from None
    if not begun.at - _SKEW_S <= now <= begun.at + LIFE_S:
        raise _refused("has expired; begin again with an empty one")
    names = ("user", "set of filters", "path", "X-Fusebox-Override")[: 3 if asked.laid is None else 4]
    same = zip(names, (begun.user, begun.filters, begun.route, begun.laid), asked.marks(), strict=False)
    if other := [name for name, before, now_ in same if before != now_]:
        raise _refused(f"was begun with another {' and '.join(other)}")
    return Page(begun, shown, key, room)


def paged(ask: Ask, page: Page) -> Ask:
    """What is asked on that page: of the sources, so many more as were shown."""
    query = _K.sub(b"&k=%d" % (ask.k + len(page.shown)), ask.query, count=1)
    return structs.replace(ask, query=query, page=page)


def _read(payload: bytes) -> tuple[Begun, tuple[int, ...]]:
    """It bears our signature, and yet another version of this program may have made it."""
    try:
        at, user, filters, route, laid, bits, policy, alpha, length = _HEAD.unpack_from(payload)
        arm = payload[_HEAD.size : _HEAD.size + length].decode()
        ids = payload[_HEAD.size + length :]
        mode = ServingMode(bool(bits & 4), arm, _POLICIES[policy], alpha, _LEVELS[bits & 3], bool(bits & 8))
        return Begun(at, user, filters, route, laid, mode), struct.unpack(f">{len(ids) // 4}I", ids)
    except (struct.error, IndexError, ValueError):
        raise BadToken("holds something else than a cursor") from None


def _mark(text: bytes) -> bytes:
    return sha256(text).digest()[:_MARK]


def _refused(detail: str) -> Refusal:
    return Refusal("bad_request", 400, "Bad Request", f"cursor {detail}")
