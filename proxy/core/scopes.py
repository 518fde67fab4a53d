"""Which rule is for whom, found in as many steps for ten thousand rules as for one (facts 2.11)."""

from collections.abc import Sequence
from functools import cached_property
from itertools import product

from proxy.core.toggles import Rule, Scope, Toggles

NO_RULE = -1

_Key = tuple[bytes | None, bytes | None, bytes | None]


class Scopes:
    """The scope of a document and those of its rules.

    A rule stands under every combination of region, cohort and client that it names, None where it
    names none. At most eight shapes of such keys are possible, and only those in use are looked up.
    """

    def __init__(self, scope: Scope, rules: Sequence[Rule]) -> None:
        self.scope = scope
        self.rules = rules
        self.everybody = scope == Scope() and not rules
        """Nobody is told apart."""
        self._parts = tuple(
            (part, frozenset(name.encode() for name in names))
            for part, names in enumerate((scope.region, scope.cohort, scope.client))
            if names
        )

    @classmethod
    def of(cls, toggles: Toggles, known: "Scopes | None") -> "Scopes":
        """Those of `toggles`: the `known` ones if they are."""
        if known is not None and known.rules is toggles.rules and known.scope == toggles.scope:
            return known
        return cls(toggles.scope, toggles.rules)

    def covers(self, region: bytes, cohort: bytes, client: bytes) -> bool:
        """Whether the document is for this request. b"" is unknown and in no list."""
        who = region, cohort, client
        return all(who[part] in names for part, names in self._parts)

    def rule(self, region: bytes, cohort: bytes, client: bytes) -> int:
        """The index of the first rule that is for this request, or `NO_RULE`."""
        first, shapes = self._index
        found = none = len(self.rules)
        for by_region, by_cohort, by_client in shapes:
            key = region if by_region else None, cohort if by_cohort else None, client if by_client else None
            at = first.get(key, none)
            if at < found:  # noqa: PLR1730 - on the way of every request that rules tell apart
                found = at
        return found if found < none else NO_RULE

    @cached_property
    def _index(self) -> tuple[dict[_Key, int], tuple[tuple[bool, bool, bool], ...]]:
        """Made when first asked: while the kill switch is on nobody does."""
        first: dict[_Key, int] = {}
        for at, rule in enumerate(self.rules):
            scope = rule.scope
            for key in product(_keys(scope.region), _keys(scope.cohort), _keys(scope.client)):
                first.setdefault(key, at)
        shapes = {
            (region is not None, cohort is not None, client is not None) for region, cohort, client in first
        }
        return first, tuple(sorted(shapes))


def _keys(names: Sequence[str]) -> list[bytes | None]:
    return [name.encode() for name in names] or [None]
