"""The state directory: whether what must outlive the process can be kept in it, and whose it is."""

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.ports import StoreError

_log = logging.getLogger("fusebox.state")


class InUse(StoreError):
    """Another sidecar holds it."""


def make(directory: Path) -> None:
    """See that it is there; StoreError when something else is in its place, or it cannot be made."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"{error.filename} is not a directory") from error
    except OSError as error:
        raise StoreError(f"{directory} cannot be made: {error.strerror or error}") from error


def try_write(directory: Path) -> None:
    """Write there as a decision would be written, and leave nothing behind; StoreError when that fails."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".try.", dir=directory):
            pass
    except OSError as error:
        raise StoreError(f"{directory} cannot be written: {error.strerror or error}") from error


def try_make(directory: Path) -> None:
    """Whether `make` would succeed, and `try_write` then, for whoever asks; StoreError when not.

    Makes nothing: of a missing directory it is the nearest one above that has to be writable.
    """
    there = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise StoreError(f"{there} is not a directory")
    try_write(there)


@contextmanager
def hold(directory: Path) -> Iterator[None]:
    """The only sidecar there for as long as this lasts; InUse when another one is.

    The system takes the lock back however the process ends. Where a lock cannot be had at all, the
    log says so and the sidecar runs without: its directory may be read-only, its kill switch is needed.
    """
    handle = -1
    try:
        handle = os.open(directory / "sidecar.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InUse(f"{directory} is in use by another sidecar") from None
    except OSError as error:
        _log.warning("no lock on %s: another sidecar there would go unnoticed: %s", directory, error.strerror)
    try:
        yield
    finally:
        if handle >= 0:
            os.close(handle)  # gives the lock back
