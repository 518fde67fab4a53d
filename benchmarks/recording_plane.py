"""The data plane of a settings file with its recorder, and nothing else: what recording costs by itself.

The store takes nothing in meanwhile; finished files of the spool are deleted unread.
"""

import asyncio
import os
import sys
from pathlib import Path

import uvloop

from proxy.dataplane.plane import DataPlane
from proxy.dataplane.recording import Recorder
from proxy.runtime.process import settle_memory
from proxy.settings import load
from proxy.storage.spool import SpoolFile
from proxy.telemetry.counters import Counters


async def main(config: Path) -> None:
    settings = load(config, os.environ)
    counters = Counters()
    directory = settings.spool_directory
    spool = SpoolFile(directory, limit=settings.audit.spool_bytes)
    recorder = Recorder(spool, counters, instance="bench", sync=settings.audit.spool_sync)
    plane = DataPlane(settings.policy(), counters, on_transition=lambda _: None, recorder=recorder)
    await plane.start(settings.listen.address)
    settle_memory()
    while True:
        await asyncio.sleep(0.2)
        if directory.exists():
            for file in sorted(directory.iterdir())[:-1]:
                file.unlink()


uvloop.run(main(Path(sys.argv[sys.argv.index("--config") + 1])))
