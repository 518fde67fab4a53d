"""The flap budget: how often an hour a user may change between being exposed and control.

Exposure is by bucket and monotone (facts 2.12), so what happened to every user follows from the
exposures that were asked for, alone. Moving to control always passes at once; who has used up the
budget is held there when exposure would let them back in, until the oldest of their changes is an hour
old, and comes back then by itself. Times are seconds on any clock that does not jump.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

from annotated_types import Interval

from proxy.core.audit_settings import STRICT
from proxy.core.experiment import hundredths
from proxy.core.scopes import NO_RULE, Scopes
from proxy.core.toggles import Rule, Scope, Toggles

HOUR_S = 3_600.0
MOST = 60
"""Changes an hour that are told apart."""
BUCKETS = 10_000
EXPOSURE = "exposure_percent"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlapBudget:
    """How often a user may change serving mode by exposure."""

    __pydantic_config__: ClassVar[Any] = STRICT
    changes_per_hour: Annotated[int, Interval(ge=0, le=MOST)] = 4  # back and forth are two; 0: no limit


Place: TypeAlias = Scope | None
"""A rule's scope; None: whoever no rule gives an exposure of its own."""

Segments: TypeAlias = tuple[bytes, bytes, bytes]
"""Region, cohort, client of a request."""
Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Buckets from … up to, and without, …; in their order."""


class Span(NamedTuple):
    """Buckets that have gone the same way."""

    low: int
    high: int  # the first that is no longer in it
    exposed: bool
    changes: tuple[float, ...] = ()  # of the last hour, oldest first


class Held(NamedTuple):
    """Buckets that exposure would let in, and the budget does not."""

    low: int
    high: int
    until: float


class Flaps(NamedTuple):
    """What happened to all buckets of one place, and what is asked for now (in hundredths of a percent).

    No bucket changes more than `budget` + 1 times in an hour: it is let in within the budget only.
    """

    spans: tuple[Span, ...]
    wanted: int

    @classmethod
    def at(cls, wanted: int) -> "Flaps":
        """The beginning, of which nothing is known: nobody has changed."""
        spans = Span(0, wanted, exposed=True), Span(wanted, BUCKETS, exposed=False)
        return cls(tuple(span for span in spans if span.low < span.high), wanted)

    def moved(self, now: float, wanted: int, budget: int) -> "Flaps":
        """As time has passed until `now`, with `wanted` asked for from there on. `budget` 0: no limit."""
        if wanted == self.wanted and self.calm:
            return self
        parts = [part for span in self.spans for part in _cut(span, self.wanted)]
        passed = [_passed(part, self.wanted, now, budget) for part in parts]
        moved = [_asked(part, wanted, now, budget) for span in passed for part in _cut(span, wanted)]
        return Flaps(tuple(_joined(moved)), wanted)

    def held(self, budget: int) -> tuple[Held, ...]:
        """Who would be let in, but for the budget, and until when."""
        return tuple(
            Held(span.low, min(span.high, self.wanted), _until(span, budget))
            for span in self.spans
            if span.low < self.wanted and not span.exposed
        )

    @property
    def calm(self) -> bool:
        """Nothing has changed for an hour."""
        return not any(span.changes for span in self.spans)


def _cut(span: Span, at: int) -> Iterator[Span]:
    """In two where `at` is inside it."""
    if span.low < at < span.high:
        yield span._replace(high=at)
        yield span._replace(low=at)
    else:
        yield span


def _passed(span: Span, wanted: int, now: float, budget: int) -> Span:
    """At `now`: whoever was held is let in when the budget allows, and old changes are forgotten."""
    if span.low < wanted and not span.exposed and (until := _until(span, budget)) <= now:
        span = span._replace(exposed=True, changes=(*span.changes, until))
    return span._replace(changes=tuple(at for at in span.changes if at > now - HOUR_S))


def _asked(span: Span, wanted: int, now: float, budget: int) -> Span:
    """What is asked for at `now`, as far as the budget goes."""
    wants = span.low < wanted
    if wants == span.exposed or (wants and _until(span, budget) > now):
        return span
    return span._replace(exposed=wants, changes=(*span.changes, now)[-MOST:])


def _until(span: Span, budget: int) -> float:
    """When these buckets may be let in: the change that is one too many is then an hour old."""
    if not budget or len(span.changes) < budget:
        return span.changes[-1] if span.changes else 0.0
    return span.changes[-budget] + HOUR_S


def _joined(spans: list[Span]) -> Iterator[Span]:
    """Neighbours that have gone the same way are one."""
    last = spans[0]
    for span in spans[1:]:
        if span[2:] == last[2:]:
            last = last._replace(high=span.high)
        else:
            yield last
            last = span
    yield last


class FlapBook(NamedTuple):
    """The flaps of every place: the document's own exposure, and each rule's that has one.

    A rule that appears finds its users as the document has left them. One that is taken away goes on
    here, with what the document asks for, until its users have been calm for an hour. Places are told
    apart by their scope as it is written.
    """

    wanted: Mapping[Place, int]
    """What is asked for, everywhere."""
    rules: Sequence[Rule]
    """Where that is from: the very same ones ask for the same, however many they are."""
    restless: Mapping[Place, Flaps]
    """Where something has changed within the hour."""

    @classmethod
    def at(cls, toggles: Toggles) -> "FlapBook":
        return cls(_wanted(toggles), toggles.rules, {})

    def asked_by(self, toggles: Toggles) -> bool:
        """Whether they ask for just what is asked for already; a kill does, say. Looks at no rule."""
        return toggles.rules is self.rules and hundredths(toggles.exposure_percent) == self.wanted[None]

    def moved(self, toggles: Toggles, now: float, budget: int) -> "FlapBook":
        """With `toggles` in force from `now` on."""
        before, wanted = self.wanted, self._wanted(toggles)
        changed: set[Place] = {None} if before[None] != wanted[None] else set()
        if self.rules is not toggles.rules:
            changed |= {place for place in {**before, **wanted} if before.get(place) != wanted.get(place)}
        restless = {}
        for place in (*self.restless, *(changed - self.restless.keys())):
            known = self.restless.get(place)
            if known is None:
                known = Flaps.at(before[place]) if place in before else self._general
            flaps = known.moved(now, wanted.get(place, wanted[None]), budget)
            if not flaps.calm:
                restless[place] = flaps
        return FlapBook(wanted, toggles.rules, restless)

    def held(self, budget: int) -> dict[Place, tuple[Held, ...]]:
        """Who is held, of every place that is restless; empty: nobody is anywhere."""
        found = {place: flaps.held(budget) for place, flaps in self.restless.items()}
        return found if any(found.values()) else {}

    @property
    def _general(self) -> Flaps:
        return self.restless.get(None) or Flaps.at(self.wanted[None])

    def _wanted(self, toggles: Toggles) -> Mapping[Place, int]:
        if toggles.rules is not self.rules:
            return _wanted(toggles)
        general = hundredths(toggles.exposure_percent)
        return self.wanted if general == self.wanted[None] else {**self.wanted, None: general}


def _wanted(toggles: Toggles) -> dict[Place, int]:
    """The exposures asked for, the document's first."""
    wanted: dict[Place, int] = {None: hundredths(toggles.exposure_percent)}
    for rule in toggles.rules:
        if EXPOSURE in rule.toggles:
            wanted.setdefault(rule.scope, hundredths(rule.toggles[EXPOSURE]))
    return wanted


class HeldBack:
    """Asked for each user that exposure lets in, while there are any whom the budget does not."""

    def __init__(self, held: Mapping[Place, Ranges], rules: Sequence[Rule]) -> None:
        self._held = held
        self._rules = rules
        own = {rule.scope for rule in rules if EXPOSURE in rule.toggles}
        gone = [Rule(place, {}) for place in held if place is not None and place not in own]
        self._gone = Scopes(Scope(), gone)

    def holds(self, bucket: int, at: tuple[int, bool], segments: Segments) -> bool:
        """Whether this bucket stays in control. `at`: the rule that is for the request, and whether the
        document is.
        """
        rule, inside = at
        place: Place = None
        if rule != NO_RULE and EXPOSURE in self._rules[rule].toggles:
            place = self._rules[rule].scope
        elif not inside:
            return False  # defaults, which no budget is for
        elif (gone := self._gone.rule(*segments)) != NO_RULE:
            place = self._gone.rules[gone].scope
        return any(low <= bucket < high for low, high in self._held.get(place, ()))
