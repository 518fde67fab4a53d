"""SIGHUP: the settings are read anew and take effect whole, or not at all."""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from proxy.clock import wall
from proxy.control import KillSwitch, Reload, StatusBoard, ToggleControl
from proxy.core.audit import Outcome
from proxy.errors import SettingsError
from proxy.ports import StoreError
from proxy.ports.audit import AuditTrail
from proxy.runtime.signing import Signing
from proxy.settings import Settings, changes_needing_restart, load

_log = logging.getLogger("fusebox.reload")

_REASON_CHARACTERS = 1_000


class Reloader:
    """Knows by which settings the sidecar `started`. How a reload ended is pinned to the status board."""

    def __init__(
        self,
        started: Settings,
        *,
        kill: KillSwitch,
        toggles: ToggleControl,
        board: StatusBoard,
        trail: AuditTrail,
        set_level: Callable[[str], None],
        signing: Signing,
    ) -> None:
        self._started = started
        self._kill = kill
        self._toggles = toggles
        self._board = board
        self._trail = trail
        self._set_level = set_level
        self._signing = signing
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> None:
        """Read the files and apply them, or log every reason why not and keep what is in force."""
        async with self._one_at_a_time:
            problems = await self._try()
            if problems:
                await self._note_refusal(problems)
            at = datetime.fromtimestamp(wall(), UTC).isoformat(timespec="seconds")
            self._board.reload = Reload(ok=not problems, at=at, problems=problems)
            if problems:
                _log.error("reload refused, settings stay as they were", extra={"problems": problems})
            else:
                _log.info("reloaded", extra={"file": str(self._started.file)})

    async def _try(self) -> tuple[str, ...]:
        file = self._started.file
        try:
            new = await asyncio.to_thread(load, file, os.environ)
            if fixed := changes_needing_restart(self._started, new):
                return tuple(f"{file}: {name}: cannot change without a restart" for name in fixed)
            # Before its effect, in the spool: a reload may be what mends the store (decision 63).
            await self._note(Outcome.ACCEPTED)
            killed = self._kill.status.kill
            key = await asyncio.to_thread(self._signing.key, new)
            await self._toggles.reload(new.policy(key), new.environment)
        except SettingsError as error:
            return tuple(map(str, error.problems))
        except StoreError as error:
            return (f"{file}: cannot be recorded, so it did not happen: {error}",)
        self._set_level(new.log.level)
        if self._kill.status.kill and not killed:
            await self._note_kill()
        return ()

    async def _note(self, outcome: Outcome, reason: str = "") -> None:
        entry = self._trail.entry(
            "settings.reload", outcome, actor="SIGHUP", target=str(self._started.file), reason=reason
        )
        await asyncio.to_thread(self._trail.note, entry)

    async def _note_refusal(self, problems: tuple[str, ...]) -> None:
        with suppress(StoreError):  # nothing has changed, and the log on stdout tells why
            await self._note(Outcome.REFUSED, "; ".join(problems)[:_REASON_CHARACTERS])

    async def _note_kill(self) -> None:
        said = self._kill.status
        entry = self._trail.entry(
            "kill.on", Outcome.DONE, actor=said.by, target="kill", after={"kill": True}, reason=said.reason
        )
        try:
            await asyncio.to_thread(self._trail.note, entry)
        except StoreError as error:
            _log.error("kill.on is in force, but the audit log does not know: %s", error)
