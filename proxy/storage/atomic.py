"""Replacing a file so that a reader, or a power cut, meets the old content or the new, never half."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from proxy.ports import StoreError


def replace(path: Path, content: bytes) -> None:
    """Durable on return, mode 0600, missing directories made; StoreError changes nothing."""
    prepare(path, content).commit()


def prepare(path: Path, content: bytes) -> "Prepared":
    """All of `replace` that needs room on the disk. Either `commit` or `discard` has to follow.

    StoreError changes nothing.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Prepared(path, _beside(path, content))
    except OSError as error:
        raise _told(path, error) from error


class Prepared:
    """New content, durable beside its file."""

    def __init__(self, path: Path, beside: Path) -> None:
        self._path = path
        self._beside = beside

    def commit(self) -> None:
        """Put it in the place of the old one, durably; StoreError changes nothing."""
        try:
            self._beside.replace(self._path)
        except OSError as error:
            self.discard()
            raise _told(self._path, error) from error
        # the new name itself is durable only when the directory is
        try:
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise _told(self._path, error) from error

    def discard(self) -> None:
        with suppress(OSError):
            self._beside.unlink(missing_ok=True)


def _beside(path: Path, content: bytes) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # its mode is 0600
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return beside


def _told(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: cannot be written: {error.strerror or error}")
