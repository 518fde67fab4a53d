"""The newest checkpoint, remembered beside the store and not in it."""

from pathlib import Path

from proxy.ports import StoreError
from proxy.ports.audit import LastSigned
from proxy.storage import atomic


class LastSignedFile:
    """In a file in the state directory: who can write to the store alone cannot change it. Calls block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        return str(self._path)

    def read(self) -> str:
        try:
            return self._path.read_text()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{self._path}: cannot be read: {error}") from error

    def write(self, note: str) -> None:
        atomic.replace(self._path, note.encode())

    def forget(self) -> None:
        """A person has put another store in place. StoreError when it stays."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be removed: {error.strerror or error}") from error


_: type[LastSigned] = LastSignedFile
