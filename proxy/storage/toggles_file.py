"""The last good toggles, beside the store: what a start goes by before, and without, the store.

Two files, the newest and the one before it, each one line about itself and then what it holds:
`{"format": 1, "sha256": …}`. A file whose checksum is wrong, or that cannot be understood, counts for
nothing, and whoever loads is told.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import orjson

from proxy.ports import LastGood, LastGoodToggles, StoreError, Writing
from proxy.storage import atomic

T = TypeVar("T")

FORMAT = 1


class TogglesFile:
    """A `LastGoodToggles` in `path` and, with `.before` behind its name, the one before. Calls block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = path.with_name(path.name + ".before")
        self._newest: bytes | None = None  # as it is on the disk, if that is sound

    def load(self, understand: Callable[[bytes], T]) -> LastGood[T] | None:
        wrong: list[str] = []
        there = False
        for path in (self.path, self.before):
            try:
                content = path.read_bytes()
                found = understand(_checked(content))
            except FileNotFoundError:
                wrong.append(f"{path} is missing")
            except (OSError, ValueError) as error:
                there = True
                said = error.strerror if isinstance(error, OSError) else ""
                wrong.append(f"{path} cannot be used: {said or error}")
            else:
                if path == self.path:
                    self._newest = content
                return LastGood(found=found, trouble="; ".join(wrong))
        if there:
            raise StoreError("; ".join(wrong))
        return None

    def prepare(self, content: bytes) -> Writing:
        if self._newest is not None:
            atomic.replace(self.before, self._newest)
        whole = _line(content) + content
        prepared = atomic.prepare(self.path, whole)
        return _Written(self, prepared, whole)


class _Written:
    def __init__(self, file: TogglesFile, prepared: atomic.Prepared, whole: bytes) -> None:
        self._file = file
        self._prepared = prepared
        self._whole = whole

    def commit(self) -> None:
        self._prepared.commit()
        self._file._newest = self._whole  # noqa: SLF001 - half of it

    def discard(self) -> None:
        self._prepared.discard()


def _line(content: bytes) -> bytes:
    return orjson.dumps({"format": FORMAT, "sha256": hashlib.sha256(content).hexdigest()}) + b"\n"


def _checked(whole: bytes) -> bytes:
    line, _, content = whole.partition(b"\n")
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict) or "sha256" not in said:
        raise ValueError("its first line is not that of such a file")
    if said.get("format") != FORMAT:
        raise ValueError(f"it is of format {said.get('format')}, and this version knows {FORMAT}")
    if said["sha256"] != hashlib.sha256(content).hexdigest():
        raise ValueError("its checksum is wrong")
    return content


_: type[LastGoodToggles] = TogglesFile
