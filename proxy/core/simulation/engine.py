"""The engine under simulation: the very same that decides in a sidecar, told of the world by the incident."""

from collections import deque
from collections.abc import Sequence

from proxy.core.capacity import SLOT_S
from proxy.core.rollback.engine import Engine, Load, World
from proxy.core.rollback.judge import Judge
from proxy.core.rollback.layers import Layers
from proxy.core.rollback.signals import Calls, Delta
from proxy.core.rollback.verdicts import Critical
from proxy.core.simulation.chance import Rng
from proxy.core.simulation.incident import Incident
from proxy.core.simulation.replay import Moment, Outcome, Pace, replay

_RECEIVES = "content"


class Deciding:
    """An engine as the subject of a replay."""

    def __init__(self, incident: Incident) -> None:
        settings = incident.rollback
        self._incident = incident
        self._engine = Engine(settings, 0.0, judge=Judge(settings, 0.0))
        self._calls: deque[tuple[float, Calls]] = deque([(0.0, Calls())])
        self._shown: float | None = None

    @property
    def state(self) -> str:
        return self._engine.state

    @property
    def layers(self) -> Layers:
        return self._engine.layers if self._engine.applied else ()

    @property
    def breaching(self) -> bool:
        judged = self._engine.judgement
        return bool(judged.criticals) or any(it.answer == "breach" for it in judged.verdicts)

    def feed(self, delta: Delta, now: float) -> None:
        self._engine.feed(delta, now)
        self._calls.append((now, delta.upstreams.get(_RECEIVES, Calls())))
        while len(self._calls) > 2 and self._calls[1][0] <= now - SLOT_S:
            self._calls.popleft()

    def step(self, now: float) -> Sequence[Moment]:
        moved = self._engine.step(now, self._world(now))
        return [Moment(it.at, it.before, it.to, it.reason, it.layers) for it in moved]

    def _world(self, now: float) -> World:
        criticals = tuple(
            Critical(it.critical, it.source or "cf", "as the incident says")
            for it in self._incident.faults
            if it.kind == "critical" and it.strength(now) > 0
        )
        return World(criticals=criticals, loads={_RECEIVES: self._load(now)})

    def _load(self, now: float) -> Load:
        """As a sidecar knows it: what it takes now, and the most that it has answered over a slot."""
        since = self._calls[0][0]
        came = [calls for at, calls in self._calls if at > since]
        if not came:
            return Load(0.0, self._shown)
        asked = sum(it.calls for it in came) / (now - since)
        answered = sum(it.calls - it.failed for it in came) / (now - since)
        if now - since >= SLOT_S and answered > (self._shown or 0.0):
            self._shown = answered
        return Load(asked, self._shown)


def targets(incident: Incident) -> tuple[float, ...]:
    """The latency targets of the triggers, in seconds, ascending."""
    found = {it.target_ms for it in incident.rollback.triggers if it.target_ms is not None}
    return tuple(sorted(it / 1000 for it in found))


def simulate(incident: Incident, rng: Rng, pace: Pace) -> Outcome:
    """The incident from its beginning to its end."""
    return replay(incident, Deciding(incident), targets(incident), rng, pace)
