"""Verifying the audit log: everything that is kept is computed again from the entries and compared.

One pass in constant memory over one snapshot. Whatever can be told apart is told apart: a row that does
not fit itself is found at its number; a change that fits itself is found between the last checkpoint that
holds and the first that does not. After a fault the pass goes on: where it is open which of two leaves
was signed both trees are grown on, and the next checkpoint tells; where leaves are missing the root of
the segment stands for them.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256

import orjson

from proxy.control.audit import ERASED, KEY_DAMAGED
from proxy.control.audit_marks import UNREADABLE, Marks
from proxy.control.audit_report import SHOWN, Findings, Kind, Report
from proxy.control.audit_segments import DROPPED, ledger_digest
from proxy.core.audit import Row, row
from proxy.core.checkpoint import Verifier
from proxy.core.merkle import leaf_hash
from proxy.core.sealing import Sealer
from proxy.ports.records import AuditRecords

_END = 2**62  # beyond every number
_FLUSH = 4096  # leaves that wait to be put on the tree
_KEYS = 100_000  # ids that are remembered; more are asked for again


def verify(
    log: AuditRecords,
    verifiers: Sequence[Verifier],
    external: Sequence[tuple[str, str]] = (),
    sealer: Sealer | None = None,
) -> Report:
    """Everything that is wrong with the log.

    `verifiers` are the keys that may have signed. `external` are checkpoints kept elsewhere, as (where it
    comes from, signed note): only they can show what somebody did who could also sign, or cut off the
    end. With a `sealer` each key of a subject is unwrapped as well.
    """
    return _Verification(log, verifiers, external, sealer).run()


class _Verification:
    def __init__(
        self,
        log: AuditRecords,
        verifiers: Sequence[Verifier],
        external: Sequence[tuple[str, str]],
        sealer: Sealer | None,
    ) -> None:
        self._log = log
        self._findings = Findings()
        self._find = self._findings.add
        self._marks = Marks(log, list(verifiers), external, self._findings)
        self._keys = _Keys(log, sealer)
        self._leaves: list[bytes] = []  # read, and not yet on the trees
        self._next = 0  # number of the row that should come
        self._entries = 0
        self._ledger = ""
        self._unreadable: set[int] = set()

    def run(self) -> Report:
        marks, leaves = self._marks, self._leaves
        start = self._next = marks.start()
        for it in self._rows(0, start):
            self._find(
                Kind.BAD_SEGMENT, it.seq, it.seq + 1, "was dropped with its segment, and is here again"
            )
            break
        mark = marks.next()
        top: str | None = ""  # latest label since the last segment; None: some are missing
        for it in self._rows(start, _END):
            if it.seq != self._next:
                self._gap(it.seq)
                mark, top = marks.next(), None
            if fault := self._fits(it):
                self._faulty(it, *fault)
            else:
                leaves.append(it.leaf)
            at = it.at
            if type(at) is not str:
                at, top = "", None  # told above: this column, at least, is damaged
            elif top is not None and at > top:
                top = at
            self._next += 1
            self._entries += 1
            if self._next == mark:
                self._flush()
                top = marks.judge(mark, top, at)
                mark = marks.next()
            elif len(leaves) >= _FLUSH:
                self._flush()
        self._flush()
        return self._concluded()

    def _concluded(self) -> Report:
        marks = self._marks
        marks.end(self._next)
        gone = marks.segments.dropped
        if gone and ledger_digest(gone) != self._ledger:
            last = gone[-1]
            text = "what is kept about dropped segments is not what was recorded when they were dropped"
            self._find(Kind.BAD_SEGMENT, 0, last.first + last.size, text)
        for key_id, (first, count, why) in self._keys.lost().items():
            text = f"{why}; {count} entries are sealed under key {key_id}"
            self._find(Kind.LOST_KEY, first, first + 1, text)
        kept = tuple(sorted(self._findings.kept, key=lambda it: (it.first, it.end)))
        return Report(
            size=marks.tree.size,
            root=marks.tree.root().hex(),
            entries=self._entries,
            dropped=sum(it.size for it in gone),
            erased=self._keys.erased(),
            checkpoints=marks.held,
            external=marks.external_held,
            signed=marks.trees.signed,
            findings=kept,
            more=self._findings.more,
        )

    def _rows(self, first: int, end: int) -> Iterator[Row]:
        """Rows in order; what cannot be read is a finding, and reading goes on behind it."""
        failures = 0
        while first < end:
            try:
                for it in self._log.walk(first, end):
                    failures = 0
                    first = it.seq + 1
                    yield it
            except UNREADABLE as error:
                failures += 1
                if failures == SHOWN:
                    raise  # the store itself, not some rows of it
                self._find(Kind.DAMAGED_ROW, first, first + 1, f"cannot be read: {error}")
                self._unreadable.add(first)
                first += 1
            else:
                return

    def _fits(self, it: Row) -> tuple[Kind, str] | None:
        """What is wrong with a row in itself. The way of a million sound rows: no step too many."""
        entry = it.entry
        try:
            values = orjson.loads(entry)
            get = values.get
            key_id = it.key_id
            if (
                it.leaf == sha256(b"\x00" + entry).digest()
                and orjson.dumps(values, option=orjson.OPT_SORT_KEYS) == entry
                and values["seq"] == it.seq
                and values["at"] == it.at
                and values["action"] == it.action
                and values["outcome"] == it.outcome
                and get("actor", "") == it.actor
                and get("target", "") == it.target
                and get("request_id", "") == it.request_id
                and get("sealed", _UNSEALED)["key"] == key_id
            ):
                if key_id:
                    self._keys.seen(key_id, it.seq)
                if it.action in _TELLING:
                    self._note(it.action, values)
                return None
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        return self._judged(it)

    def _judged(self, it: Row) -> tuple[Kind, str] | None:
        """The same slowly, in words. Columns that are cut or mended (`core.audit.column`) also end here."""
        try:
            expected = row(bytes(it.entry))
        except (ValueError, TypeError) as error:
            return Kind.DAMAGED_ROW, f"holds no entry: {error}"
        if expected.key_id:
            self._keys.seen(expected.key_id, it.seq)
        if expected.action in _TELLING:
            self._note(expected.action, orjson.loads(expected.entry))
        if expected.leaf != it.leaf:
            return Kind.EDIT, "the entry does not give the leaf that is kept with it"
        if expected.seq != it.seq:
            return Kind.SWAP, f"this is entry {expected.seq}"
        names = [name for name in _COLUMNS if getattr(expected, name) != getattr(it, name)]
        return (Kind.EDIT, f"{', '.join(names)}: not what the entry says") if names else None

    def _faulty(self, it: Row, kind: Kind, text: str) -> None:
        """Report a row, and follow both leaves that may have been signed."""
        self._find(kind, it.seq, it.seq + 1, text)
        self._flush()
        leaves = []
        if isinstance(it.leaf, bytes) and len(it.leaf) == 32:
            leaves.append(it.leaf)
        if isinstance(it.entry, bytes) and (leaf := leaf_hash(it.entry)) not in leaves:
            leaves.append(leaf)
        self._marks.trees.branch(leaves)

    def _gap(self, found: int) -> None:
        """Entries from the next one up to `found` are missing."""
        self._flush()
        missing = [
            seq for seq in range(self._next, min(found, self._next + SHOWN)) if seq not in self._unreadable
        ]
        if missing:
            self._find(Kind.DELETION, missing[0], found, "not there any more")
        self._marks.trees.lose()
        while (mark := self._marks.next()) <= found:
            self._marks.judge(mark)
            if mark < found:
                self._marks.trees.lose()
        self._next = found

    def _flush(self) -> None:
        if self._leaves:
            self._marks.trees.extend(self._leaves)
            self._leaves.clear()

    def _note(self, action: str, values: dict[str, object]) -> None:
        if action == DROPPED:
            after = values.get("after")
            self._ledger = str(after.get("ledger")) if isinstance(after, dict) else ""
        else:
            self._keys.explained(str(values.get("target", "")))


_UNSEALED = {"key": ""}
_TELLING = frozenset({DROPPED, ERASED, KEY_DAMAGED})
_COLUMNS = ("at", "action", "outcome", "actor", "target", "request_id", "key_id")


class _Keys:
    """Whether each key that sealed something is there, or was erased on purpose (an entry says so)."""

    def __init__(self, log: AuditRecords, sealer: Sealer | None) -> None:
        self._log = log
        self._sealer = sealer
        self._there: set[str] = set()
        self._missing: dict[str, tuple[int, int, str]] = {}  # first entry, how many, why
        self._explained: set[str] = set()

    def seen(self, key_id: str, seq: int) -> None:
        if key_id in self._there:
            return
        if (known := self._missing.get(key_id)) is not None:
            self._missing[key_id] = known[0], known[1] + 1, known[2]
            return
        why = self._fault(key_id)
        if why:
            self._missing[key_id] = seq, 1, why
            return
        if len(self._there) >= _KEYS:
            self._there.clear()
        self._there.add(key_id)

    def explained(self, key_id: str) -> None:
        """It was erased: what it sealed before is meant to be unreadable."""
        self._explained.add(key_id)

    def erased(self) -> int:
        return sum(it[1] for key_id, it in self._missing.items() if key_id in self._explained)

    def lost(self) -> dict[str, tuple[int, int, str]]:
        return {key_id: it for key_id, it in self._missing.items() if key_id not in self._explained}

    def _fault(self, key_id: str) -> str:
        try:
            key = self._log.key_by_id(key_id)
        except UNREADABLE as error:
            return f"its key cannot be read: {error}"
        if key is None:
            return "its key is gone, and no entry says that it was erased"
        try:
            if self._sealer is not None:
                self._sealer.unwrap(key.key_id, key.tag, key.wrapped)
        except (ValueError, TypeError):
            return "its key was altered, or audit.key is not the one of this log"
        return ""
