"""The kill decision on disk: `{"kill": true, "reason": …, "by": …, "at": …, "version": …}`, for people too.

A file that is there but cannot be understood raises instead of meaning "off": whoever starts the
sidecar then starts it killed (`proxy.control.kill`), because somebody had something to say.
"""

from dataclasses import asdict
from pathlib import Path

import orjson

from proxy.ports import KillDecision, StoreError
from proxy.storage import atomic


class KillFile:
    """A `KillStore` in one small file. Calls block on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> KillDecision | None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        return self._decision(content)

    def save(self, decision: KillDecision) -> None:
        atomic.replace(self.path, orjson.dumps(asdict(decision), option=orjson.OPT_INDENT_2) + b"\n")

    def _decision(self, content: bytes) -> KillDecision:
        try:
            raw = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise StoreError(f"{self.path}: no JSON: {error}") from error
        if not isinstance(raw, dict) or not isinstance(raw.get("kill"), bool):
            raise StoreError(f'{self.path}: no kill decision: "kill" must be true or false')
        text = {key: raw.get(key, "") for key in ("reason", "by", "at")}
        if not all(isinstance(value, str) for value in text.values()):
            raise StoreError(f'{self.path}: no kill decision: "reason", "by" and "at" must be text')
        version = raw.get("version", 0)
        if type(version) is not int or version < 0:
            raise StoreError(f'{self.path}: no kill decision: "version" must be a whole number')
        return KillDecision(kill=raw["kill"], version=version, **text)
