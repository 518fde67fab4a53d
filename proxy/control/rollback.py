"""Taking bad changes back: the engine of `core.rollback` fed, stepped, put in force, remembered, told.

- What closes is in force first and remembered at once; what opens is remembered first. A disk that does not
  answer holds up neither: the status says `persisted: false`, and it is tried again.
- A restart goes on in the state that was saved, its clocks moved on by the wall clock, before anything
  listens. A state that nobody can understand means rolled back (stage 2) until somebody releases it.
- In `watch` nothing of this touches the policy, unless a person has ordered it.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from proxy.clock import Clock, monotonic, rfc3339, wall
from proxy.control.layering import Layering, opens
from proxy.control.rollback_keeping import RollbackKeeper
from proxy.control.rollback_memory import Memory, memorised, remembered
from proxy.control.rollback_orders import Order
from proxy.control.rollback_shown import MoveStatus
from proxy.control.rollback_words import layers_words, says, toggles_words
from proxy.control.rollback_world import Surroundings
from proxy.core.audit import Outcome
from proxy.core.policy import Policy
from proxy.core.rollback.changes import changes
from proxy.core.rollback.engine import ITSELF, Engine, Transition
from proxy.core.rollback.judge import Judge
from proxy.core.rollback.layers import NO_LAYERS, Layers, killing
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import Delta
from proxy.ports import RollbackStore, StoreError
from proxy.ports.audit import AuditTrail
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.rollback")

TICK_S = 0.25
"""Between two looks at what the triggers say."""
KEPT = 50
"""Transitions that are shown, and outlive a restart."""
SAVE_S = 5.0
"""Outside NORMAL clocks are written down so often, and what could not be written is tried again."""
END_S = 2.0
"""What the end gives to being remembered."""


class RollbackControl:
    """`restore` before the target listens, `begin` once the loop runs, `stop` at the end."""

    def __init__(
        self,
        layering: Layering,
        surroundings: Surroundings,
        *,
        store: RollbackStore,
        trail: AuditTrail,
        monotonic: Clock = monotonic,
        wall: Clock = wall,
    ) -> None:
        self.heard: Callable[[Transition], None] = lambda _: None
        """Called with each transition, once what it asks for is in force."""
        self.moves: deque[MoveStatus] = deque(maxlen=KEPT)
        """The last transitions, the newest first."""
        self.transitions: Counter[tuple[str, str]] = Counter()
        """How often there was each (from, to) since the start."""
        self._layering = layering
        self._surroundings = surroundings
        self._store = store
        self._trail = trail
        self._monotonic = monotonic
        self._wall = wall
        self._keeper = RollbackKeeper(store, trail, self._content)
        self._saved_at = monotonic()
        self._untold: list[tuple[Transition, MoveStatus]] = []
        self._applied = False  # what the state before asked for was in force
        self._lost = ""  # why nobody knows what was in force before the start
        self._failing = ""
        self._running: asyncio.Task[None] | None = None
        self._settings = settings = layering.policy.rollback
        now = monotonic()
        self.engine = Engine(settings, now, judge=Judge(settings, now))

    # -- what holds

    @property
    def wanted(self) -> Layers:
        """What is to lie over the operator's toggles."""
        return self.engine.layers if self.engine.applied else NO_LAYERS

    @property
    def layers(self) -> Layers:
        """What does."""
        return self._layering.layers

    @property
    def off(self) -> bool:
        return self.engine.settings.mode == "off"

    def policy(self, layers: Layers | None = None, over: Policy | None = None) -> Policy:
        """A policy of the operator's under these layers; None: the one, and those, in force."""
        return self._layering.over(over or self._layering.policy, layers)

    @property
    def persisted(self) -> bool:
        """A restart would find the state."""
        return self._keeper.persisted

    def troubles(self) -> list[str]:
        """What is wrong and keeps no traffic away."""
        behind = "" if self.wanted == self.layers else "what the rollback asks for is not in force yet"
        return list(filter(None, (self._lost, behind, self._failing, self._keeper.trouble)))

    def kills(self) -> str:
        """Why recommend answers come from memory although nobody has thrown the switch, and what ends that;
        empty: they do not.
        """
        if killing(self.layers) is None:
            return ""
        said = self.moves[0] if self.moves else None
        why = f" since {said.at}: {said.reason}" if said else ""
        return (
            f"the rollback holds the emergency stage{why}; it ends by itself with its recovery, or by "
            "`fusebox rollback release --reason …`"
        )

    def earnest(self) -> str:
        """What goes on in earnest, which no drill may get in the way of; empty: nothing does."""
        state = self.engine.state
        return "" if state == "NORMAL" else f"the rollback is in {state}"

    # -- what comes by itself

    def feed(self, delta: Delta) -> None:
        """What was counted since the delta before."""
        if self._settings.mode != "off":
            self.engine.feed(delta, self._monotonic())

    async def tick(self) -> None:
        """To be called every `TICK_S`."""
        now = self._monotonic()
        settings = self._layering.policy.rollback
        if settings is not self._settings:
            self._moved(self._reconfigured(settings, now))
        self._moved(self.engine.step(now, self._surroundings.look(now)))
        await self._follow()

    def _reconfigured(self, settings: RollbackSettings, now: float) -> Iterable[Transition]:
        """Go on in the same state; what is judged by other rules is judged anew."""
        before, self._settings = self._settings, settings
        judge = None if _judges_alike(before, settings) else Judge(settings, now)
        return self.engine.reconfigure(settings, now, judge)

    async def _follow(self) -> None:
        """Put in force what the engine asks for, remember and tell it."""
        moved = bool(self._untold)
        if self.wanted != self.layers:
            if opens(self.layers, self.wanted):
                await self._save()  # meanwhile somebody may have closed it again
                moved = False
            self._layering.lay(self.wanted)
        self._tell()
        due = self._monotonic() - self._saved_at >= SAVE_S
        if moved or (due and (self.engine.state != "NORMAL" or not self.persisted)):
            await self._save()

    def _moved(self, transitions: Iterable[Transition]) -> None:
        """Shown from now on, and told once it is in force."""
        for it in transitions:
            move = self._move(it)
            self.moves.appendleft(move)
            self.transitions[it.before, it.to] += 1
            self._untold.append((it, move))
        self._applied = self.engine.applied

    def _tell(self) -> None:
        told, self._untold = self._untold, []
        for it, move in told:
            only = "" if move.applied else " (watched: nothing is changed)"
            extra = {
                "event": it.event,
                "by": it.by,
                "was": move.was,
                "now": move.now,
                "applied": move.applied,
            }
            _log.warning("rollback: %s → %s%s: %s", it.before, it.to, only, it.reason, extra=extra)
            self._note(it, move)
            self.heard(it)
        if told and self.engine.state == "NORMAL":
            self._lost = ""

    def _move(self, it: Transition) -> MoveStatus:
        return MoveStatus(
            at=rfc3339(self._wall() - max(0.0, self._monotonic() - it.at)),
            before=it.before,
            to=it.to,
            event=it.event,
            stage=it.stage,
            by=it.by,
            reason=it.reason,
            causes=tuple(map(says, it.causes)),
            was=layers_words(it.was),
            now=layers_words(it.layers),
            applied=self._applied or (self.engine.applied and it.event != "switched"),
        )

    def _note(self, it: Transition, move: MoveStatus) -> None:
        """The toggles before and after, and what the triggers said, in the audit log."""
        layers = it.layers if move.applied else it.was
        changed = changes(self._layering.policy.toggles, it.was, layers)
        entry = self._trail.entry(
            "rollback.transition",
            Outcome.DONE,
            actor=it.by,
            target=move.to,
            before={"state": it.before, "layers": move.was, "toggles": toggles_words(changed, after=False)},
            after={
                "state": it.to,
                "layers": move.now,
                "toggles": toggles_words(changed, after=True),
                "stage": it.stage,
                "event": it.event,
                "triggers": "; ".join(move.causes),
                "applied": move.applied,
            },
            reason=it.reason,
        )
        self._keeper.note(entry)

    # -- by hand

    def foresee(self, order: Order) -> tuple[Transition, ...]:
        """What would come of it; IllegalMove. Changes nothing."""
        return order.give(self.engine, self._monotonic(), by=ITSELF, reason="", dry_run=True)

    async def carry_out(self, order: Order, *, reason: str, by: str) -> None:
        """In force for every next request on return; IllegalMove: nothing has changed."""
        self._moved(order.give(self.engine, self._monotonic(), by=by, reason=reason))
        await self._follow()
        await self._layering.settled()

    # -- over a restart

    def _content(self) -> bytes:
        saved = self.engine.saved(self._monotonic())
        return memorised(Memory(self._wall(), saved, tuple(self.moves)))

    async def _save(self) -> None:
        self._saved_at = self._monotonic()
        await self._keeper.save()

    def restore(self) -> None:
        """Go on in the state that was saved, in force on return. Blocks."""
        now = self._monotonic()
        try:
            found = self._store.load(self._understood)
        except StoreError as error:
            self._lost = f"nobody can tell what the rollback had in force: {error}"
            why = f"{self._lost}; so it is rolled back until somebody has looked and releases it"
            if self._settings.mode != "off":
                _log.critical("%s", why)
                self._moved(self.engine.start(now, ITSELF, why))
        else:
            if found is not None:
                self.engine, memory = found.found
                self.moves.extend(memory.moves)
                if found.trouble:
                    self._lost = f"{found.trouble}: the state of the rollback before it holds"
                    _log.error("%s", self._lost)
        self._applied = self.engine.applied
        self._moved(self.engine.reconfigure(self._settings, now))  # the mode may be another one now
        self._layering.lay(self.wanted)
        if self.engine.state != "NORMAL" and not self._untold:
            _log.warning("rollback: still %s: %s", self.engine.state, layers_words(self.wanted))

    def _understood(self, content: bytes) -> tuple[Engine, Memory]:
        memory = remembered(content)
        # As far as the wall clock can be trusted: a gap is never negative.
        now = self._monotonic() - max(0.0, self._wall() - memory.at)
        return Engine(self._settings, now, memory.engine, judge=Judge(self._settings, now)), memory

    async def begin(self) -> None:
        """Before anything listens."""
        if self._untold or self._lost:
            await self._follow()
            await self._save()
        self._running = spawn(self._run(), "rollback")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.tick()
            except Exception as error:  # noqa: BLE001 - it has to go on
                told = f"the rollback cannot go on: {error!r}"
                if told != self._failing:
                    _log.exception("%s", told)
                self._failing = told
            else:
                self._failing = ""

    async def stop(self) -> None:
        """End, and remember how far its clocks have come; bounded in time."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([self._running])
            await self._keeper.save(END_S)
            await self._keeper.settled(END_S)


def _judges_alike(one: RollbackSettings, other: RollbackSettings) -> bool:
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("triggers", "false_alarm_days", "minimum_requests", "window_s")
    )
