"""The manual toggle verification of the shadow tests (seeds/001), as criteria over answers.

Modes are switched on by overrides, so nobody but the drill gets them and nothing of it is judged.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

OWN_SHARE = 0.95
"""Of the items, how many the mode itself has to have made: the coverage that is promised (facts 1)."""
VOLUME_VARIATION = 0.20

_OPEN: Mapping[str, Any] = {"exposure_percent": 100, "cache_mode": "cold"}
_ASKING: Mapping[str, Any] = {
    **_OPEN,
    "disable_cf": False,
    "disable_content": False,
    "candidate_fallback_level": "A",
    "alpha_override": None,
}


class Mode(NamedTuple):
    """What is switched on, and which sources its items may say that they are from; none: any."""

    key: str
    """As its baseline is called."""
    name: str
    toggles: Mapping[str, Any]
    made_by: tuple[str, ...] = ()


_CONTENT = {**_ASKING, "policy_mode": "content_only", "disable_cf": True}
_CF = {**_ASKING, "policy_mode": "collab_only", "disable_content": True}
NORMAL = Mode("normal", "normal", {**_ASKING, "policy_mode": None})
MODES = (
    NORMAL,
    Mode("content_only", "content only", _CONTENT, ("content",)),
    Mode("collaborative_only", "collaborative only", _CF, ("cf",)),
    Mode("emergency", "emergency popularity", {**_OPEN, "candidate_fallback_level": "D"}, ("popularity",)),
    NORMAL._replace(name="normal again"),
)
"""In the order of the drill. The kill switch can be in no override: it is looked at, not thrown."""


class Answered(NamedTuple):
    """How one request ended. `document` is the JSON of an answer with status 200."""

    user: str
    status: int  # 0: no answer
    document: Any = None
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One thing that has to hold, and what was seen."""

    mode: str
    name: str
    holds: bool
    seen: str
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeReport:
    """How the answers of one mode were made."""

    mode: str
    toggles: Mapping[str, Any]
    asked: int
    answered: int
    items: Mapping[str, int]  # by the source that they name
    policies: Mapping[str, int]  # answers, by what they say of the decision
    levels: Mapping[str, int]
    faults: tuple[str, ...]  # the first few, in words


class Tally:
    """The answers of one mode, judged."""

    def __init__(self, mode: Mode, k: int) -> None:
        self.mode = mode
        self.assigned: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        """Each user's arms and buckets."""
        self.asked = 0
        self.answered = 0
        self._k = k
        self._slots = 0  # filled, with items of their own
        self._whole = 0  # answers
        self._items: Counter[str] = Counter()
        self._policies: Counter[str] = Counter()
        self._levels: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()

    def add(self, one: Answered) -> None:
        self.asked += 1
        if one.status != 200:
            self._faults[one.fault or f"answered {one.status}"] += 1
            return
        self.answered += 1
        items, metadata, faults = _read(one.document, self._k)
        self._slots += len({item["id"] for item in items if type(item.get("id")) is str})
        self._whole += not faults
        self._faults.update(faults)
        self._items.update(str(item.get("source")) for item in items)
        self._policies[str(metadata.get("policy"))] += 1
        self._levels[str(metadata.get("level"))] += 1
        self.assigned[one.user].add((str(metadata.get("arm")), str(metadata.get("bucket"))))

    def report(self) -> ModeReport:
        return ModeReport(
            mode=self.mode.name,
            toggles=self.mode.toggles,
            asked=self.asked,
            answered=self.answered,
            items=dict(self._items.most_common()),
            policies=dict(self._policies.most_common()),
            levels=dict(sorted(self._levels.items())),
            faults=tuple(f"{fault} ({n} times)" for fault, n in self._faults.most_common(5)),
        )

    def criteria(self) -> Iterable[Criterion]:
        wanted = self.asked * self._k
        yield self._share("fill", self._slots, wanted, "of the slots")
        yield self._share("UI fields", self._whole, self.asked, "of the answers whole")
        moved = sum(len(found) > 1 for found in self.assigned.values())
        yield Criterion(
            mode=self.mode.name,
            name="assignment",
            holds=bool(self.assigned) and not moved,
            seen=f"{_percent(moved, len(self.assigned))} of {len(self.assigned)} users inconsistent",
            wanted="0 %",
        )
        if self.mode.made_by:
            own = sum(self._items[source] for source in self.mode.made_by)
            yield Criterion(
                mode=self.mode.name,
                name="made by",
                holds=own >= OWN_SHARE * max(1, self._items.total()),
                seen=", ".join(
                    f"{source} {_percent(n, self._items.total())}" for source, n in self._items.most_common()
                )
                or "nobody",
                wanted=f"{' or '.join(self.mode.made_by)} {_percent(OWN_SHARE)}",
            )

    def _share(self, name: str, had: int, of: int, what: str) -> Criterion:
        return Criterion(
            mode=self.mode.name,
            name=name,
            holds=had == of > 0,
            seen=f"{_percent(had, of)} {what}",
            wanted="100 %",
        )


def across(tallies: Sequence[Tally]) -> Iterable[Criterion]:
    """What has to hold over all modes."""
    normal = [tally for tally in tallies if not tally.mode.made_by]  # others take users out of their arms
    if len(tallies) > 1:
        yield _unmoved("same bucket in every mode", tallies, 1)
    if len(normal) > 1:
        yield _unmoved("same arm before and after", normal, 0)
    yield _answered(tallies)
    yield _volume([tally.answered for tally in tallies], "modes")


def during(states: Sequence[Tally]) -> Iterable[Criterion]:
    """What has to hold for requests that come at an even pace while a rollback goes through its states: the
    parity checks of the shadow tests. Arms are none of it: a stage takes users out of theirs.
    """
    for name in ("fill", "UI fields"):
        found = [it for tally in states for it in tally.criteria() if it.name == name]
        worst = next((it for it in found if not it.holds), None)
        seen = f"{worst.seen} in {worst.mode}" if worst else found[0].seen if found else "no answer"
        yield Criterion(mode="answers", name=name, holds=bool(found) and not worst, seen=seen, wanted="100 %")
    yield _unmoved("same bucket", states, 1, mode="answers")
    yield _answered(states, mode="answers")
    yield _volume([tally.answered / tally.asked for tally in states if tally.asked], "states", mode="answers")


def _unmoved(name: str, of: Sequence[Tally], part: int, mode: str = "all") -> Criterion:
    kept: defaultdict[str, set[str]] = defaultdict(set)
    for tally in of:
        for user, found in tally.assigned.items():
            kept[user] |= {assigned[part] for assigned in found}
    moved = sum(len(found) > 1 for found in kept.values())
    return Criterion(
        mode=mode,
        name=name,
        holds=bool(kept) and not moved,
        seen=f"{_percent(moved, len(kept))} of {len(kept)} users inconsistent",
        wanted="0 %",
    )


def _answered(of: Sequence[Tally], mode: str = "all") -> Criterion:
    answered, asked = sum(tally.answered for tally in of), sum(tally.asked for tally in of)
    return Criterion(
        mode=mode,
        name="requests answered",
        holds=answered == asked > 0,
        seen=f"{answered} of {asked}",
        wanted="every one",
    )


def _volume(of: Sequence[float], between: str, mode: str = "all") -> Criterion:
    most = max(of, default=0)
    variation = (most - min(of, default=0)) / most if most else 1.0
    return Criterion(
        mode=mode,
        name="request volume",
        holds=variation < VOLUME_VARIATION,
        seen=f"varies by {_percent(variation)} between {between}",
        wanted=f"less than {_percent(VOLUME_VARIATION)}",
    )


def switched_off(*, persisted: bool) -> Criterion:
    """The kill switch as its status has it, being off."""
    seen = "off, and a restart would find it so" if persisted else "off, and a restart would forget that"
    return Criterion(mode="all", name="kill switch", holds=persisted, seen=seen, wanted="off, for good")


def _read(document: Any, k: int) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Items and metadata, as far as they are such, and what is wrong with them."""
    said = document if isinstance(document, dict) else {}
    listed, metadata = said.get("items"), said.get("metadata")
    items = [it for it in listed if isinstance(it, dict)] if isinstance(listed, list) else []
    faults = []
    if len(items) != k:
        faults.append(f"{len(items)} items instead of {k}")
    if [it.get("rank") for it in items] != list(range(1, len(items) + 1)):
        faults.append("ranks are not 1, 2, 3 …")
    if len({str(it.get("id")) for it in items}) != len(items):
        faults.append("an id stands there twice")
    wrong = dict.fromkeys(name for it in items for name, good in _UI_FIELDS.items() if not good(it.get(name)))
    faults += [f"a {name} is missing or none" for name in wrong]
    return items, metadata if isinstance(metadata, dict) else {}, faults


def _is_text(value: Any) -> bool:
    return type(value) is str and bool(value.strip())


_UI_FIELDS: Mapping[str, Any] = {
    "id": _is_text,
    "rank": lambda it: type(it) is int,
    "title": _is_text,
    "year": lambda it: type(it) is int,
    "genres": lambda it: type(it) is list and all(map(_is_text, it)),
    "score": lambda it: type(it) in {int, float} and isfinite(it),
}
"""What the UI shows of a film (facts 1), and what each has to be."""


def _percent(part: float, whole: float = 1) -> str:
    return f"{100 * part / whole:.4g} %" if whole else "0 %"
