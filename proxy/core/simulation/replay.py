"""One incident, tick by tick: whoever decides is fed, asked to move, and obeyed in the next tick."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from proxy.core.rollback.layers import Layers
from proxy.core.rollback.signals import FAILED, LATE, REQUESTS, SHORT, Delta
from proxy.core.simulation.chance import Rng
from proxy.core.simulation.incident import Incident
from proxy.core.simulation.traffic import Generator, Tick
from proxy.core.toggles import Scope

MOST_SAMPLES = 1_200


class Moment(NamedTuple):
    """A change of state."""

    at: float
    before: str
    to: str
    why: str
    layers: Layers  # in force from then on


class Subject(Protocol):
    """Whoever decides."""

    @property
    def state(self) -> str: ...

    @property
    def layers(self) -> Layers: ...

    @property
    def breaching(self) -> bool:
        """Whether anything is found wrong at this moment."""

    def feed(self, delta: Delta, now: float) -> None: ...

    def step(self, now: float) -> Sequence[Moment]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How finely time goes. Each seconds."""

    tick: float = 0.25
    calm: float = 10.0
    """The tick once nothing has happened for `settled`, and nothing is about to: a slot of the window, so
    that what is judged is the same and only the moment of judging is coarser."""
    settled: float = 60.0


EXACT = Pace(calm=0.25)


class Sample(NamedTuple):
    """What was seen over a while, for a plot: shares of requests."""

    at: float
    per_s: float
    failed: float
    late: float  # than the last target
    short: float
    harmed: float
    withheld: float
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it. Times in seconds after the first fault began; None: never, or nothing broke."""

    moments: tuple[Moment, ...]
    final: str
    layers: Layers
    detected_s: float | None  # something was found wrong
    acted_s: float | None  # it was rolled back
    recovered_s: float | None  # all as before, after the last fault *ended*
    scope: Scope | None  # of the first rollback
    requests: int
    harmed: int
    """Requests answered worse because of a fault."""
    withheld: int
    """Requests answered otherwise than operators say, because of a layer: the price of acting."""
    false: int
    """Rollbacks while nothing was broken, nor had been since the last one."""
    flaps: int
    """Rollbacks after the first."""
    samples: tuple[Sample, ...]

    @property
    def rollbacks(self) -> int:
        return self.flaps + 1 if self.acted_s is not None or self.false else 0


def replay(incident: Incident, subject: Subject, targets: Sequence[float], rng: Rng, pace: Pace) -> Outcome:
    """`targets` as the subject's latency triggers name them, in seconds, ascending."""
    generator = Generator(incident, targets, rng)
    book = _Book(incident)
    now, busy_until = 0.0, pace.settled
    while now < incident.seconds:
        ends = _ends(incident, now, pace.tick if now < busy_until else pace.calm)
        tick = generator.tick(now, ends - now, subject.layers)
        subject.feed(tick.delta, ends)
        moments = subject.step(ends)
        book.note(tick, now, ends, subject, moments)
        if moments or _busy(subject, incident.broken(ends)):
            busy_until = ends + pace.settled
        now = ends
    return book.closed(subject)


def _busy(subject: Subject, broken: bool) -> bool:  # noqa: FBT001 - the other half of the question
    """Whether moments count: until what is broken has been acted upon, and while recovery is judged."""
    match subject.state:
        case "ROLLED_BACK" | "MANUAL_OVERRIDE":
            return subject.breaching
        case "NORMAL" | "DEGRADED":
            return broken
        case _:
            return True


def _ends(incident: Incident, now: float, seconds: float) -> float:
    """When a tick ends: no fault begins or ends within one."""
    edges = (edge for it in incident.faults for edge in (it.from_s, it.until_s) if edge is not None)
    return min([now + seconds, incident.seconds, *(edge for edge in edges if edge > now)])


class _Book:
    """Adds up what an `Outcome` tells."""

    def __init__(self, incident: Incident) -> None:
        self._incident = incident
        self._every = incident.seconds / MOST_SAMPLES
        self._moments: list[Moment] = []
        self._samples: list[Sample] = []
        self._sums = [0, 0, 0, 0, 0, 0]
        self._from = 0.0
        self._total = [0, 0, 0]
        self._detected: float | None = None
        self._recovered: float | None = None
        self._rollbacks: list[Moment] = []
        self._false = 0
        self._broken_since_rollback = False

    def note(self, tick: Tick, now: float, ends: float, subject: Subject, moments: Sequence[Moment]) -> None:
        self._total = [
            it + n for it, n in zip(self._total, (tick.requests, tick.harmed, tick.withheld), strict=True)
        ]
        began, over = self._incident.began, self._incident.over
        self._broken_since_rollback |= self._incident.broken(now) or self._incident.broken(ends)
        found = subject.breaching or bool(moments)
        if began is not None and ends >= began and found and self._detected is None:
            self._detected = ends - began
        for moment in moments:
            self._moments.append(moment)
            if moment.to == "ROLLED_BACK" and moment.before != "ROLLED_BACK":
                self._rollbacks.append(moment)
                self._false += not self._broken_since_rollback
                self._broken_since_rollback = False
        if over is not None and ends > over:
            if subject.state != "NORMAL":
                self._recovered = None
            elif self._recovered is None:
                self._recovered = ends - over
        self._sample(tick, ends, subject.state)

    def _sample(self, tick: Tick, ends: float, state: str) -> None:
        for counts in tick.delta.cells.values():
            late = LATE + len(tick.delta.targets) - 1
            seen = counts[REQUESTS], counts[FAILED], counts[late], counts[SHORT]
            for at, n in enumerate(seen):
                self._sums[at] += n
        self._sums[4] += tick.harmed
        self._sums[5] += tick.withheld
        if ends - self._from < self._every:
            return
        requests, failed, late, short, harmed, withheld = self._sums
        n = max(1, requests)
        per_s = requests / (ends - self._from)
        shares = (failed / n, late / n, short / n / 1000, harmed / n, withheld / n)
        self._samples.append(Sample(ends, per_s, *shares, state))
        self._sums, self._from = [0, 0, 0, 0, 0, 0], ends

    def closed(self, subject: Subject) -> Outcome:
        began = self._incident.began
        true = [it for it in self._rollbacks if began is not None and it.at >= began]
        first = true[0] if true else None
        requests, harmed, withheld = self._total
        return Outcome(
            moments=tuple(self._moments),
            final=subject.state,
            layers=subject.layers,
            detected_s=self._detected,
            acted_s=None if first is None or began is None else first.at - began,
            recovered_s=self._recovered,
            scope=first.layers[0].scope if first is not None and first.layers else None,
            requests=requests,
            harmed=harmed,
            withheld=withheld,
            false=self._false,
            flaps=max(0, len(self._rollbacks) - 1),
            samples=tuple(self._samples),
        )
