"""SQL from the files beside it: named queries, and numbered migrations with what has to hold for them."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from proxy.ports import StoreError

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_VALUE = re.compile(r":(\w+)")
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")


def queries(file: str) -> dict[str, str]:
    """What stands below each `-- name: …` of `sql/FILE`. Values are `:named`."""
    text = (files("proxy.storage") / "sql" / file).read_text("utf-8")
    _, *parts = _NAME.split(text)
    bodies = [body.strip().removesuffix(";") for body in parts[1::2]]
    return dict(zip(parts[::2], bodies, strict=True))


@lru_cache
def bound(sql: str) -> bytes:
    """The same with values as psycopg wants them named."""
    return _VALUE.sub(r"%(\1)s", sql).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step forward of the schema. `checksum` is the SHA-256 of its text."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(dialect: str) -> list[Migration]:
    """Those that are shipped for `dialect`, a folder below `sql`, by number from 1."""
    found = [
        Migration(number=int(named[1]), name=named[2], sql=file.read_text("utf-8"))
        for file in (files("proxy.storage") / "sql" / dialect).iterdir()
        if (named := _FILE.fullmatch(file.name))
    ]
    return sorted(found, key=lambda it: it.number)


def pending(
    store: str, shipped: Sequence[Migration], applied: Mapping[int, str], *, existing: bool
) -> list[Migration]:
    """What is still to be run where `applied` (number → checksum) was; StoreError when nothing may be.

    With `existing` the store has to be at its newest version already.
    """
    newest, here = shipped[-1].number, max(applied, default=0)
    if here > newest:
        raise StoreError(
            f"{store}: was written by a newer version of fusebox (store version {here}, this one knows "
            f"{newest}): run that version, or restore a backup made before"
        )
    for step in shipped:
        if applied.get(step.number, step.checksum) != step.checksum:
            raise StoreError(
                f"{store}: step {step.number} of its schema is not the one that is shipped here: "
                "it was written by another build of fusebox; run that one"
            )
    if existing and here < newest:
        raise StoreError(
            f"{store}: is of store version {here} and this is {newest}: fusebox serve brings it forward; "
            "until then use the version that wrote it"
        )
    return [step for step in shipped if step.number not in applied]
