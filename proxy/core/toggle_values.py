"""A toggles document as values by place: what is changed, compared and gone back to, in one form.

A place is where a value stands in the document: `("toggles", "exposure_percent")`, `("rules",)`,
`("flags", "billing")`, and `("experiment",)`, the experiment that is frozen. Values are JSON.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from proxy.core.experiment import Arm, Experiment
from proxy.core.toggles import BASELINES, BY_NAME, CATALOGUE, NORMAL, Rule, Scope, Toggles
from proxy.core.toggles_document import read_document

Place = tuple[str, ...]
Values = Mapping[Place, Any]

KILL: Place = ("toggles", "kill_switch")
FREEZE: Place = ("toggles", "experiment_freeze")
RULES: Place = ("rules",)
EXPERIMENT: Place = ("experiment",)

SHOWN_RULES = 100
"""Rules that a diff shows on either side; of more it tells the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A toggles document in force. `experiment` is set while `experiment_freeze` is (facts 2.13)."""

    toggles: Toggles
    environment: str = ""
    experiment: Experiment | None = None


class Damaged(ValueError):
    """What was kept as a document is none; the text says why."""


def values(document: Document, *, rules: bool = True) -> dict[Place, Any]:
    """Everything in it. `rules` may be thousands: without, for whoever has no use for them."""
    toggles = document.toggles
    found: dict[Place, Any] = {("toggles", it.name): _json(getattr(toggles, it.name)) for it in CATALOGUE}
    if rules:
        found[RULES] = rules_json(toggles.rules)
    found |= {("flags", name): on for name, on in toggles.flags.items()}
    found[EXPERIMENT] = None if document.experiment is None else _experiment_json(document.experiment)
    return found


def rules_json(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """As they stand in a document."""
    return [
        {
            "scope": {part: list(names) for part, names in rule.scope._asdict().items() if names},
            "toggles": {name: _json(value) for name, value in rule.toggles.items()},
        }
        for rule in rules
    ]


def laid(given: Values) -> dict[str, Any]:
    """The values as the JSON object that they are, or are part of: toggles, rules, flags, experiment."""
    raw: dict[str, Any] = {}
    for place, value in given.items():
        if len(place) == 1:
            raw[place[0]] = value
        else:
            raw.setdefault(place[0], {})[place[1]] = value
    return raw


def placed(raw: Mapping[str, Any]) -> dict[Place, Any]:
    """The other way round."""
    found: dict[Place, Any] = {}
    for part, value in raw.items():
        if part in {"toggles", "flags"}:
            found |= {(part, name): each for name, each in value.items()}
        else:
            found[(part,)] = value
    return found


def written(document: Document, metadata: Mapping[str, Any]) -> bytes:
    """Canonical JSON: a toggles document (contract) with the frozen experiment beside it."""
    raw = laid(values(document))
    if raw["experiment"] is None:
        del raw["experiment"]
    metadata = {**metadata, "environment": document.environment}
    return orjson.dumps({"metadata": metadata, "flags": {}, **raw}, option=orjson.OPT_SORT_KEYS)


def read(content: bytes) -> Document:
    """What `written` wrote; Damaged when it is not that."""
    return Reader().read(content)


class Reader:
    """Reads many documents; ten thousand rules that stay the same are read once."""

    def __init__(self) -> None:
        self._known: tuple[list[Any], tuple[Rule, ...]] = [], ()

    def read(self, content: bytes) -> Document:
        """As `read`."""
        try:
            return self._read(orjson.loads(content))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Damaged(str(error) or type(error).__name__) from error

    def _read(self, raw: dict[str, Any]) -> Document:
        experiment = raw.pop("experiment", None)
        given = raw["rules"]
        same = given == self._known[0]
        toggles, faults = read_document({**raw, "rules": [] if same else given}, raw["flags"].keys())
        if faults:
            raise Damaged("; ".join(f"{'.'.join(map(str, it.place))}: {it.message}" for it in faults[:5]))
        if same:
            toggles = replace(toggles, rules=self._known[1])
        self._known = given, toggles.rules
        return Document(
            toggles=toggles,
            environment=raw["metadata"]["environment"],
            experiment=None if experiment is None else experiment_of(experiment),
        )


def experiment_of(raw: Mapping[str, Any]) -> Experiment:
    """An experiment from its JSON; KeyError, TypeError or ValueError when it is none."""
    arms = tuple(
        Arm(name=str(it["name"]), percent=float(it["percent"]), policy_mode=it["policy_mode"])
        for it in raw["arms"]
    )
    if any(arm.policy_mode not in BY_NAME["policy_mode"].choices for arm in arms):
        raise ValueError("an arm has no policy mode that is known")
    return Experiment(name=str(raw["name"]), salt=str(raw["salt"]), arms=arms)


def _experiment_json(experiment: Experiment) -> dict[str, Any]:
    arms = [{"name": it.name, "percent": it.percent, "policy_mode": it.policy_mode} for it in experiment.arms]
    return {"name": experiment.name, "salt": experiment.salt, "arms": arms}


def shown(place: Place) -> str:
    """A place as people call it: a toggle by its name alone."""
    return ".".join(place[1:] if place[0] == "toggles" else place)


def difference(before: Document, after: Document) -> dict[Place, tuple[Any, Any]]:
    """What differs, with its value in each."""
    rules = before.toggles.rules != after.toggles.rules
    one, other = values(before, rules=rules), values(after, rules=rules)
    return {
        place: (had, has)
        for place in {**one, **other}
        if (had := one.get(place, _missing(place))) != (has := other.get(place, _missing(place)))
    }


def told(found: Mapping[Place, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    """A difference for people. Of rules only those that differ, of many only their number."""
    diff: dict[str, dict[str, Any]] = {}
    for place, (had, has) in found.items():
        before, after = _differing(had, has) if place == RULES else (had, has)
        diff[shown(place)] = {"before": before, "after": after}
    return diff


def baseline_values(name: str) -> dict[Place, Any]:
    """What a baseline sets; KeyError when none has this name."""
    return {("toggles", toggle): value for toggle, value in BASELINES[name].items()}


def baseline_of(toggles: Toggles) -> str | None:
    """The baseline that holds: all that it names is as it says. Of several the one that names most."""
    holding = [
        name
        for name, wanted in BASELINES.items()
        if all(_json(getattr(toggles, toggle)) == value for toggle, value in wanted.items())
    ]
    if toggles.rules or toggles.scope != Scope():
        holding = [name for name in holding if name != NORMAL]
    return max(holding, key=lambda name: len(BASELINES[name]), default=None)


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _missing(place: Place) -> Any:
    """What holds for a place that a document does not name: a flag is on."""
    return True if place[0] == "flags" else None


def _differing(had: list[Any], has: list[Any]) -> tuple[Any, Any]:
    """Both without the rules with which they begin alike and end alike."""
    shorter = min(len(had), len(has))
    first = next((at for at in range(shorter) if had[at] != has[at]), shorter)
    last = next((at for at in range(shorter - first) if had[-1 - at] != has[-1 - at]), shorter - first)
    before, after = had[first : len(had) - last], has[first : len(has) - last]
    if max(len(before), len(after)) > SHOWN_RULES:
        return len(had), len(has)
    return before, after
