"""Keys of the state directory, 32 bytes, mode 0600: `signing.key` signs overrides and cursors, `events.key`
makes the pseudonyms of users in the event log.

Not the keys of the audit log: who may override a toggle for one request must not be able to sign that log.
"""

import os
from collections.abc import Callable
from pathlib import Path

from proxy.core.signing import KEY_BYTES
from proxy.ports import StoreError
from proxy.storage import directory, private_file
from proxy.storage.new_file import appearing, belong


def load_or_make(
    path: Path, chance: Callable[[int], bytes] = os.urandom, *, lost: str = "what was signed no longer counts"
) -> bytes:
    """The key in the file, made when there is none; of two who make it at once, both get the same.

    StoreError says what is wrong with the file, and what would be `lost` with it.
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
    otherwise = f"remove it: the next start, or reload, makes another, and {lost}"
    key = private_file.read(path, otherwise)
    if len(key) != KEY_BYTES:
        raise StoreError(f"{path}: holds no key of {KEY_BYTES} bytes: {otherwise}")
    return key
