"""Works on a store, as services would hand them over."""

from proxy.core.audit import Entry, Outcome, document, row
from proxy.core.toggle_values import Document, written
from proxy.core.toggles import Toggles
from proxy.ports.records import ToggleVersion

AT = "2026-01-01T00:00:00.000000Z"


def entries(first, number, **fields):
    values = {"action": "kill.on", "outcome": Outcome.ACCEPTED, "at": AT, "actor": "ann"} | fields
    return [row(document(Entry(**values), seq)) for seq in range(first, first + number)]


def adding(number=1, **fields):
    """A work that adds entries and returns the size of the log."""

    def work(records):
        tree = records.audit.tree()
        rows = entries(tree.size, number, **fields)
        records.audit.append(rows, tree.extend(it.leaf for it in rows))
        return tree.size + number

    return work


def size(records):
    return records.audit.tree().size


def failing(records):
    """Adds something, then gives up."""
    adding(3)(records)
    records.audit.set_spool_position("lost", 7)
    raise LookupError("given up")


def version(number, **fields):
    """A version of the toggles."""
    said = {
        "version": number,
        "at": AT,
        "actor": "ann",
        "reason": "why",
        "kind": "patch",
        "expires_at": "",
        "diff": b"{}",
        "document": written(Document(toggles=Toggles(exposure_percent=number % 100)), {"version": number}),
        "returns": b"[]",
    }
    return ToggleVersion(**said | fields)
