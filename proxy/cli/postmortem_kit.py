"""The zip of a post-mortem: parts, and a manifest that says what each is, and what could not be had."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import orjson

from proxy import __version__
from proxy.clock import rfc3339, wall
from proxy.storage.new_file import appearing


class Kit:
    """Parts in the order they were added; `write` makes the file of them."""

    def __init__(self, since: float, until: float) -> None:
        self.since, self.until = since, until
        self._parts: dict[str, bytes] = {}
        self._about: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        """What could not be had, and why."""

    @property
    def names(self) -> list[str]:
        return list(self._parts)

    def add(self, name: str, about: str, content: bytes) -> None:
        self._parts[name] = content
        self._about[name] = about

    def add_json(self, name: str, about: str, content: Any) -> None:
        self.add(name, about, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))

    def lacks(self, name: str, why: str) -> None:
        self.missing[name] = why

    def read(self, name: str) -> Any:
        """A JSON part again, None where it is missing."""
        return orjson.loads(self._parts[name]) if name in self._parts else None

    def write(self, path: Path) -> None:
        """Whole under its name, or not at all. StoreError when it is there already or cannot be written."""
        manifest = {
            "made_at": rfc3339(wall()),
            "fusebox": __version__,
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "files": [
                {
                    "name": name,
                    "about": self._about[name],
                    "bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
                for name, content in self._parts.items()
            ],
            "missing": [{"name": name, "why": why} for name, why in self.missing.items()],
        }
        with appearing(path) as made, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("manifest.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
            for name, content in self._parts.items():
                file.writestr(name, content)
