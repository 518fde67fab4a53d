"""A data plane that records every request, and what of its answers a client could see beforehand."""

import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from harness import Script
from rig import Rig, sidecar

from proxy.core.audit import Entry, parse
from proxy.core.audit_settings import Action
from proxy.storage.spool import SpoolFile, SpoolReader

ANY = Action(action="any", path="/*", when_full="refuse")


class Watched(SpoolFile):
    """Looks at every client's socket at the moment an entry is written."""

    def __init__(self, directory: Path, **how: Any) -> None:
        super().__init__(directory, **how)
        self.directory = directory
        self.rig: Rig
        self.seen: list[bytes] = []  # at each entry: what the clients had not read yet
        self.asked = 0

    def room(self, size: int) -> bool:
        self.asked += 1
        return super().room(size)

    def add(self, entry: bytes, *, reserved: int = 0, sync: bool = False) -> None:
        self.seen.append(b"".join(map(_unread, self.rig._clients)))
        super().add(entry, reserved=reserved, sync=sync)

    @property
    def reserved(self) -> int:
        return self._reserved

    @property
    def entries(self) -> list[Entry]:
        return entries(self.directory)


def entries(directory: Path, *, torn: int = 0) -> list[Entry]:
    """All that wait in the spool, nothing taken out; at most `torn` frames may be damaged."""
    found = []
    reader = SpoolReader(directory)
    for name in reader.files():
        batch = reader.read(name, 0, 1_000_000)
        torn -= len(batch.damaged)
        found += map(parse, batch.entries)
    assert torn >= 0
    return found


def _unread(wire: Any) -> bytes:
    sock = wire.transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return b""
    with socket.socket(fileno=os.dup(sock.fileno())) as peek, suppress(OSError):
        return peek.recv(65536, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    return b""


@asynccontextmanager
async def recording(
    directory: Path,
    *scripts: Script,
    actions: Sequence[Action] = (ANY,),
    spool: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Rig, Watched]]:
    """On the way out: no room is still promised to anybody."""
    watched = Watched(directory, **(spool or {}))
    try:
        async with sidecar(*scripts, spool=watched, actions=tuple(actions), **settings) as rig:
            watched.rig = rig
            yield rig, watched
        assert watched.reserved == 0
    finally:
        watched.close()
