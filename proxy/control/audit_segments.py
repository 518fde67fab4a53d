"""Segments of the log: perfect subtrees side by side from the first entry on, and the record of dropped ones.

Everything in a segment's row follows from its entries: `last_at` is the latest label among them, which
retention goes by, and `sealed_at` that of its last entry. When the entries are dropped, the row is bound by
the digest in the entry that records the drop (`ledger_digest` over all dropped ones).
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from proxy.core.audit import canonical
from proxy.core.merkle import Frontier, leaf_hash, root_of
from proxy.errors import FuseboxError
from proxy.ports.records import AuditRecords, Segment

DROPPED = "audit.segments_dropped"
"""The action of the entry that records a drop."""


class DamagedLog(FuseboxError):
    """The log is not what was written; `fusebox audit verify` says where."""


def full_segments(log: AuditRecords, segment_entries: int) -> list[Segment]:
    """Segments that can be sealed: full, and fitting the tree as committed; DamagedLog when they do not."""
    tree, whole = log.tree(), Frontier()
    for segment in log.segments():
        whole = _grafted(whole, segment)
    if whole.size + segment_size(whole.size, segment_entries) > tree.size:
        return []
    found, leaves, last_at = list[Segment](), list[bytes](), ""
    size = segment_size(whole.size, segment_entries)
    for seq, row in enumerate(log.walk(whole.size, tree.size), whole.size):
        if row.seq != seq or leaf_hash(row.entry) != row.leaf:
            raise DamagedLog(f"audit entry {seq} is missing or was altered")
        leaves.append(row.leaf)
        last_at = max(last_at, row.at)
        if len(leaves) == size:
            root, first = root_of(leaves), whole.size
            found.append(Segment(first=first, size=size, root=root, last_at=last_at, sealed_at=row.at))
            whole = whole.graft(root, size)
            size = segment_size(whole.size, segment_entries)
            leaves, last_at = [], ""
    if whole.extend(leaves) != tree:
        raise DamagedLog("the audit entries do not give the tree that was committed")
    return found


def proven_tree(log: AuditRecords) -> Frontier:
    """The tree as committed; DamagedLog when segments, last checkpoint and leaves do not lead to it."""
    tree, last, whole = log.tree(), log.last_checkpoint(), Frontier()
    if last and last.size > tree.size:
        raise DamagedLog(
            f"the log holds {tree.size} audit entries, but {last.size} were signed: "
            "it was cut, or an older backup was put back"
        )
    for segment in log.segments():
        if last and not segment.dropped_at and segment.first + segment.size > last.size:
            break
        whole = _grafted(whole, segment)
    if last and whole.size <= last.size:
        whole = whole.extend(row.leaf for row in log.walk(whole.size, last.size))
        if (whole.size, whole.root()) != (last.size, last.root):
            raise DamagedLog(f"the audit entries do not give the checkpoint over {last.size}")
    return grown(log, whole, tree)


def leads_from(log: AuditRecords, size: int, root: bytes) -> bool:
    """Whether the log is that of a checkpoint. Of one inside what was dropped nobody can tell: true."""
    whole = Frontier()
    for segment in log.segments():
        if not segment.dropped_at and segment.first + segment.size > size:
            break
        whole = _grafted(whole, segment)
    if whole.size > size:
        return True
    whole = whole.extend(row.leaf for row in log.walk(whole.size, size))
    return (whole.size, whole.root()) == (size, root)


def grown(log: AuditRecords, known: Frontier, tree: Frontier) -> Frontier:
    """`tree`; DamagedLog when the leaves behind `known` do not lead to it."""
    if known.extend(row.leaf for row in log.walk(known.size, tree.size)) != tree:
        raise DamagedLog("the audit entries do not give the tree that was committed")
    return tree


def _grafted(tree: Frontier, segment: Segment) -> Frontier:
    try:
        return tree.graft(segment.root, segment.size)
    except ValueError as error:
        raise DamagedLog(f"the segments were altered: {error}") from error


def segment_size(first: int, segment_entries: int) -> int:
    """Entries of the segment at `first`: as settings ask, or the most that is a perfect subtree there."""
    return min(segment_entries, first & -first) if first else segment_entries


def dropped(segment: Segment, at: str) -> Segment:
    return replace(segment, dropped_at=at)


def ledger_digest(segments: Sequence[Segment]) -> str:
    """SHA-256, in hex, over the rows of all dropped segments."""
    rows = [[it.first, it.size, it.root.hex(), it.last_at, it.sealed_at, it.dropped_at] for it in segments]
    return sha256(canonical({"dropped": rows})).hexdigest()
