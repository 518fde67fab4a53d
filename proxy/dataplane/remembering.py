"""Whom the experiment has seen: noted while it runs, asked while it is frozen (facts 2.13)."""

import asyncio
import logging
from typing import Protocol

from proxy.core.experiment import Experiment
from proxy.core.seen import SIZE, Seen
from proxy.errors import FuseboxError
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.experiment")

MOST_WAITING = 10_000
"""Users noted while the file is being opened; whoever comes on top is noted with the next request."""
_IN_MEMORY = "users seen by the experiment are kept in memory, and a restart forgets them"
_UNKNOWN = "the experiment is frozen, and nobody gets control for being new: who was seen before is not known"

CROWDED = 0.01
"""A filter that takes more new users than this for known ones is told of."""


class Files(Protocol):
    """Where the cells of a filter outlive the process. Blocks on a disk."""

    def open(self, salt: bytes, *, new: bool) -> memoryview | None:
        """The cells for this experiment; None: there are none and no `new` ones are wanted. FuseboxError."""


class Remembering:
    """One process's view of who was seen. Without `files` a restart forgets it."""

    def __init__(self, files: Files | None = None) -> None:
        self._files = files
        self._salt = b""  # of the experiment that it is for; empty: none runs
        self._frozen = False
        self._seen: Seen | None = None  # None: not known (yet)
        self._opening: asyncio.Task[None] | None = None
        self._waiting: set[bytes] = set()
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """What is wrong with it; empty: nothing."""
        if self._trouble or self._seen is None:
            return self._trouble
        share = self._seen.false_share()
        if share <= CROWDED:
            return ""
        return f"the experiment has seen so many users that 1 of {round(1 / share)} new ones passes for known"

    def turn(self, experiment: Experiment, *, frozen: bool) -> None:
        """Be about this experiment from now on."""
        salt = experiment.salted if experiment.name else b""
        thawed = self._frozen and not frozen
        self._frozen = frozen
        if salt != self._salt:
            self._salt, self._seen, self._trouble = salt, None, ""
            self._waiting.clear()
        elif self._seen is not None or not thawed:
            return
        if not salt:
            return
        if self._files is None:
            self._seen = None if frozen else Seen(bytearray(SIZE))
        else:
            self._opening = spawn(
                self._open(self._files, salt, new=not frozen), "open the file of seen users"
            )

    async def ready(self) -> None:
        """Return when the file is open, or is known to be none."""
        if self._opening is not None:
            await asyncio.shield(self._opening)

    def add(self, user: bytes) -> None:
        """Note a user, if that is not done already."""
        seen = self._seen
        if seen is not None:
            seen.add(user)
        elif len(self._waiting) < MOST_WAITING:
            self._waiting.add(user)

    def __contains__(self, user: object) -> bool:
        """Whether a user was seen; everybody, as long as that is not known: nobody is moved by a guess."""
        return self._seen is None or user in self._seen  # type: ignore[operator]  # bytes, by `Decider`

    async def _open(self, files: Files, salt: bytes, *, new: bool) -> None:
        cells: memoryview | bytearray | None
        trouble = ""
        try:
            cells = await asyncio.to_thread(files.open, salt, new=new)
            if cells is None:
                trouble = f"{_UNKNOWN}: there is no file of them"
        except FuseboxError as error:
            cells = bytearray(SIZE) if new else None
            trouble = f"{_IN_MEMORY if new else _UNKNOWN}: {error}"
        if salt != self._salt or self._seen is not None:
            return  # it is about another experiment by now
        if cells is not None:
            self._seen = Seen(cells)
            for user in self._waiting:
                self._seen.add(user)
            self._waiting.clear()
        if trouble and trouble != self._trouble:
            _log.warning("%s", trouble)
        self._trouble = trouble
