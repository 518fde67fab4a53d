"""The kill switch: every recommend answer from the popularity list in memory (facts 2.9).

Who has the last word:
- ON takes effect before anything else is tried. Remembering it comes second, and failing to
  remember never undoes it: the status says `persisted: false`, and setting it again tries again.
- OFF is remembered first. What cannot be remembered stays ON, or a restart would throw the
  switch again unasked.
- A decision outlives the process. Until the first one, the toggles file decides; afterwards the
  file counts only when a reload finds it newly ON.
- A store that cannot be read means that nobody knows: the sidecar starts killed and says so.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from proxy.clock import Clock, wall
from proxy.core.decide import pinned
from proxy.core.policy import Policy
from proxy.errors import FuseboxError
from proxy.ports import KillDecision, KillStore, PolicyTarget, StoreError

_log = logging.getLogger("fusebox.kill")
_FILE = "toggles file"
_MEND = "`fusebox kill off` (or `on`) with a reason writes it anew"


class KillRefused(FuseboxError):
    """The switch was not released; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillStatus:
    """The switch as it is now. `at` is RFC 3339; `reason`, `by` and `at` are empty before any decision."""

    kill: bool
    reason: str
    by: str
    at: str
    persisted: bool  # a restart would find the switch as it is now


class KillSwitch:
    """Throws and releases the switch by swapping the target's policy. One event loop owns it."""

    def __init__(self, target: PolicyTarget, store: KillStore, *, wall: Clock = wall) -> None:
        self._target = target
        self._store = store
        self._wall = wall
        self._decision: KillDecision | None = None
        self._persisted = True
        self._file_on = target.policy.toggles.kill_switch
        self._thrown = 0  # how often it was set ON: a release under way checks that none came between
        self._writing = asyncio.Lock()

    @property
    def status(self) -> KillStatus:
        on = self._target.policy.toggles.kill_switch
        if self._decision is None:
            return KillStatus(
                kill=on,
                reason="kill_switch is true" if on else "",
                by=_FILE if on else "",
                at="",
                persisted=True,
            )
        said = self._decision
        return KillStatus(kill=on, reason=said.reason, by=said.by, at=said.at, persisted=self._persisted)

    def restore(self) -> None:
        """Put the remembered decision in force; call it before the target listens."""
        try:
            self._decision = self._store.load()
        except StoreError as error:
            # `persisted` stays true: until somebody mends the file, a restart is killed again.
            why = f"the kill state cannot be read: {error}; {_MEND}"
            self._decision = self._said(True, why, "fusebox")
            _log.critical("starting killed: %s; %s", error, _MEND)
        if self._decision is None:
            return
        if self._file_on and not self._decision.kill:
            _log.warning(
                "the toggles file says kill_switch, but %s released it at %s: the decision stands; "
                "`fusebox kill on` throws it",
                self._decision.by,
                self._decision.at,
            )
        self._put(self._target.policy, on=self._decision.kill)

    async def reload(self, policy: Policy) -> None:
        """Apply a policy read anew from files. It never releases what a person has thrown, nor thaws what
        stays frozen (facts 2.13).
        """
        newly_on = policy.toggles.kill_switch and not self._file_on
        file_on = policy.toggles.kill_switch
        policy = pinned(policy, self._target.policy)
        self._put(policy, on=self._decision.kill if self._decision else file_on)
        self._file_on = file_on  # only now: a policy that was refused has changed nothing
        await self._target.settled()
        if newly_on and self._decision:
            await self.set(True, reason="kill_switch is newly true", by=_FILE)

    async def set(self, on: bool, *, reason: str, by: str) -> KillStatus:  # noqa: FBT001 - what it is about
        """Throw or release the switch; KillRefused when a release cannot be remembered."""
        decision = self._said(on, reason, by)
        if on:
            await self._throw(decision)
        else:
            await self._release(decision)
        return self.status

    async def _throw(self, decision: KillDecision) -> None:
        self._thrown += 1
        self._decision, self._persisted = decision, False
        self._put(self._target.policy, on=True)
        _log.warning("kill switch ON by %s: %s", decision.by, decision.reason)
        async with self._writing:
            try:
                await asyncio.to_thread(self._store.save, decision)
            except StoreError as error:
                _log.error("kill switch is ON, but a restart would forget it: %s", error)
            else:
                self._persisted = self._decision is decision
        await self._target.settled()

    async def _release(self, decision: KillDecision) -> None:
        thrown = self._thrown  # read before waiting: whoever throws while this waits comes after it
        async with self._writing:
            try:
                await asyncio.to_thread(self._store.save, decision)
            except StoreError as error:
                _log.warning("kill switch stays as it is: %s", error)
                raise KillRefused(f"not released, since a restart would not know of it: {error}") from error
            if self._thrown != thrown:
                raise KillRefused("not released: it was thrown again in the meantime")
            self._decision, self._persisted = decision, True
            self._put(self._target.policy, on=False)
            _log.warning("kill switch OFF by %s: %s", decision.by, decision.reason)
        await self._target.settled()

    def _put(self, policy: Policy, *, on: bool) -> None:
        version = max(policy.toggles.version, self._target.policy.toggles.version + 1)
        self._target.apply(replace(policy, toggles=replace(policy.toggles, kill_switch=on, version=version)))

    def _said(self, kill: bool, reason: str, by: str) -> KillDecision:  # noqa: FBT001 - a record's field
        at = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="seconds")
        return KillDecision(kill=kill, reason=reason, by=by, at=at)
