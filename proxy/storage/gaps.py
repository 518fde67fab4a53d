"""What `check` asks of every store: whether the audit log has the rows that its tree and its segments say,
and whether every version of the toggles can be read.

Whether they are the right rows is another question: `fusebox audit verify` answers it.
"""

from proxy.core.toggle_values import Damaged, read
from proxy.ports.records import AuditRecords, Records, ToggleRecords

_BEYOND = 2**62  # no log is as long
_PAGE = 500


def unsound(records: Records) -> list[str]:
    """All that is wrong, in words."""
    return gaps(records.audit) + unreadable(records.toggles)


def unreadable(toggles: ToggleRecords) -> list[str]:
    """The versions that cannot be gone back to."""
    found: list[str] = []
    before: int | None = None
    while lines := toggles.page(before=before, limit=_PAGE):
        for line in lines:
            before = line.version
            try:
                if (version := toggles.get(line.version)) is not None:
                    read(version.document)
            except Damaged as error:
                found.append(f"version {line.version} of the toggles cannot be read: {error}")
    return found


def gaps(audit: AuditRecords) -> list[str]:
    """What is missing and what should not be there, in words."""
    tree = audit.tree()
    found = [] if tree.whole() else [f"the tree of {tree.size} entries is damaged"]
    here = 0
    for segment in (it for it in audit.segments() if it.dropped_at):
        found += _missing(audit, here, min(segment.first, tree.size))
        found += _left(audit, segment.first, segment.first + segment.size, "although its segment was dropped")
        here = segment.first + segment.size
    found += _missing(audit, here, tree.size)
    found += _left(audit, max(here, tree.size), _BEYOND, f"beyond the {tree.size} entries of the tree")
    return found


def _missing(audit: AuditRecords, first: int, end: int) -> list[str]:
    there = audit.count(first, end)
    if first >= end or there == end - first:
        return []
    low, high = first, end  # the first gap is in [low, high), found by halving
    while high - low > 1:
        middle = (low + high) // 2
        if audit.count(low, middle) == middle - low:
            low = middle
        else:
            high = middle
    return [f"{end - first - there} of the entries {first} to {end - 1} are missing, the first is {low}"]


def _left(audit: AuditRecords, first: int, end: int, why: str) -> list[str]:
    there = audit.count(first, end)
    return [f"{there} entries from {first} on are there {why}"] if there else []
