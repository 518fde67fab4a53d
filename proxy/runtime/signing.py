"""Which key signs overrides and cursors: the one of the settings, or else that of the state directory."""

import logging
from pathlib import Path

from proxy.core.override import Overrides
from proxy.core.signing import key_from
from proxy.ports import StoreError
from proxy.settings import Settings
from proxy.storage.signing_key import load_or_make

_log = logging.getLogger("fusebox")


def signing_key(overrides: Overrides, file: Path) -> bytes:
    """The key, made in `file` when it is needed and missing; StoreError when it cannot be had."""
    return key_from(overrides.secret) if overrides.secret else load_or_make(file)


class Signing:
    """The key of a running sidecar, read with its settings. Traffic goes on without one."""

    def __init__(self) -> None:
        self.trouble = ""
        """Why there is no key; empty: there is one."""

    def key(self, settings: Settings) -> bytes:
        """b"" when it cannot be had. It may wait for a disk."""
        try:
            key = signing_key(settings.overrides, settings.signing_key_file)
        except StoreError as error:
            self.trouble = f"no overrides and no further pages without their key: {error}"
            _log.error("%s", self.trouble)
            return b""
        self.trouble = ""
        return key
