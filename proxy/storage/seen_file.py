"""Who was seen, in files that outlive the process (`core.seen`): mapped, so nothing has to be saved.

What a process has written is the system's at once: a kill loses nothing, a power failure the last
seconds. All processes of one sidecar share the file of one experiment.
"""

import hashlib
import mmap
import os
from contextlib import suppress
from pathlib import Path

from proxy.core.seen import SIZE
from proxy.ports import StoreError
from proxy.storage.directory import make
from proxy.storage.new_file import beside

KEPT = 3
"""Files of former experiments that stay: one may come back, by a slip in the settings or after it."""

_HEAD = b"fusebox seen 1\n".ljust(64, b"\0")
_POPULATED = getattr(mmap, "MAP_POPULATE", 0)  # read it now, and not when a request first needs a page


class SeenFiles:
    """The files of one state directory: `seen-….bloom`, one for each experiment."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, salt: bytes) -> Path:
        """The file of the experiment that draws with this salt."""
        return self._directory / f"seen-{hashlib.sha256(salt).hexdigest()[:16]}.bloom"

    def open(self, salt: bytes, *, new: bool) -> memoryview | None:
        """The cells, shared by whoever opens them; None: there is no file, and a `new` one is not wanted.

        StoreError when that cannot be. Blocks on the disk.
        """
        path = self.path(salt)
        try:
            if new and not path.exists():
                self._make(path)
                self._tidy(path)
            return _mapped(path)
        except FileNotFoundError:
            if new:
                raise StoreError(f"{path}: was removed meanwhile") from None
            return None
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror or error}") from error

    def _make(self, path: Path) -> None:
        """All of it is allocated: a disk that is full says so here, and not by a signal later on."""
        make(self._directory)
        with beside(path) as made:
            with made.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, len(_HEAD) + SIZE)
                file.write(_HEAD)
            with suppress(FileExistsError):  # another process was quicker
                os.link(made, path)

    def _tidy(self, current: Path) -> None:
        others = [path for path in self._directory.glob("seen-*.bloom") if path != current]
        others.sort(key=lambda path: -path.stat().st_mtime)
        for path in others[KEPT:]:
            path.unlink(missing_ok=True)


def _mapped(path: Path) -> memoryview:
    with path.open("r+b") as file:
        if file.read(len(_HEAD)) != _HEAD or path.stat().st_size <= len(_HEAD):
            raise StoreError(f"{path}: is no file of seen users; remove it, and a new one is begun")
        return memoryview(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED | _POPULATED))[len(_HEAD) :]
