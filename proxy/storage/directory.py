"""The state directory: whether what must outlive the process can be kept in it."""

import tempfile
from pathlib import Path

from proxy.ports import StoreError


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
