"""The state of the rollback on disk, checksummed, and the one before it: what a start goes on from.

Written in two files as the last good toggles are (`proxy.storage.toggles_file`), and as readable.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from proxy.ports import LastGood, RollbackStore
from proxy.storage.toggles_file import TogglesFile

T = TypeVar("T")


class RollbackFile:
    """A `RollbackStore` in `path` and, with `.before` behind its name, the one before. Calls block."""

    def __init__(self, path: Path) -> None:
        self._file = TogglesFile(path)

    def load(self, understand: Callable[[bytes], T]) -> LastGood[T] | None:
        return self._file.load(understand)

    def save(self, content: bytes) -> None:
        self._file.prepare(content).commit()


_: type[RollbackStore] = RollbackFile
