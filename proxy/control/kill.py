"""The kill switch: every recommend answer from the popularity list in memory (facts 2.9).

Who has the last word:
- ON takes effect before anything else is tried. Remembering it comes second, and failing to
  remember never undoes it: the status says `persisted: false`, `trouble` says why, `catch_up` tries again.
- OFF is remembered first. What cannot be remembered stays ON, or a restart would throw the
  switch again unasked.
- A decision outlives the process. Until the first one, the toggles decide, and so does their file where it
  says ON; afterwards that counts only when a reload finds it newly ON.
- A store that cannot be read means that nobody knows: the sidecar starts killed and says so.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from proxy.clock import Clock, wall
from proxy.control.toggle_versions import Numbers
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
    rollback: str = ""  # why answers come from memory whatever the switch says, and what ends that


class KillSwitch:
    """Throws and releases the switch by swapping the target's policy. One event loop owns it.

    Its target's policy is, when this is made, as the settings say it.
    """

    def __init__(
        self,
        target: PolicyTarget,
        store: KillStore,
        *,
        numbers: Numbers | None = None,
        wall: Clock = wall,
    ) -> None:
        self.heard = _nobody
        """Called each time that the switch was thrown or released, once that is in force."""
        self.beyond = _nothing
        """Tells what else has recommend answers come from memory, and what ends it; empty: nothing does."""
        self.decision: KillDecision | None = None
        """The last word; None: nobody has said any."""
        self._target = target
        self._store = store
        self._numbers = numbers or Numbers(target.policy.toggles.version)
        self._wall = wall
        self._persisted = True
        self._failed = ""
        self._held_from: KillDecision | None = None
        self._file_on = target.policy.toggles.kill_switch
        self._thrown = 0  # how often it was set ON: a release under way checks that none came between
        self._writing = asyncio.Lock()

    @property
    def status(self) -> KillStatus:
        on = self._target.policy.toggles.kill_switch
        if self.decision is None:
            return KillStatus(
                kill=on,
                reason="kill_switch is true" if on else "",
                by=_FILE if on else "",
                at="",
                persisted=True,
                rollback=self.beyond(),
            )
        said = self.decision
        return KillStatus(
            kill=on,
            reason=said.reason,
            by=said.by,
            at=said.at,
            persisted=self._persisted,
            rollback=self.beyond(),
        )

    @property
    def trouble(self) -> str:
        """Why a restart would not find the switch as it is; empty: it would, or it is being written."""
        return "" if self._persisted else self._failed

    def in_force(self, *, otherwise: bool) -> bool:
        """What has been decided; `otherwise`: what holds as long as nothing has."""
        return otherwise if self.decision is None else self.decision.kill

    def restore(self) -> None:
        """Put the remembered decision in force; call it before the target listens."""
        try:
            self.decision = self._store.load()
        except StoreError as error:
            # `persisted` stays true: until somebody mends the file, a restart is killed again.
            why = f"the kill state cannot be read: {error}; {_MEND}"
            self.decision = self._said(True, why, "fusebox")
            _log.critical("starting killed: %s; %s", error, _MEND)
        if self.decision is None:
            return
        if self._file_on and not self.decision.kill:
            _log.warning(
                "the toggles file says kill_switch, but %s released it at %s: the decision stands; "
                "`fusebox kill on` throws it",
                self.decision.by,
                self.decision.at,
            )
        now = self._target.policy.toggles
        self._numbers.beyond(max(now.version, self.decision.version))
        if self.decision.version > now.version or self.decision.kill != now.kill_switch:
            # Not under its own number: what else held under that, nobody remembers.
            self._put(self.decision.kill, self._numbers.next())

    def hold(self, why: str) -> None:
        """Killed until `let_go`, or until somebody decides anew: nobody knows what else would be right.

        Before the target listens only: the version stays as it is.
        """
        if self._held_from is None and not self.in_force(otherwise=False):
            _log.critical("killed: %s", why)
            self._held_from = self.decision = self._said(True, why, "fusebox")
            self._put(True, self._target.policy.toggles.version)

    def let_go(self) -> None:
        """What was decided before `hold` holds again, unless somebody has decided since."""
        if self._held_from is not None and self.decision is self._held_from:
            self.decision = None
            with suppress(StoreError):
                self.decision = self._store.load()
        self._held_from = None

    async def set(self, on: bool, *, reason: str, by: str) -> KillStatus:  # noqa: FBT001 - what it is about
        """Throw or release the switch; KillRefused when a release cannot be remembered."""
        if on:
            await self.remember(self.throw(reason=reason, by=by))
        else:
            await self._release(self._said(False, reason, by))
        return self.status

    def throw(self, *, reason: str, by: str) -> KillDecision:
        """In force on return; `remember` has to follow."""
        self._thrown += 1
        decision = replace(self._said(True, reason, by), version=self._numbers.next())
        self.decision, self._persisted = decision, False
        self._put(True, decision.version)
        self.heard()
        _log.warning("kill switch ON by %s: %s", decision.by, decision.reason)
        return decision

    async def remember(self, decision: KillDecision) -> None:
        """A restart finds it thrown, or the status says `persisted: false`."""
        async with self._writing:
            await self._save(decision)
        await self._target.settled()

    async def catch_up(self) -> None:
        """Try again to remember what could not be; for whoever comes by every second."""
        if self.trouble:
            async with self._writing:
                # While this waited it may have been released, which is remembered.
                if self.decision is not None and not self._persisted:
                    await self._save(self.decision)

    async def _save(self, decision: KillDecision) -> None:
        try:
            await asyncio.to_thread(self._store.save, decision)
        except StoreError as error:
            told = f"the kill switch is ON, but a restart would forget it: {error}"
            if told != self._failed:
                _log.error("%s", told)
            self._failed = told
        else:
            self._persisted = self.decision is decision
            self._failed = ""

    async def _release(self, decision: KillDecision) -> None:
        thrown = self._thrown  # read before waiting: whoever throws while this waits comes after it
        async with self._writing:
            decision = replace(decision, version=self._numbers.next())
            try:
                await asyncio.to_thread(self._store.save, decision)
            except StoreError as error:
                _log.warning("kill switch stays as it is: %s", error)
                raise KillRefused(f"not released, since a restart would not know of it: {error}") from error
            if self._thrown != thrown:
                raise KillRefused("not released: it was thrown again in the meantime")
            version = self._numbers.next() if self._numbers.last != decision.version else decision.version
            self.decision, self._persisted, self._failed = decision, True, ""
            self._put(False, version)
            self.heard()
            _log.warning("kill switch OFF by %s: %s", decision.by, decision.reason)
        await self._target.settled()

    def _put(self, on: bool, version: int) -> None:  # noqa: FBT001 - what it is about
        policy = self._target.policy
        self._target.apply(replace(policy, toggles=replace(policy.toggles, kill_switch=on, version=version)))

    def _said(self, kill: bool, reason: str, by: str) -> KillDecision:  # noqa: FBT001 - a record's field
        at = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="seconds")
        return KillDecision(kill=kill, reason=reason, by=by, at=at)


def _nothing() -> str:
    """What else has answers come from memory."""
    return ""


def _nobody() -> None:
    """Hears that the switch has moved."""
