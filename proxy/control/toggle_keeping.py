"""Where versions of the toggles are kept: in the store, all of them, and the last good one in a file.

What a person changes is kept in both before it takes effect. What cannot wait (a kill, a reload, the end of
a time limit) takes effect first and is kept as soon as that is possible.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter

from proxy.control.toggle_versions import Held, Memory, Numbers, memorised, remembered, row
from proxy.core.toggle_values import Damaged, Reader
from proxy.core.toggles import Toggles
from proxy.ports import LastGood, LastGoodToggles, StoreError, Writing
from proxy.ports.records import Journal, Records, ToggleLine, ToggleVersion

_log = logging.getLogger("fusebox.toggles")

MAX_SINCE = 500
"""Versions that are looked at of the past."""
AHEAD = 100
"""Numbers that a sidecar may show before the file knows of them: a kill waits for no disk."""
READ_S = 5.0
"""What the store is given to tell its newest version."""
MAX_WAITING = 20
"""Versions that wait for the store; then those in the middle are left out of the history."""


class Overtaken(Exception):
    """The store has a version that this sidecar does not know of."""


class ToggleKeeper:
    """One change at a time: whoever calls `keep` and `catch_up` sees to it that they do not overlap."""

    def __init__(self, file: LastGoodToggles, journal: Journal, numbers: Numbers) -> None:
        self.waiting: list[Held] = []
        """What the store lacks, oldest first."""
        self.settings = ""
        """What the settings said at the last load."""
        self.file_trouble = ""
        self.store_trouble = ""
        self.sure = 0
        """The newest version that this sidecar knows the store to have, or goes by without it."""
        self.promised = 0
        """Up to here numbers may have been shown."""
        self._file = file
        self._journal = journal
        self._numbers = numbers
        self._ahead = AHEAD
        self._given_up: tuple[int, ...] = ()
        self._in_file = False  # the file holds what is in force

    def load(self) -> LastGood[Memory] | None:
        """What the file holds; None when there never was one. StoreError: nobody can tell. Blocks."""
        found = self._file.load(remembered)
        if found is not None:
            *self.waiting, _ = found.found.versions
            self._given_up = found.found.given_up
            self.promised = found.found.promised
            # Those that wait came after what the store is sure to have.
            self.sure = found.found.versions[0].version - bool(self.waiting)
            self.settings = found.found.file
            self._in_file = not found.trouble
        return found

    def note(self, version: Held) -> None:
        """It is in force; `catch_up` keeps it."""
        self.waiting.append(version)
        if len(self.waiting) > MAX_WAITING:
            del self.waiting[1]
        self._in_file = False

    def stale(self) -> None:
        """The file does not hold what is in force."""
        self._in_file = False

    def end(self) -> None:
        """No number is shown any more that the file does not know of."""
        self._ahead = 0
        self._in_file = False

    def gave_up(self, number: int) -> bool:
        """Whether it was refused, although the store may have it."""
        return number in self._given_up

    async def keep(self, version: Held) -> None:
        """In store and file on return; StoreError: in neither. Overtaken: the store has a newer one."""
        if self._journal.trouble:
            raise StoreError(self._journal.trouble)
        rows, written = await asyncio.to_thread(self._prepare, (*self.waiting, version))
        try:
            await self._journal.write(lambda records: _append(records, rows))
        except BaseException as error:
            await asyncio.to_thread(written.discard)
            if isinstance(error, ValueError):
                raise Overtaken from error
            self._given_up = (*self._given_up, version.version)
            self._in_file = False
            raise
        del self.waiting[: len(rows) - 1]
        self._given_up = ()
        self.sure = version.version
        await asyncio.to_thread(self._commit, written)

    async def catch_up_file(self, now: Held) -> None:
        """See that the file holds what is in force; that it cannot be written is told as trouble."""
        if not self._in_file:
            await asyncio.to_thread(self._save, now)

    async def catch_up(self) -> None:
        """Give the store what it lacks. Overtaken; that it cannot be written is told as trouble."""
        if not self.waiting:
            return
        rows = await asyncio.to_thread(_rows, tuple(self.waiting))
        try:
            await self._journal.write(lambda records: _append(records, rows))
        except StoreError as error:
            self.store_trouble = f"the store lacks version {rows[-1].version} of the toggles: {error}"
            return
        except ValueError as error:
            raise Overtaken from error
        known = {it.version for it in rows}
        self.waiting = [it for it in self.waiting if it.version not in known]
        self.sure = rows[-1].version
        self.store_trouble = ""

    async def newest(self) -> ToggleVersion | None:
        """StoreError, also when the store takes too long: changes wait meanwhile."""
        try:
            async with asyncio.timeout(READ_S):
                return await self._journal.read(lambda records: records.toggles.newest())
        except TimeoutError:
            raise StoreError(f"the store has not been read within {READ_S:g} s") from None

    async def get(self, number: int) -> ToggleVersion | None:
        return await self._journal.read(lambda records: records.toggles.get(number))

    async def since(self, at: str) -> list[tuple[str, Toggles]]:
        """What held from then on (RFC 3339) and since when, oldest first; of very many the newest. What
        cannot be read is left out.
        """
        return await self._journal.read(lambda records: _since(records, at))

    async def page(self, before: int | None, limit: int) -> list[ToggleLine]:
        return await self._journal.read(lambda records: records.toggles.page(before=before, limit=limit))

    @property
    def behind(self) -> bool:
        """Whether `catch_up` has something to do."""
        return bool(self.waiting) or not self._in_file

    # In a thread.

    def _prepare(self, versions: Sequence[Held]) -> tuple[list[ToggleVersion], Writing]:
        rows = _rows(versions)
        return rows, self._file.prepare(memorised(rows[-1:], self.settings, promised=self._promise()))

    def _promise(self) -> int:
        return self._numbers.last + self._ahead

    def _commit(self, written: Writing) -> None:
        try:
            written.commit()
        except StoreError as error:
            self._failed(error)
        else:
            self._in_file, self.file_trouble = True, ""

    def _save(self, now: Held) -> None:
        versions = [*(it for it in self.waiting if it.version < now.version), now]
        try:
            content = memorised(_rows(versions), self.settings, self._given_up, self._promise())
            self._file.prepare(content).commit()
        except StoreError as error:
            self._failed(error)
        else:
            self._in_file, self.file_trouble = True, ""

    def _failed(self, error: StoreError) -> None:
        told = f"a restart without the store would bring back older toggles: {error}"
        if told != self.file_trouble:
            _log.error("%s", told)
        self._in_file, self.file_trouble = False, told


def same(one: ToggleVersion | None, other: ToggleVersion) -> bool:
    """Whether they are one version. Its document may be written anew by a newer sidecar."""
    return one is not None and _mark(one) == _mark(other)


_mark = attrgetter("version", "at", "actor", "reason", "kind", "diff")


def _since(records: Records, at: str) -> list[tuple[str, Toggles]]:
    """In the store's thread: many versions of many rules would keep the loop for minutes."""
    found: list[tuple[str, Toggles]] = []
    reader = Reader()
    for line in records.toggles.page(before=None, limit=MAX_SINCE):
        version = records.toggles.get(line.version)
        if version is not None:
            with suppress(Damaged):
                found.append((line.at, reader.read(version.document).toggles))
        if line.at <= at:
            break
    return found[::-1]


def _rows(versions: Sequence[Held]) -> list[ToggleVersion]:
    return [row(it) for it in versions]


def _append(records: Records, rows: list[ToggleVersion]) -> None:
    newest = records.toggles.newest()
    for each in rows:
        # What was only too slow may be there all the same.
        if newest is None or each.version > newest.version:
            records.toggles.append(each)
        elif not same(records.toggles.get(each.version), each):
            raise ValueError(f"there is another version {newest.version} already")
