"""Bearer tokens on disk, as hashes: who reads the file cannot speak for anybody.

A token carries 256 random bits, so one round of SHA-256 is enough; there is nothing to guess.
The file is replaced whole under a lock file, and a running sidecar notices the new one.
"""

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from proxy.clock import Clock, wall
from proxy.core.roles import Principal, Role
from proxy.errors import FuseboxError
from proxy.ports import StoreError
from proxy.storage import atomic

_log = logging.getLogger("fusebox.tokens")
PREFIX = "fbx_"  # lets scanners of leaked secrets know ours


class NameTaken(FuseboxError):
    """Names in the log must mean one token each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """What is kept of a token. `created` is RFC 3339."""

    name: str
    role: Role
    sha256: str
    created: str


class TokenFile:
    """A `TokenStore` in one file. Making a token blocks on the disk; verifying costs one stat."""

    def __init__(self, path: Path, *, wall: Clock = wall) -> None:
        self.path = path
        self._wall = wall
        self._records: tuple[TokenRecord, ...] = ()
        self._seen: tuple[int, int, int] | None = None  # inode, mtime, size of what was read last
        self._bad: tuple[int, int, int] | None = None  # the same of what could not be read

    def create(self, name: str, role: Role) -> str:
        """A new token, shown this once; NameTaken, or StoreError when it cannot be kept."""
        token = PREFIX + secrets.token_urlsafe(32)
        with self._locked():
            records = self._read()
            if any(record.name == name for record in records):
                raise NameTaken(f"a token named {name!r} exists: choose another name, or revoke it first")
            created = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="seconds")
            self._write(
                (*records, TokenRecord(name=name, role=role, sha256=_hash(token), created=created)),
            )
        return token

    def revoke(self, name: str) -> bool:
        """Whether there was one of this name. A running sidecar refuses it from its next request on."""
        with self._locked():
            records = self._read()
            kept = tuple(record for record in records if record.name != name)
            if len(kept) == len(records):
                return False
            self._write(kept)
        return True

    def records(self) -> tuple[TokenRecord, ...]:
        """All tokens, oldest first; StoreError when the file cannot be understood."""
        return self._read()

    def verify(self, token: str) -> Principal | None:
        """Whom the token stands for, by the file as it is now.

        When somebody has broken the file, the last good content goes on to count, so that the
        kill switch stays within reach; StoreError only when there never was any.
        """
        self._refresh()
        asked = _hash(token)
        found = None
        for record in self._records:  # all of them: how long it takes tells nothing
            if hmac.compare_digest(record.sha256, asked):
                found = Principal(name=record.name, role=record.role)
        return found

    def _refresh(self) -> None:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._records, self._seen = (), None
            return
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        now = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if now in (self._seen, self._bad):
            return
        try:
            self._records, self._seen = self._read(), now
        except StoreError as error:
            if self._seen is None:
                raise
            self._bad = now
            _log.error("tokens stay as they were: %s", error)

    def _read(self) -> tuple[TokenRecord, ...]:
        try:
            raw = orjson.loads(self.path.read_bytes())
            return tuple(map(_record, raw["tokens"]))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{self.path}: no list of tokens: {error!r}") from error

    def _write(self, records: tuple[TokenRecord, ...]) -> None:
        rows = [
            {"name": it.name, "role": it.role.label, "sha256": it.sha256, "created": it.created}
            for it in records
        ]
        atomic.replace(self.path, orjson.dumps({"tokens": rows}, option=orjson.OPT_INDENT_2) + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{lock}: cannot be opened: {error.strerror or error}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)  # gives the lock back


def _record(raw: Any) -> TokenRecord:
    name, role, digest, created = raw["name"], raw["role"], raw["sha256"], raw["created"]
    if not (isinstance(name, str) and isinstance(digest, str) and len(digest) == 64 and digest.isascii()):
        raise ValueError("an entry without a name or a sha256")
    return TokenRecord(name=name, role=Role.named(role), sha256=digest, created=str(created))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
