"""The toggles: who may change what, when it takes effect, what a restart finds.

- What a person changes is kept first, in the store and in the last good file, and takes effect then; what
  cannot be kept is refused, and nothing has changed. Acknowledged means: in force for every next request.
- The kill switch waits for nothing and has its own last word (`control.kill`); it becomes a version too.
- The settings' toggles are the first version there ever is, and no more than that.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from proxy.clock import Clock, monotonic, rfc3339, wall
from proxy.control.kill import KillRefused, KillSwitch
from proxy.control.toggle_keeping import Overtaken, ToggleKeeper
from proxy.control.toggle_plans import Plan, TogglesStale, UnknownVersion, Wanted, named, plan, revert
from proxy.control.toggle_returns import ToggleReturns
from proxy.control.toggle_state import ToggleState
from proxy.control.toggle_versions import Held, Numbers, held
from proxy.core.policy import Policy
from proxy.core.toggle_values import Damaged, baseline_of, laid, rules_json, values
from proxy.core.toggles import Rule, Toggles
from proxy.errors import FuseboxError
from proxy.ports import LastGoodToggles, PolicyTarget, StoreError
from proxy.ports.audit import AuditTrail
from proxy.ports.records import Journal, ToggleLine
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.toggles")

RETRY_S = 1.0
"""Between two tries to keep what is in force already."""
END_S = 2.0
"""What the end gives to that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnStatus:
    """A change that returns by itself: when (RFC 3339), which version made it, what of it."""

    at: str
    version: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TogglesNow:
    """The toggles in force, `toggles.kill_switch` included. `baseline`: the one that they are, if any."""

    version: int
    metadata: Mapping[str, Any]
    toggles: Mapping[str, Any]
    rules: tuple[Mapping[str, Any], ...]
    flags: Mapping[str, bool]
    baseline: str | None
    reverts: tuple[ReturnStatus, ...]
    kill: bool
    over: str
    """What a rollback has laid over these for a time, and for whom; empty: nothing."""


class ToggleControl:
    """`restore` and `begin` before anything listens; `stop` at the end, while the store is still there."""

    def __init__(
        self,
        target: PolicyTarget,
        kill: KillSwitch,
        *,
        file: LastGoodToggles,
        journal: Journal,
        trail: AuditTrail,
        numbers: Numbers,
        environment: str = "",
        monotonic: Clock = monotonic,
        wall: Clock = wall,
    ) -> None:
        self.over: Callable[[], str] = lambda: ""
        """What lies over the toggles, in words."""
        self._target = target
        self._kill = kill
        self._keeper = ToggleKeeper(file, journal, numbers)
        self._state = ToggleState(target, kill, self._keeper, numbers, environment=environment, wall=wall)
        self._returns = ToggleReturns(self._state, trail, monotonic=monotonic, wall=wall)
        self._wall = wall
        self._running: asyncio.Task[None] | None = None
        self._shown: tuple[tuple[Rule, ...], tuple[Mapping[str, Any], ...]] = ((), ())

    # -- what holds

    @property
    def version(self) -> int:
        """Grows with each change, kill and reload, over restarts too."""
        return self._target.policy.toggles.version

    @property
    def held(self) -> Held:
        """The version in force."""
        return self._state.held

    @property
    def baseline(self) -> str | None:
        """The baseline that they are, if any."""
        return baseline_of(self._target.policy.toggles)

    @property
    def flags(self) -> dict[str, bool]:
        """Those that routes ask for, and those that stand although no route does."""
        asked = dict.fromkeys(sorted(self._state.world.flags), True)
        return asked | dict(self._state.held.document.toggles.flags)

    def read(self) -> TogglesNow:
        it = self._state.held
        toggles_of = laid(values(it.document, rules=False))["toggles"]
        toggles = self._target.policy.toggles
        return TogglesNow(
            version=toggles.version,
            metadata=it.metadata,
            toggles={**toggles_of, "kill_switch": toggles.kill_switch},
            rules=self._rules(it.document.toggles.rules),
            flags=self.flags,
            baseline=self.baseline,
            reverts=self.reverts,
            kill=toggles.kill_switch,
            over=self.over(),
        )

    def _rules(self, rules: tuple[Rule, ...]) -> tuple[Mapping[str, Any], ...]:
        """As they are shown; kept, since they may be thousands and seldom change."""
        if self._shown[0] is not rules:
            self._shown = rules, tuple(rules_json(rules))
        return self._shown[1]

    @property
    def reverts(self) -> tuple[ReturnStatus, ...]:
        """What returns by itself, the next one first."""
        return tuple(
            ReturnStatus(at=each.at, version=each.version, names=tuple(named(each.before)))
            for each in sorted(self._state.held.returns, key=lambda each: each.at)
        )

    def troubles(self) -> Iterator[str]:
        """What is wrong and keeps no traffic away."""
        return self._state.troubles()

    async def history(self, *, before: int | None, limit: int) -> tuple[list[ToggleLine], int | None]:
        """Versions below `before`, the newest first, and where to go on. StoreError."""
        found = await self._keeper.page(before, limit + 1)
        return found[:limit], found[limit - 1].version if len(found) > limit else None

    async def past(self, within_s: float) -> list[tuple[float, Toggles]]:
        """The toggles that held in the last so many seconds, oldest first, with the seconds since each took
        effect; what cannot be read is left out. StoreError.
        """
        now = self._wall()
        kept = await self._keeper.since(rfc3339(now - within_s))
        found: list[tuple[float, Toggles]] = []
        for at, toggles in kept:
            ago = now - datetime.fromisoformat(at).timestamp()
            if found:
                ago = min(ago, found[-1][0])  # clocks jump; each came after the one before it
            found.append((max(0.0, ago), toggles))
        return found

    async def revert_to(self, version: int) -> Wanted:
        """What it takes to be as in that version; UnknownVersion, StoreError."""
        kept = await self._keeper.get(version)
        if kept is None:
            raise UnknownVersion(f"there is no version {version}: the history lists those there are")
        try:
            return revert(self._state.held.document, held(kept).document)
        except Damaged as error:
            raise StoreError(f"it cannot be read any more: {error}") from error

    def policy(self, plan: Plan) -> Policy:
        """What would be in force."""
        settings = self._state.settings
        return replace(settings, toggles=plan.toggles, experiment=plan.experiment or settings.experiment)

    # -- changes by people

    def plan(self, wanted: Wanted, *, thrown: bool = False) -> Plan:
        """What would come of it; TogglesRefused with every reason. Changes nothing.

        `thrown`: for this very change the kill switch has just been thrown.
        """
        return plan(self._state.held, wanted, self._state.world, now=self._wall(), thrown=thrown)

    async def throw(self, *, reason: str, by: str) -> int:
        """What of a change waits for nothing (design rule 2); the version that this made."""
        decision = self._kill.throw(reason=reason, by=by)
        await self._kill.remember(decision)
        return decision.version

    async def carry_out(self, plan: Plan, *, reason: str, by: str, strict: bool = False) -> TogglesNow:
        """In force, and kept, on return.

        TogglesStale when something came in between and `strict` forbids that; TogglesRefused when what came
        in between makes it impossible; StoreError when it cannot be kept: then nothing has changed but what
        the kill switch did. KillRefused when all has happened but its release.
        """
        work = self._carry_out(plan, reason, by, strict=strict)
        # Whoever waits may leave; what is in the store has to take effect all the same.
        failed = await asyncio.shield(spawn(_told(work), "change of toggles"))
        if failed is not None:
            raise failed
        return self.read()

    async def _carry_out(self, plan: Plan, reason: str, by: str, *, strict: bool) -> None:
        state = self._state
        try:
            await self._in_turn(plan, reason, by, strict=strict)
        finally:
            state.news.set()  # a failure, too, may leave something to be looked after
        await self._target.settled()

    async def _in_turn(self, plan: Plan, reason: str, by: str, *, strict: bool) -> None:
        state = self._state
        async with state.changing:
            await state.reconcile()
            if plan.looked_at != state.held.version:
                if strict or (plan.kill is False and state.held.document.toggles.kill_switch):
                    raise TogglesStale(f"the toggles have become version {self.version} in the meantime")
                plan = self.plan(plan.wanted, thrown=plan.thrown)
            if plan.kill:
                await self._kill.set(True, reason=reason, by=by)
                plan = self.plan(plan.wanted, thrown=True)
            decision = self._kill.decision
            if plan.more:
                await self._change(plan, reason, by)
            if plan.kill is False:
                if self._kill.decision is not decision:
                    raise KillRefused("not released: it was thrown again in the meantime")
                state.releasing = True
                try:
                    await self._kill.set(False, reason=reason, by=by)
                finally:
                    state.releasing = False

    async def _change(self, plan: Plan, reason: str, by: str) -> None:
        state = self._state
        number = state.numbers.next()
        returns, expires_at = plan.returns, ""
        if plan.wanted.ttl_s is not None:
            expires_at = rfc3339(self._wall() + plan.wanted.ttl_s)
            returns = (*returns[:-1], returns[-1]._replace(version=number, at=expires_at))
        new = state.following(
            version=number,
            actor=by,
            reason=reason,
            kind=plan.wanted.kind,
            document=plan.document,
            returns=returns,
            expires_at=expires_at,
        )
        try:
            await self._keeper.keep(new)
        except Overtaken:
            state.reconciled = False
            await state.reconcile()
            raise TogglesStale(f"the store has version {self.version}, which is in force now") from None
        except StoreError:
            state.reconciled = False  # the store may have it all the same, and a restart has to know that
            await self._keeper.catch_up_file(state.held)
            raise
        state.put(new)
        _log.warning("toggles are version %d by %s: %s", new.version, by, reason, extra={"diff": new.diff})

    # -- what comes by itself

    def restore(self) -> None:
        """The last good toggles and the kill decision are in force on return. Blocks."""
        self._state.restore()

    async def begin(self) -> None:
        """Before anything listens: ask the store where that did not help, return what ended meanwhile."""
        await self._state.begin()
        await self._returns.expire()
        if self._state.reconciled:  # the first start, as a rule: its version can be gone back to at once
            await self._catch_up()
        self._running = spawn(self._run(), "toggles")

    async def stop(self) -> None:
        """End, and keep what is in force as far as can be; bounded in time."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
            with suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    self._keeper.end()
                    await self._catch_up()

    async def _run(self) -> None:
        """Keep what is in force, take over what the store has, return what is due."""
        while True:
            self._state.news.clear()
            try:
                await self._returns.expire()
                await self._catch_up()
            except Exception:  # noqa: BLE001 - it has to go on
                _log.exception("toggles: what should happen by itself has failed")
            within = [self._returns.next_in(), RETRY_S if self._behind else None]
            with suppress(TimeoutError):
                async with asyncio.timeout(min((it for it in within if it is not None), default=None)):
                    await self._state.news.wait()

    @property
    def _behind(self) -> bool:
        return not self._state.reconciled or self._keeper.behind or not self._kill.status.persisted

    async def _catch_up(self) -> None:
        await self._kill.catch_up()
        state = self._state
        async with state.changing:
            try:
                if state.known:
                    await self._keeper.catch_up_file(state.held)
                await state.reconcile()
                await self._keeper.catch_up()
                await self._keeper.catch_up_file(state.held)
            except Overtaken:
                state.reconciled = False
            except StoreError:
                pass  # whoever keeps the store tells of it

    async def reload(self, policy: Policy, environment: str = "") -> None:
        """Take over settings read anew; of the toggles in them only a kill switch that is newly on counts."""
        state = self._state
        async with state.changing:
            newly_on = policy.toggles.kill_switch and not state.settings.toggles.kill_switch
            state.reload(policy, environment)
        if newly_on and not self._kill.status.kill:
            await self._kill.set(True, reason="kill_switch is newly true", by="toggles file")
        await self._target.settled()


async def _told(work: Coroutine[Any, Any, None]) -> FuseboxError | None:
    """How it failed, as a value: nobody may be there any more to hear an exception."""
    try:
        await work
    except FuseboxError as error:
        return error
    return None
