"""A data plane in a process of its own that records every request: `… UPSTREAM DIRECTORY` prints its port."""

import asyncio
import os
import sys
from pathlib import Path

import uvloop
from recorded import ANY
from rig import policy

from proxy.dataplane.plane import DataPlane
from proxy.dataplane.recording import Recorder
from proxy.storage.spool import SpoolFile
from proxy.telemetry.counters import Counters


async def main(upstream: str, directory: Path) -> None:
    counters = Counters()
    recorder = Recorder(SpoolFile(directory, segment=64 * 1024), counters)
    plane = DataPlane(
        policy(upstream, actions=(ANY,)), counters, on_transition=lambda _: None, recorder=recorder
    )
    await plane.start("127.0.0.1:0")
    os.write(1, b"%d\n" % plane.address[1])
    await asyncio.Event().wait()


uvloop.run(main(sys.argv[1], Path(sys.argv[2])))
