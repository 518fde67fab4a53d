"""Bearer tokens on disk, as hashes: who reads the file cannot speak for anybody.

A token carries 256 random bits, so one round of SHA-256 is enough; there is nothing to guess.
The file is replaced whole under a lock file, and a running sidecar notices the new one. A revoked
token stays in it, so that its name goes on to mean what it meant in the log.
"""

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from proxy.clock import Clock, wall
from proxy.core.roles import Cause, Principal, Rejected, Role
from proxy.errors import FuseboxError
from proxy.ports import StoreError
from proxy.storage import atomic

_log = logging.getLogger("fusebox.tokens")
PREFIX = "fbx_"  # lets scanners of leaked secrets know ours


class NameTaken(FuseboxError):
    """Names in the log must mean one token each, for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """What is kept of a token. Moments are RFC 3339, UTC; empty: never."""

    name: str
    role: Role
    sha256: str
    created: str
    expires: str = ""
    revoked: str = ""

    def refused(self, now: float) -> Cause | None:
        """Why it does not count at this wall time; None: it does."""
        if self.revoked:
            return Cause.REVOKED
        if self.expires and datetime.fromisoformat(self.expires).timestamp() <= now:
            return Cause.EXPIRED
        return None


Recorder = Callable[[TokenRecord], None]
"""Called with what is about to be true; what it raises prevents it (design rule 1)."""


def _unrecorded(_: TokenRecord) -> None:
    pass


class TokenFile:
    """A `TokenStore` in one file. Making a token blocks on the disk; verifying costs one stat."""

    def __init__(self, path: Path, *, wall: Clock = wall) -> None:
        self.path = path
        self._wall = wall
        self._records: tuple[TokenRecord, ...] = ()
        self._seen: tuple[int, int, int] | None = None  # inode, mtime, size of what was read last
        self._bad: tuple[int, int, int] | None = None  # the same of what could not be read

    def create(
        self, name: str, role: Role, *, ttl_s: float | None = None, record: Recorder = _unrecorded
    ) -> str:
        """A new token, shown this once; NameTaken, or StoreError when it cannot be kept.

        It counts for `ttl_s` seconds by the wall clock, or until it is revoked.
        """
        token = PREFIX + secrets.token_urlsafe(32)
        with self._locked():
            records = self._read()
            for it in records:
                if it.name == name:
                    raise NameTaken(_taken(it))
            made = TokenRecord(
                name=name,
                role=role,
                sha256=_hash(token),
                created=self._moment(),
                expires="" if ttl_s is None else self._moment(ttl_s),
            )
            record(made)
            self._write((*records, made))
        return token

    def revoke(self, name: str, *, record: Recorder = _unrecorded) -> bool:
        """Whether there was one that counted. A running sidecar refuses it from its next request on."""
        with self._locked():
            records = self._read()
            for at, it in enumerate(records):
                if it.name == name and not it.revoked:
                    revoked = replace(it, revoked=self._moment())
                    record(revoked)
                    self._write((*records[:at], revoked, *records[at + 1 :]))
                    return True
        return False

    def withdraw(self, name: str) -> None:
        """Take back, with its name, a token that nobody has seen."""
        with self._locked():
            self._write(tuple(it for it in self._read() if it.name != name))

    def records(self) -> tuple[TokenRecord, ...]:
        """All tokens ever made, oldest first; StoreError when the file cannot be understood."""
        return self._read()

    def usable(self) -> bool:
        """Whether any token counts; StoreError as `records`."""
        return any(it.refused(self._wall()) is None for it in self._read())

    def verify(self, token: str) -> Principal | Rejected:
        """Whom the token stands for, by the file as it is now.

        When somebody has broken the file, the last good content goes on to count, so that the
        kill switch stays within reach; StoreError only when there never was any.
        """
        self._refresh()
        asked = _hash(token)
        found = None
        for record in self._records:  # all of them: how long it takes tells nothing
            if hmac.compare_digest(record.sha256, asked):
                found = record
        if found is None:
            return Rejected(cause=Cause.UNKNOWN)
        if cause := found.refused(self._wall()):
            return Rejected(cause=cause, name=found.name)
        return Principal(name=found.name, role=found.role)

    def _moment(self, later_s: float = 0.0) -> str:
        return datetime.fromtimestamp(self._wall() + later_s, UTC).isoformat(timespec="seconds")

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
        rows = [{name: value for name, value in _row(it).items() if value} for it in records]
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


def _taken(record: TokenRecord) -> str:
    if record.revoked:
        return (
            f"a token named {record.name!r} was revoked at {record.revoked}, and in the log its name goes on "
            "to mean that one: choose another name"
        )
    return (
        f"a token named {record.name!r} exists: choose another name, since a name means one token for ever; "
        f"fusebox token revoke --name {record.name} takes the old one back"
    )


def _row(record: TokenRecord) -> dict[str, str]:
    return {
        "name": record.name,
        "role": record.role.label,
        "sha256": record.sha256,
        "created": record.created,
        "expires": record.expires,
        "revoked": record.revoked,
    }


def _record(raw: Any) -> TokenRecord:
    name, role, digest, created = raw["name"], raw["role"], raw["sha256"], raw["created"]
    if not (isinstance(name, str) and isinstance(digest, str) and len(digest) == 64 and digest.isascii()):
        raise ValueError("an entry without a name or a sha256")
    expires, revoked = raw.get("expires", ""), raw.get("revoked", "")
    if expires and datetime.fromisoformat(expires).tzinfo is None:
        raise ValueError(f"the moment {name!r} expires has no time zone")
    return TokenRecord(
        name=name,
        role=Role.named(role),
        sha256=digest,
        created=str(created),
        expires=expires,
        revoked=revoked,
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
