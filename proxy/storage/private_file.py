"""Files that nobody else may read: what others have had, or could have written, proves nothing."""

import os
import stat
from pathlib import Path

from proxy.ports import StoreError


def read(path: Path, otherwise: str) -> bytes:
    """All that is in it. StoreError says what is wrong, also that others may read or write it, and the way
    out: to forbid that, or `otherwise`.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    if mode & 0o077:
        raise StoreError(
            f"{path}: others may read or write it (mode {mode:03o}), so it proves nothing: "
            f"say  chmod 600  if nobody had it, or {otherwise}"
        )
    return content
