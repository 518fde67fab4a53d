"""The key that signs overrides and cursors: `signing.key` of the state directory, 32 bytes, mode 0600.

Not the keys of the audit log: who may override a toggle for one request must not be able to sign that log.
"""

import os
from collections.abc import Callable
from pathlib import Path

from proxy.core.signing import KEY_BYTES
from proxy.ports import StoreError
from proxy.storage import directory, private_file
from proxy.storage.new_file import appearing, belong


def load_or_make(path: Path, chance: Callable[[int], bytes] = os.urandom) -> bytes:
    """The key in the file, made when there is none; of two who make it at once, both get the same.

    StoreError says what is wrong with the file.
    """
    if not path.exists():
        directory.make(path.parent)
        try:
            with appearing(path) as beside:
                beside.write_bytes(chance(KEY_BYTES))
                belong(beside)
        except StoreError:
            if not path.exists():
                raise
    otherwise = "remove it: the next start, or reload, makes another, and what was signed no longer counts"
    key = private_file.read(path, otherwise)
    if len(key) != KEY_BYTES:
        raise StoreError(f"{path}: holds no key of {KEY_BYTES} bytes: {otherwise}")
    return key
