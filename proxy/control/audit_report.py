"""What verifying the audit log can find, and how it is told."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SHOWN = 100
"""Findings that are kept one by one; the rest is counted."""


class Kind(StrEnum):
    """What is wrong. Where an attack looks like several, the one is told that the place suggests."""

    EDIT = "edit"  # an entry, or one between two checkpoints, is not what was written
    DELETION = "deletion"
    SWAP = "swap"  # an entry stands under the number of another
    ADDED = "added"  # an entry that the tree knows nothing of
    CUT_TAIL = "cut_tail"
    FORK = "fork"  # a signed checkpoint belongs to another history than this one
    FORGED_CHECKPOINT = "forged_checkpoint"
    BAD_SIGNATURE = "bad_signature"
    BAD_SEGMENT = "bad_segment"
    BAD_TREE = "bad_tree"
    DAMAGED_ROW = "damaged_row"  # cannot be read, or holds no entry
    LOST_KEY = "lost_key"  # sealed fields cannot be opened, and nobody erased them


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """It concerns the entries `first` <= number < `end`, or the whole log when both are 0."""

    kind: Kind
    first: int
    end: int
    text: str

    def __str__(self) -> str:
        if not self.end:
            return f"{self.kind}: {self.text}"
        many = self.end - self.first > 1
        place = f"entries {self.first} to {self.end - 1}" if many else f"entry {self.first}"
        return f"{self.kind}: {place}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was looked at, and what is wrong with it. `root` is hex, of the tree of `size` entries."""

    size: int
    root: str
    entries: int  # read and recomputed
    dropped: int  # gone by retention, standing for themselves as roots of segments
    erased: int  # entries whose sealed fields were erased on purpose
    checkpoints: int  # signatures and roots that hold, kept in the store
    external: int  # the same of checkpoints kept elsewhere
    signed: int  # entries under the largest checkpoint that holds; what comes after could be replaced
    findings: tuple[Finding, ...]
    more: int  # findings beyond those

    @property
    def ok(self) -> bool:
        return not self.findings

    def values(self) -> dict[str, Any]:
        """As JSON shows it."""
        names = ("size", "root", "entries", "dropped", "erased", "checkpoints", "external", "signed", "more")
        findings = [
            {"kind": it.kind.value, "first": it.first, "end": it.end, "text": it.text} for it in self.findings
        ]
        return {"ok": self.ok} | {name: getattr(self, name) for name in names} | {"findings": findings}


class Findings:
    """Findings as they come, bounded."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.more = 0

    def add(self, kind: Kind, first: int, end: int, text: str) -> None:
        if len(self.kept) < SHOWN:
            self.kept.append(Finding(kind=kind, first=first, end=end, text=text))
        else:
            self.more += 1
