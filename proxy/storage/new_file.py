"""A file that appears under its name when it is whole, and never in the place of another."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.ports import StoreError


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A path beside `target`, an empty file of mode 0600, to be filled; durable under its name afterwards.

    StoreError when there is a file of that name or it cannot be written; then nothing is left behind.
    """
    if target.exists():
        raise StoreError(f"{target}: is there already, and nothing is overwritten: name another file")
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield beside
        _sync(beside, os.O_RDONLY)
        _name(beside, target)
        sync_directory(target.parent)
    except FileExistsError as error:
        raise StoreError(f"{target}: has appeared meanwhile, and nothing is overwritten") from error
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        for companion in ("", "-wal", "-shm", "-journal"):
            Path(f"{beside}{companion}").unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in it durable."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _name(beside: Path, target: Path) -> None:
    try:
        os.link(beside, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        beside.rename(target)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
