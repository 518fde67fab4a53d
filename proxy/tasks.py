"""All background work starts here: named, referenced, its crash reported (design rule 9)."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger("fusebox.tasks")
_running: set[asyncio.Task[Any]] = set()


def spawn(work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    """Run `work` in the background; an exception it ends with is logged under `name`."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("background task %s crashed", task.get_name(), exc_info=error)
