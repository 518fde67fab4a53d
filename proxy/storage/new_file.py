"""Files that appear under their name when they are whole, and never in the place of another."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from proxy.ports import StoreError


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A path beside `target`, an empty file of mode 0600, to be filled; durable under its name afterwards.

    StoreError when there is a file of that name or it cannot be written; then nothing is left behind.
    """
    if target.exists():
        raise StoreError(f"{target}: is there already, and nothing is overwritten: name another file")
    with beside(target) as made:
        yield made
        publish(made, target)


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """An empty file of mode 0600 next to `target`; what is left of it in the end is removed."""
    made = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield made
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        for companion in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):  # a read-only file system says so before it says that nothing is there
                Path(f"{made}{companion}").unlink()


def publish(made: Path, target: Path) -> None:
    """Give it its name, durably; StoreError when that is taken."""
    _sync(made, os.O_RDONLY)
    try:
        os.link(made, target)
    except FileExistsError as error:
        raise StoreError(f"{target}: has appeared meanwhile, and nothing is overwritten") from error
    except OSError:  # a file system without hard links
        made.rename(target)
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Make the names in it durable."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def belong(path: Path) -> None:
    """Root leaves what it makes to the owner of the directory: the sidecar has to be able to open it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
