"""A child that spools entries and takes them in, until it is killed. Arguments: directory, seed.

It prints `noted N` once entry N is in the spool, and `ready` once it works.
"""

import asyncio
import sys
from pathlib import Path

from auditing import Rig, entry

from proxy.storage.sqlite import SqliteStore


async def main(directory, seed):
    rig = Rig(directory, SqliteStore(directory / "store.db"), seed=seed)
    rig.ingester._batch = 3
    number = seed * 100_000
    sys.stdout.write("ready\n")
    while True:
        for _ in range(5):
            rig.log.note(entry(number), sync=False)
            sys.stdout.write(f"noted {number}\n")
            sys.stdout.flush()
            number += 1
        await rig.ingester.drain()
        await rig.upkeep.look()


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
