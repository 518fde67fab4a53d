"""Which rule is for whom, found in as many steps for ten thousand rules as for one (facts 2.11)."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import product
from operator import itemgetter
from typing import Any, TypeAlias

from proxy.core.toggles import Rule, Scope, Toggles

NO_RULE = -1

_SHAPES = ((), (0,), (1,), (0, 1), (2,), (0, 2), (1, 2), (0, 1, 2))
"""What a rule may name: region (0), cohort (1), client (2). Which it is are the bits of the index."""
_Table: TypeAlias = tuple[Callable[[Any], Any], Callable[[Any, int], int]]
"""What of the parts is looked for, and how: the index of the first rule that names it, or what is given."""


class Scopes:
    """The scope of a document and those of its rules.

    A rule stands under every combination of region, cohort and client that it names, in a table of rules
    that name as much. At most eight such shapes are possible, and only those in use for the asking region are
    looked into: for a region that no rule names, those that name none.
    """

    def __init__(self, scope: Scope, rules: Sequence[Rule]) -> None:
        self.scope = scope
        self.rules = rules
        self.everybody = scope == Scope() and not rules
        """Nobody is told apart."""
        self._parts = tuple((part, frozenset(names)) for part, names in _lists(scope))

    @classmethod
    def of(cls, toggles: Toggles, known: "Scopes | None") -> "Scopes":
        """Those of `toggles`: the `known` ones if they are."""
        if known is not None and known.rules is toggles.rules and known.scope == toggles.scope:
            return known
        return cls(toggles.scope, toggles.rules)

    def covers(self, region: bytes, cohort: bytes, client: bytes) -> bool:
        """Whether the document is for this request. b"" is unknown and in no list."""
        if not self._parts:
            return True
        who = region, cohort, client
        return all(who[part] in names for part, names in self._parts)

    def rule(self, region: bytes, cohort: bytes, client: bytes) -> int:
        """The index of the first rule that is for this request, or `NO_RULE`."""
        found, by_region, elsewhere = self._index
        who = region, cohort, client
        for pick, find in by_region.get(region, elsewhere):
            at = find(pick(who), found)
            if at < found:  # noqa: PLR1730 - on the way of every request that rules tell apart
                found = at
        return found if found < len(self.rules) else NO_RULE

    @cached_property
    def _index(self) -> tuple[int, Mapping[bytes, Sequence[_Table]], Sequence[_Table]]:
        """The first rule for everybody, or the number of rules; the tables to look into for each region that
        rules name, and for any other. Made when first asked: while the kill switch is on nobody does.
        """
        tables: list[dict[Any, int]] = [{} for _ in _SHAPES]
        masks: defaultdict[bytes, int] = defaultdict(int)  # by region: a bit for each shape in use
        for at, rule in enumerate(self.rules):
            region, cohort, client = scope = rule.scope
            named = [[name.encode() for name in names] for names in scope if names]
            shape = (1 if region else 0) + (2 if cohort else 0) + (4 if client else 0)
            add = tables[shape].setdefault
            for key in named[0] if len(named) == 1 else product(*named):
                add(key, at)
            if region:
                for name in named[0]:
                    masks[name] |= 1 << shape
        everybody = tables[0].get((), len(self.rules))
        others = sum(1 << shape for shape in (2, 4, 6) if tables[shape])
        found = [
            (itemgetter(*shape), table.get) for shape, table in zip(_SHAPES[1:], tables[1:], strict=True)
        ]
        # Few combinations occur, which regions share.
        looked_into = {
            mask: tuple(it for shape, it in enumerate(found, 1) if (mask | others) >> shape & 1)
            for mask in {0, *masks.values()}
        }
        return everybody, {name: looked_into[mask] for name, mask in masks.items()}, looked_into[0]


def _lists(scope: Scope) -> list[tuple[int, list[bytes]]]:
    """What a scope names, by part."""
    parts = enumerate((scope.region, scope.cohort, scope.client))
    return [(part, [name.encode() for name in names]) for part, names in parts if names]
