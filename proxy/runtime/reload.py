"""SIGHUP: the settings are read anew and take effect whole, or not at all."""

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime

from proxy.clock import wall
from proxy.control import KillSwitch, Reload, StatusBoard
from proxy.errors import SettingsError
from proxy.settings import Settings, changes_needing_restart, load

_log = logging.getLogger("fusebox.reload")


class Reloader:
    """Knows by which settings the sidecar `started`. How a reload ended is pinned to the status board."""

    def __init__(
        self, started: Settings, *, kill: KillSwitch, board: StatusBoard, set_level: Callable[[str], None]
    ) -> None:
        self._started = started
        self._kill = kill
        self._board = board
        self._set_level = set_level
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
                _log.info("reloaded", extra={"file": str(self._started.file)})

    async def _try(self) -> tuple[str, ...]:
        file = self._started.file
        try:
            new = await asyncio.to_thread(load, file, os.environ)
            if fixed := changes_needing_restart(self._started, new):
                return tuple(f"{file}: {name}: cannot change without a restart" for name in fixed)
            await self._kill.reload(new.policy())
        except SettingsError as error:
            return tuple(map(str, error.problems))
        self._set_level(new.log.level)
        return ()
