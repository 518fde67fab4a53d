"""Changes with a time limit return by themselves. Wall time labels when, monotonic time decides."""

import asyncio
import logging
from datetime import datetime
from typing import Any

from proxy.clock import Clock
from proxy.control.kill import KillRefused
from proxy.control.toggle_plans import named
from proxy.control.toggle_state import SIDECAR, ToggleState
from proxy.core.audit import Outcome
from proxy.core.toggle_changes import Return, over, returned
from proxy.core.toggle_values import KILL, Place, Values, laid
from proxy.ports import StoreError
from proxy.ports.audit import AuditTrail

_log = logging.getLogger("fusebox.toggles")

RELEASE_AGAIN_S = 30.0
"""Between two tries to release the kill switch when its time is over and a restart would not know of it."""


class ToggleReturns:
    """Those of the version that is held."""

    def __init__(self, state: ToggleState, trail: AuditTrail, *, monotonic: Clock, wall: Clock) -> None:
        self._state = state
        self._trail = trail
        self._monotonic = monotonic
        self._wall = wall
        self._deadlines: dict[int, float] = {}  # by version

    def next_in(self) -> float | None:
        """Seconds until the next one is due; None: there is none."""
        self._know()
        return max(0.0, min(self._deadlines.values()) - self._monotonic()) if self._deadlines else None

    async def expire(self) -> None:
        """Return what is due, one after the other."""
        self._know()
        now = self._monotonic()
        due = sorted((at, version) for version, at in self._deadlines.items() if at <= now)
        for _, version in due:
            async with self._state.changing:
                ended = next((it for it in self._state.held.returns if it.version == version), None)
                if ended is not None:
                    await self._return(ended)
            await self._state.target.settled()
        self._know()

    def _know(self) -> None:
        """A deadline for each, fixed when it is first seen. What a clock that jumped says of it, the time
        limit bounds.
        """
        there = {it.version: it for it in self._state.held.returns}
        for version in self._deadlines.keys() - there.keys():
            del self._deadlines[version]
        for version in there.keys() - self._deadlines.keys():
            remains = datetime.fromisoformat(there[version].at).timestamp() - self._wall()
            self._deadlines[version] = self._monotonic() + min(max(0.0, remains), there[version].ttl_s)

    async def _return(self, ended: Return) -> None:
        state = self._state
        reason = f"the time of version {ended.version} is over"
        await self._record("toggles.expired", ended, reason)
        # Whoever moves the kill switch while this waits takes it out of what returns.
        if self._over(ended)[0].get(KILL) is True and not state.kill.status.kill:
            await state.kill.set(True, reason=reason, by=SIDECAR)
        back, left = self._over(ended)
        kill = back.pop(KILL, None)
        self._set(back, left, reason)
        if kill is False and state.kill.status.kill:
            decision = state.kill.decision
            try:
                await state.kill.set(False, reason=reason, by=SIDECAR)
            except KillRefused as error:
                _log.error("the kill switch stays on although its time is over: %s", error)
                if state.kill.decision is decision:  # nobody has thrown it again
                    self._release_again(ended, reason)

    def _over(self, ended: Return) -> tuple[dict[Place, Any], tuple[Return, ...]]:
        returns = self._state.held.returns
        if all(it.version != ended.version for it in returns):
            return {}, returns
        return over(returns, ended.version)

    def _release_again(self, ended: Return, reason: str) -> None:
        state = self._state
        again = ended._replace(before={KILL: False})
        state.note(
            state.following(
                actor=SIDECAR, reason=reason, kind="expired", returns=(*state.held.returns, again)
            )
        )
        self._deadlines[ended.version] = self._monotonic() + RELEASE_AGAIN_S

    def _set(self, back: Values, left: tuple[Return, ...], reason: str) -> None:
        state = self._state
        document, faults = returned(state.held.document, back, state.world)
        if faults:  # each change was checked against what returns after it
            said = "; ".join(it.message for it in faults)
            reason = f"{reason}, but it cannot return, and stays: {said}"
            _log.error("%s", reason)
            document = state.held.document
        state.note(
            state.following(actor=SIDECAR, reason=reason, kind="expired", document=document, returns=left)
        )
        _log.warning("toggles are version %d: %s", state.held.version, reason)

    async def _record(self, action: str, ended: Return, reason: str) -> None:
        """In the spool, as what cannot wait for the store; it happens whether or not that has room."""
        after = {
            name: value
            for name, value in laid(ended.before).get("toggles", {}).items()
            if not isinstance(value, list)
        }
        entry = self._trail.entry(
            action,
            Outcome.DONE,
            actor=SIDECAR,
            target="toggles",
            after=after or {"names": ", ".join(named(ended.before))},
            reason=reason,
        )
        try:
            await asyncio.to_thread(self._trail.note, entry)
        except StoreError as error:
            _log.error("%s is not in the audit log: %s", action, error)
