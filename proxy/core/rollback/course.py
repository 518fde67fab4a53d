"""The course of a rollback: everything the machine remembers, as one value that outlives a restart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, cast

from proxy.core.flaps import BUCKETS
from proxy.core.rollback.layers import Layers
from proxy.core.rollback.machine import STATES, State
from proxy.core.rollback.stages import ALL_SCOPE, ORDER, Part, Parts, Stage, highest, laid, laid_baseline
from proxy.core.toggles import BASELINES, Scope

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Moments are monotonic seconds."""

    state: State = "NORMAL"
    since: float  # of the state
    clock: float  # when the present stage, step or wait began
    green_since: float | None = None  # None: it is not green
    quiet_since: float | None = None  # without a breach; None: there is one
    requests: int = 0  # judged ones since `clock`
    parts: Parts = ()
    low: int = 0  # buckets below are let out
    share: float = 1.0  # of the buckets that go where stage 2 sends them
    grown: float = 0.0  # when that changed
    full: bool = False  # … and the receiving upstream takes no more
    baseline: str = ""  # an operator's override, in place of parts
    target: Scope = ALL_SCOPE  # what is wrong, while it is being confirmed
    why: str = ""  # … in words
    culprits: frozenset[str] = frozenset()  # triggers that have led to a rollback
    ordered: bool = False  # a person has begun it
    pinned: bool = False  # … and has not released it
    failed: int = 0  # recoveries in a row
    rollbacks: tuple[float, ...] = ()  # when, as far as they count for the limit
    locked: bool = False  # … which was reached: until somebody releases it
    warnings: tuple[float, ...] = ()  # when it was degraded
    known: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    """Criticals that something was done about, by kind and name, as long as they last."""

    @property
    def layers(self) -> Layers:
        if self.baseline:
            return laid_baseline(self.baseline, self.low)
        return laid(self.parts, self.low, self.share)

    @property
    def stage(self) -> str:
        """The highest that lies there, or the baseline; empty: none."""
        return self.baseline or highest(self.parts) or ""

    @property
    def everybody(self) -> bool:
        """Nobody's toggles are the operator's alone, but for buckets that are let out."""
        return bool(self.baseline) or any(part.scope == ALL_SCOPE for part in self.parts)

    def later(self, seconds: float) -> "Course":
        """As if so long nothing had passed. How long ago rollbacks were stays as it is."""

        def moved(at: float | None) -> float | None:
            return None if at is None else at + seconds

        return replace(
            self,
            since=self.since + seconds,
            clock=self.clock + seconds,
            grown=self.grown + seconds,
            green_since=moved(self.green_since),
            quiet_since=moved(self.quiet_since),
        )


def saved(course: Course, now: float) -> dict[str, Any]:
    """For JSON: moments become how long ago they were."""

    def ago(at: float | None) -> float | None:
        return None if at is None else now - at

    return {
        "format": FORMAT,
        "state": course.state,
        "state_s": ago(course.since),
        "clock_s": ago(course.clock),
        "green_s": ago(course.green_since),
        "quiet_s": ago(course.quiet_since),
        "requests": course.requests,
        "parts": [{"scope": _lists(part.scope), "stage": part.stage} for part in course.parts],
        "low": course.low,
        "share": course.share,
        "grown_s": ago(course.grown),
        "full": course.full,
        "baseline": course.baseline,
        "target": _lists(course.target),
        "why": course.why,
        "culprits": sorted(course.culprits),
        "ordered": course.ordered,
        "pinned": course.pinned,
        "failed": course.failed,
        "locked": course.locked,
        "rollbacks_s": [now - at for at in course.rollbacks],
        "warnings_s": [now - at for at in course.warnings],
        "known": sorted(list(it) for it in course.known),
    }


def restored(raw: Mapping[str, Any], now: float) -> Course:
    """What `saved` has given, at another `now`. ValueError names the field that makes no sense."""
    if raw.get("format") != FORMAT:
        raise ValueError(f"format should be {FORMAT}")

    def read(name: str, check: Callable[[Any], bool]) -> Any:
        if name not in raw:
            raise ValueError(f"{name} is missing")
        if not check(raw[name]):
            raise ValueError(f"{name} cannot be {str(raw[name])[:40]!r}")
        return raw[name]

    def moment(name: str) -> float:
        return now - cast("float", read(name, _seconds))

    def perhaps(name: str) -> float | None:
        found = read(name, lambda it: it is None or _seconds(it))
        return None if found is None else now - found

    def moments(name: str) -> tuple[float, ...]:
        found = read(name, lambda it: isinstance(it, list) and all(map(_seconds, it)))
        return tuple(sorted(now - at for at in found))

    parts = read("parts", lambda it: isinstance(it, list) and all(map(_is_part, it)))
    known = read("known", lambda it: isinstance(it, list) and all(map(_is_pair, it)))
    course = Course(
        state=read("state", lambda it: it in STATES),
        since=moment("state_s"),
        clock=moment("clock_s"),
        green_since=perhaps("green_s"),
        quiet_since=perhaps("quiet_s"),
        requests=read("requests", _count),
        parts=tuple(Part(_scope(it["scope"]), cast("Stage", it["stage"])) for it in parts),
        low=read("low", lambda it: _count(it) and it <= BUCKETS),
        share=read("share", lambda it: _seconds(it) and 0 < it <= 1),
        grown=moment("grown_s"),
        full=read("full", lambda it: isinstance(it, bool)),
        baseline=read("baseline", lambda it: isinstance(it, str) and it in {"", *BASELINES}),
        target=_scope(read("target", _is_scope)),
        why=read("why", _is_text),
        culprits=frozenset(read("culprits", lambda it: isinstance(it, list) and all(map(_is_text, it)))),
        ordered=read("ordered", lambda it: isinstance(it, bool)),
        pinned=read("pinned", lambda it: isinstance(it, bool)),
        failed=read("failed", _count),
        locked=read("locked", lambda it: isinstance(it, bool)),
        rollbacks=moments("rollbacks_s"),
        warnings=moments("warnings_s"),
        known=frozenset((kind, name) for kind, name in known),
    )
    if (course.state == "NORMAL") == bool(course.layers):
        raise ValueError(f"state {course.state} does not go with what lies over the toggles")
    return course


def _lists(scope: Scope) -> dict[str, list[str]]:
    return {name: list(names) for name, names in scope._asdict().items()}


def _scope(raw: Mapping[str, list[str]]) -> Scope:
    return Scope(**{name: tuple(names) for name, names in raw.items()})


def _is_scope(raw: Any) -> bool:
    return (
        isinstance(raw, dict)
        and raw.keys() == set(Scope._fields)
        and all(isinstance(it, list) and all(isinstance(name, str) for name in it) for it in raw.values())
    )


def _is_part(raw: Any) -> bool:
    return isinstance(raw, dict) and raw.get("stage") in ORDER and _is_scope(raw.get("scope"))


def _is_pair(raw: Any) -> bool:
    return isinstance(raw, list) and len(raw) == 2 and all(map(_is_text, raw))


def _is_text(raw: Any) -> bool:
    return isinstance(raw, str)


def _count(raw: Any) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0


def _seconds(raw: Any) -> bool:
    return isinstance(raw, int | float) and not isinstance(raw, bool) and isfinite(raw)
