"""The engine under simulation: the very same that decides in a sidecar, told of the world by the incident."""

from collections import deque
from collections.abc import Sequence

from proxy.core.rollback.engine import Engine, Load, World
from proxy.core.rollback.judge import Judge
from proxy.core.rollback.layers import Layers
from proxy.core.rollback.signals import Delta
from proxy.core.rollback.verdicts import Critical
from proxy.core.simulation.chance import Rng
from proxy.core.simulation.incident import Incident
from proxy.core.simulation.replay import Moment, Outcome, Pace, replay

_RECEIVES = "content"
_LOAD_S = 10.0


class Deciding:
    """An engine as the subject of a replay."""

    def __init__(self, incident: Incident) -> None:
        settings = incident.rollback
        self._incident = incident
        self._engine = Engine(settings, 0.0, judge=Judge(settings, 0.0))
        self._calls: deque[tuple[float, int]] = deque([(0.0, 0)])

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
        calls = delta.upstreams.get(_RECEIVES)
        self._calls.append((now, calls.calls if calls else 0))
        while len(self._calls) > 2 and self._calls[1][0] <= now - _LOAD_S:
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
        loads = {}
        if (most := self._incident.capacity.get(_RECEIVES)) is not None:
            passed = now - self._calls[0][0]
            taken = sum(calls for at, calls in self._calls if at > self._calls[0][0])
            loads[_RECEIVES] = Load(taken / passed if passed > 0 else 0.0, most)
        return World(criticals=criticals, loads=loads)


def targets(incident: Incident) -> tuple[float, ...]:
    """The latency targets of the triggers, in seconds, ascending."""
    found = {it.target_ms for it in incident.rollback.triggers if it.target_ms is not None}
    return tuple(sorted(it / 1000 for it in found))


def simulate(incident: Incident, rng: Rng, pace: Pace) -> Outcome:
    """The incident from its beginning to its end."""
    return replay(incident, Deciding(incident), targets(incident), rng, pace)
