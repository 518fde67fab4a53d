"""What triggers answer (facts 2.6), and what is made of all their answers."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from proxy.core.toggles import Scope

Metric: TypeAlias = Literal["coverage", "latency", "error", "cache"]
Priority: TypeAlias = Literal["P1", "P2"]
Dimension: TypeAlias = Literal["", "route", "region", "cohort", "client", "upstream"]
_DIMENSIONS: tuple[Dimension, ...] = ("region", "cohort", "client")
Answer: TypeAlias = Literal["ok", "breach", "inconclusive", "no_data"]


class Segment(NamedTuple):
    """Part of the traffic; the default is all of it."""

    dimension: Dimension = ""
    value: str = ""

    @property
    def scope(self) -> Scope | None:
        """As toggles name it; None: toggles cannot."""
        if not self.dimension:
            return Scope()
        if self.dimension in {"region", "cohort", "client"}:
            return Scope(**{self.dimension: (self.value,)})
        return None


ALL = Segment()


def segment_of(scope: Scope) -> Segment | None:
    """The one that a scope names; None: it names more than one."""
    named = [(dimension, names) for dimension, names in zip(_DIMENSIONS, scope, strict=True) if names]
    if not named:
        return ALL
    (dimension, names), *more = named
    return None if more or len(names) > 1 else Segment(dimension, names[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One trigger about one segment. Shares are of what went wrong, 0…1."""

    trigger: str  # name of the rule, e.g. "error_p1"
    metric: Metric
    priority: Priority
    segment: Segment
    answer: Answer
    threshold: float  # the share that is still allowed
    observed: float | None  # over the window, in a breach since it began; None: no data
    bound: float | None  # of it: the lower one where observed is over the threshold, else the upper one
    n: int
    needed: int | None  # requests, beyond n, until it could be told at this rate; None: told, or never
    since: float | None  # monotonic seconds: when what is wrong began, as far as can be told
    by: Literal["", "window", "detector"] = ""  # who concluded first
    baseline: float | None = None  # what is normal; None: not learned yet
    control: float | None = None  # the same share in the control arm; None: too little traffic there
    shared: bool = False  # the control arm has it as badly: it is not the change


class Critical(NamedTuple):
    """A failure that needs no statistics: kind and what it happened to."""

    kind: Literal["breaker_open", "contract_broken", "crash_loop"]
    name: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All verdicts about one side of the traffic at one moment."""

    verdicts: tuple[Verdict, ...] = ()
    criticals: tuple[Critical, ...] = ()
    blamed: Segment = ALL
    """The segment that explains the P1 breaches; `ALL`: none does by itself."""
    warned: Segment = ALL
    """The one that explains all breaches, of P2 as well."""

    def breaches(self, priority: Priority) -> tuple[Verdict, ...]:
        """Those not shared with the control arm."""
        return tuple(
            it for it in self.verdicts if it.answer == "breach" and it.priority == priority and not it.shared
        )

    @property
    def green(self) -> bool:
        """No breach, nothing critical, and at least one P1 trigger that says ok about all traffic.

        No data is never ok (facts 2.6).
        """
        overall = [it for it in self.verdicts if it.segment == ALL]
        return (
            not self.criticals
            and all(it.answer != "breach" for it in self.verdicts)
            and any(it.answer == "ok" and it.priority == "P1" for it in overall)
        )
