"""One pattern per order of names: a head that says the same fields again is read by a single match.

Most clients repeat which fields they send, and their order. Where an order has come often, a pattern for
whole heads is made of it. It fits only what llhttp and the general reading would take, and without any
special case; what it does not fit is read in the general way. So it decides nothing but the price.
"""

import re
from collections.abc import Mapping
from operator import itemgetter
from typing import NamedTuple

from proxy.clock import Clock
from proxy.dataplane.fields import NO_TOKENS, Order

OFTEN = 64
_PAUSE_S = 1.0
_MOST_BYTES = 512

# Each repetition is possessive or short, and ends at a byte that it cannot hold itself: there is one way to
# fit, so what does not fit is known after one pass.
FIELD_TEXT = (
    rb"[\t -~\x80-\xff]*+"  # a value and space around it (RFC 9110 §5.5), obs-text too, as llhttp has it
)
_VALUE = rb"([!-~\x80-\xff]%b)(?<![\t ])" % FIELD_TEXT
USUAL_CONNECTION = rb"([Kk]eep-[Aa]live)"
_KEPT = frozenset((b"keep-alive",))
LENGTH = rb"(0|[1-9][0-9]{0,17}+)"


class Grammar(NamedTuple):
    """What heads of one kind have in common."""

    start: bytes  # a pattern of the first line, with groups
    groups: int  # in it
    values: Mapping[bytes, bytes]  # of managed fields, with one group each, by lower-case name
    needed: frozenset[bytes]
    unfit: frozenset[bytes]  # names of which a head is a special case


class Pattern:
    """Fits heads whose names came in one order.

    Groups of a match: those of the grammar's start, lines and values, and at the end what is behind the head.
    """

    __slots__ = (
        "blank",
        "claims",
        "connection",
        "length_at",
        "lines_at",
        "match",
        "reader",
        "request_id_at",
        "runs",
        "traceparent_at",
        "values",
    )

    def __init__(self, order: Order, grammar: Grammar, reader: object) -> None:
        self.reader = reader
        """Whose limits and names it holds."""
        names = order.names
        managed = dict(names.managed)
        text = [grammar.start]
        runs: list[int] = []
        values: list[tuple[bytes, int]] = []
        group = grammar.groups - 1  # the last one so far, from 0
        inside = False  # lines that go on are groups, as long as may be
        for spelled in order.spelled:
            name = managed.get(spelled)
            goes_on = spelled not in names.cut
            if goes_on != inside:
                text.append(b"(" if goes_on else b")")
                inside = goes_on
                if goes_on:
                    group += 1
                    runs.append(group)
            if name is None:
                text.append(rb"%b:%b\r\n" % (re.escape(spelled), FIELD_TEXT))
            else:
                group += 1
                values.append((name, group))
                text.append(rb"%b: %b\r\n" % (re.escape(spelled), grammar.values.get(name, _VALUE)))
        text.append(rb"%b\r\n(?s:(.*+))" % (b")" if inside else b""))
        self.match = re.compile(b"".join(text)).fullmatch
        self.values = tuple(values)
        """Managed fields, each by the index of its value."""
        self.blank = dict.fromkeys((name for name, _ in values), b"")
        """A copy that is filled costs less than a dict that grows."""
        self.lines_at = runs[0]
        self.runs = None if len(runs) == 1 else itemgetter(*runs)
        """The lines that go on: one group, or several."""
        self.claims = names.claims
        self.connection = _KEPT if b"connection" in self.blank else NO_TOKENS
        index = dict(values)
        self.length_at = index.get(b"content-length", 0)
        self.request_id_at = index.get(b"x-request-id", 0)
        self.traceparent_at = index.get(b"traceparent", 0)
        """Indices again, 0 where there is none."""


class Patterns:
    """Makes patterns for orders that come often; seldom, because a millisecond goes into each."""

    def __init__(self, grammar: Grammar, reader: object, clock: Clock, often: int = OFTEN) -> None:
        self._grammar = grammar
        self._reader = reader
        self._clock = clock
        self._often = often
        self._next = 0.0  # not before that time
        self.latest: Pattern | None = None
        """A guess for whoever has sent nothing yet."""

    def of(self, order: Order) -> Pattern | None:
        """The pattern of an order that has just come again, if it has one by now."""
        if order.pattern is None and order.promising:
            order.times += 1
            if order.times >= self._often:
                self._make(order)
        if order.pattern is not None:
            self.latest = order.pattern
        return order.pattern

    def _make(self, order: Order) -> None:
        now = self._clock()
        if now < self._next:
            return
        if self._fits(order):
            self._next = now + _PAUSE_S
            order.pattern = Pattern(order, self._grammar, self._reader)
        else:
            order.promising = False

    def _fits(self, order: Order) -> bool:
        names = order.names
        found = {name for _, name in names.managed}
        return (
            not names.alias
            and not names.respelled
            and found >= self._grammar.needed
            and found.isdisjoint(self._grammar.unfit)
            and len(names.cut) < len(order.spelled)
            and sum(map(len, order.spelled)) <= _MOST_BYTES
        )
