"""The two keys of the audit log, in `audit.key` of the state directory, mode 0600.

The master key opens what is sealed, the signing key signs checkpoints. They lie apart from the store, so
that who copies the store, or a backup of it, can neither read personal fields nor sign.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from proxy.ports import StoreError
from proxy.storage import directory, private_file
from proxy.storage.new_file import appearing

NAME = "audit.key"
_BYTES = 32
_FIELDS = ("master", "signing")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditKeys:
    """32 bytes each."""

    master: bytes
    signing: bytes


def load(path: Path) -> AuditKeys:
    """The keys in the file; StoreError says what is wrong with it, also that there is none."""
    content = private_file.read(path, "see docs/audit.md for a new key")
    try:
        raw = orjson.loads(content)
        master, signing = (bytes.fromhex(raw[name]) for name in _FIELDS)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: holds no keys: put it back from a backup") from error
    if len(master) != _BYTES or len(signing) != _BYTES:
        raise StoreError(f"{path}: its keys are not of {_BYTES} bytes: put it back from a backup")
    return AuditKeys(master=master, signing=signing)


def load_or_make(path: Path, chance: Callable[[int], bytes] = os.urandom) -> AuditKeys:
    """The keys in the file, made when there is none; of two who make it at once, both get the same."""
    if not path.exists():
        directory.make(path.parent)
        made = {name: chance(_BYTES).hex() for name in _FIELDS}
        try:
            with appearing(path) as beside:
                beside.write_bytes(orjson.dumps(made, option=orjson.OPT_INDENT_2) + b"\n")
        except StoreError:
            if not path.exists():
                raise
    return load(path)
