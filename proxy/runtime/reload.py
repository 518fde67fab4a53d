"""SIGHUP: the settings are read anew and take effect whole, or not at all."""

import asyncio
import logging
import os
from datetime import UTC, datetime

from proxy.clock import wall
from proxy.control import KillSwitch, Reload, StatusBoard
from proxy.errors import SettingsError
from proxy.settings import Settings, changes_needing_restart, load
from proxy.telemetry.logs import Logs

_log = logging.getLogger("fusebox.reload")


class Reloader:
    """Holds the settings in force. How the last reload ended is pinned to the status board."""

    def __init__(self, settings: Settings, *, kill: KillSwitch, board: StatusBoard, logs: Logs) -> None:
        self._settings = settings
        self._kill = kill
        self._board = board
        self._logs = logs
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> None:
        """Read the files and apply them, or log every reason why not and keep what is in force."""
        async with self._one_at_a_time:
            problems = await self._try()
            at = datetime.fromtimestamp(wall(), UTC).isoformat(timespec="seconds")
            self._board.reload = Reload(ok=not problems, at=at, problems=problems)
            if problems:
                _log.error("reload refused, settings stay as they were", extra={"problems": problems})
            else:
                _log.info("reloaded", extra={"file": str(self._settings.file)})

    async def _try(self) -> tuple[str, ...]:
        old = self._settings
        try:
            new = await asyncio.to_thread(load, old.file, os.environ)
        except SettingsError as error:
            return tuple(map(str, error.problems))
        if fixed := changes_needing_restart(old, new):
            return tuple(f"{old.file}: {name}: cannot change without a restart" for name in fixed)
        await self._kill.reload(new.policy())
        self._logs.set_level(new.log.level)
        self._settings = new
        return ()
