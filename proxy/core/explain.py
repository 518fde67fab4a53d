"""Why an answer is as it is: told from the decision and the outcome, never decided anew.

The text goes into a header, so it is ASCII and bounded: at most `MAX_CHARACTERS`, whatever was asked.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from proxy.core.decide import FROZEN, HELD
from proxy.core.decision import CURSOR, POPULARITY, Decision
from proxy.core.experiment import CONTROL, NO_ARM, hundredths
from proxy.core.identity import Who
from proxy.core.override import OVERRIDABLE, Verified
from proxy.core.scopes import NO_RULE
from proxy.core.toggles import Toggles

MAX_CHARACTERS = 6_144
_MAX_TEXT = 40
"""Characters of what was asked for, shown; an escape may make six of one."""

NOT_REACHED = "not reached"
STAGE = "stage"
"""The step of what a rollback has laid over the toggles; there is none where it has not."""


class SourceTold(NamedTuple):
    """What became of one source. What the cache had stands in `items` beside the failure."""

    kind: str
    upstream: str
    outcome: str
    items: int
    milliseconds: float
    cache: str
    breaker: str


class Explained(NamedTuple):
    """All that an explanation is made of."""

    who: Who
    bucket: int
    inside: bool  # the document's scope
    toggles: Toggles  # that hold for this request
    version: int
    decision: Decision
    verified: Verified
    sources: Sequence[SourceTold]
    answer: Mapping[str, Any]  # its document
    shown: int = 0  # on the pages before


def explanation(it: Explained) -> bytes:
    """One line of JSON."""
    override, clamped = it.verified
    decision = it.decision
    metadata = it.answer["metadata"]
    by: dict[str, int] = {}
    for item in it.answer["items"]:
        by[item["source"]] = by.get(item["source"], 0) + 1
    told = {
        "toggles_version": it.version,
        "override": {
            "id": _text(override.id),
            "by": _text(override.by),
            "until": override.until,
            "toggles": dict(override.toggles),
            "clamped": {each.name: {"asked": each.asked, "given": each.given} for each in clamped},
        },
        "who": {name: _text(value.decode("utf-8", "replace")) for name, value in it.who._asdict().items()}
        | {"bucket": it.bucket, "sticky": bool(it.who.user)},
        "steps": [{"step": name, "said": said} for name, said in _steps(it)],
        "toggles": {name: getattr(it.toggles, name) for name in OVERRIDABLE},
        "decision": {
            "reason": decision.reason,
            "policy": decision.policy,
            "sources": decision.sources,
            "alpha": decision.alpha,
            "ceiling": decision.level,
            "arm": decision.arm,
            "exposed": decision.exposed,
        }
        | ({"stage": decision.stage} if decision.stage else {}),
        "sources": [source._asdict() for source in it.sources],
        "answer": {name: metadata[name] for name in ("level", "k_requested", "k_returned", "coverage")}
        | {"degraded": metadata["degraded"], "cache": metadata["cache"], "items_by": by},
        "shown_before": it.shown,
    }
    return json.dumps(told, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _steps(it: Explained) -> list[tuple[str, str]]:
    """What each step of the order of precedence (facts 2.10) said, down to the one that had the last word."""
    toggles, decision = it.toggles, it.decision
    reasons = decision.reason.split(", ")
    rule = "" if decision.rule == NO_RULE else f", rules[{decision.rule}] over it"
    exposed = f"bucket {it.bucket} of {hundredths(toggles.exposure_percent)} exposed"
    if decision.killed:
        return [("kill_switch", f"on, by {decision.stage}: popularity answers")]
    steps = [
        ("kill_switch", "off"),
        ("scope", ("the document holds" if it.inside else "outside: defaults hold") + rule),
    ]
    if decision.stage:
        steps.append((STAGE, f"{decision.stage} lies over them"))
    elif decision.recovered:
        steps.append((STAGE, f"let out of it again: bucket {it.bucket} has recovered"))
    if CURSOR in reasons:
        steps.append((CURSOR, "a further page: as the first one, unless what follows is stricter"))
        exposed = "as on the first page"
    frozen = decision.reason == FROZEN
    held = decision.reason == HELD
    goes_on = decision.exposed or frozen
    steps.append(("exposure_percent", f"{exposed}: {'goes on' if goes_on or held else 'control answers'}"))
    if held:
        steps.append((HELD, "changed too often within the hour: control answers"))
    names = ["disable_cf", "disable_content", "candidate_fallback_level", "cache_mode", "policy_mode",
             "alpha_override"]  # fmt: skip
    last = decision.policy in (CONTROL, POPULARITY)
    ends = max((names.index(name) for name in reasons if name in names), default=-1)
    for index, name in enumerate(names):
        value = json.dumps(getattr(toggles, name))
        if not goes_on or (last and not frozen and index > ends):
            steps.append((name, NOT_REACHED))
        else:
            steps.append((name, f"{value}: decided" if name in reasons else f"{value}: changed nothing"))
    arm = "none" if decision.arm == NO_ARM else decision.arm
    if frozen:
        steps.append(("experiment", "frozen, and this user was not seen before: control"))
    else:
        steps.append(("experiment", NOT_REACHED if last else f"arm {arm}"))
    return steps


def _text(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"
