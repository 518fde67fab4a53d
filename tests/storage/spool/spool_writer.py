"""Writes numbered entries as fast as it can and prints each number once it is acknowledged."""

import os
import sys
from pathlib import Path

from proxy.storage.spool import SpoolFile

directory, size = Path(sys.argv[1]), int(sys.argv[2])
spool = SpoolFile(directory, limit=1 << 26, segment=64 * 1024)
number = 0
while True:
    text = b'{"n":%d,"pad":"%b"}' % (number, b"{x" * (size // 2))
    assert spool.room(len(text) + 100)
    spool.add(text, reserved=len(text) + 100)
    os.write(1, b"%d\n" % number)
    number += 1
