"""The places where the log has to give a known root: checkpoints, ends of segments, its own end."""

from collections import deque
from collections.abc import Iterator, Sequence

from proxy.control.audit_report import Findings, Kind
from proxy.core.checkpoint import Checkpoint, UnknownSigner, Verifier, opened
from proxy.core.merkle import Frontier
from proxy.ports import StoreError
from proxy.ports.records import AuditRecords, Segment, StoredCheckpoint

UNREADABLE = (StoreError, ValueError, TypeError)
"""How a store fails on rows that somebody has altered beneath it."""

NEVER = 2**62
_TREES = 8  # histories that are followed at once


class Trees:
    """The trees that the rows so far may have been signed as: one, as long as nothing is doubtful.

    None when entries are missing; then the chain of segment roots is taken up at the next end of a segment.
    """

    def __init__(self) -> None:
        self.now: list[Frontier] = [Frontier()]
        self.signed = 0  # entries under the last checkpoint that held
        self.astray = False  # a checkpoint did not hold, and none has since

    def extend(self, leaves: Sequence[bytes]) -> None:
        self.now = [tree.extend(leaves) for tree in self.now]

    def branch(self, leaves: Sequence[bytes]) -> None:
        """One more entry, of which it is doubtful which leaf was signed."""
        self.now = [tree.append(leaf) for tree in self.now for leaf in leaves][:_TREES]

    def lose(self) -> None:
        self.now = []

    def join(self, chain: Frontier) -> bool:
        """Also consider this tree; whether it was one of them already."""
        if chain in self.now:
            return True
        self.now = [*self.now[: _TREES - 1], chain]
        return False

    def hold(self, root: bytes, size: int) -> bool:
        """Whether one of them has this root; the others are out then."""
        fitting = [tree for tree in self.now if tree.root() == root]
        if fitting:
            self.now, self.signed, self.astray = fitting, size, False
        return bool(fitting)


class Segments:
    """Sealed segments as far as they stand side by side; a fault is a finding and ends the row of them."""

    def __init__(self, log: AuditRecords, findings: Findings) -> None:
        self._findings = findings
        self.dropped: list[Segment] = []
        self.sealed: deque[Segment] = deque()
        self.chain = Frontier()  # over the roots of those that were passed
        whole = Frontier()
        try:
            for segment in log.segments():
                if segment.first != whole.size:
                    raise ValueError(f"one begins with entry {segment.first}")
                if len(segment.root) != 32:
                    raise ValueError("its root is none")
                if segment.dropped_at and self.sealed:
                    raise ValueError("dropped, though one before it is not")
                whole = whole.graft(segment.root, segment.size)
                (self.dropped if segment.dropped_at else self.sealed).append(segment)
        except UNREADABLE as error:
            text = f"the segment that should begin here is not as it was sealed: {error}"
            findings.add(Kind.BAD_SEGMENT, whole.size, whole.size + 1, text)

    @property
    def next_end(self) -> int:
        """Where the next sealed one ends."""
        return self.sealed[0].first + self.sealed[0].size if self.sealed else NEVER

    def skip(self, segment: Segment) -> Frontier:
        """A dropped one stands for itself: the tree up to its end."""
        self.chain = self.chain.graft(segment.root, segment.size)
        return self.chain

    def passed(self, trees: Trees, top: str | None, last: str) -> None:
        """The end of the next sealed one is reached; `top` and `last` are labels of its entries, if known."""
        segment = self.sealed.popleft()
        lost = not trees.now
        fits = trees.join(self.skip(segment))
        if not fits and not lost:
            self._bad(segment, "they do not give the root of their segment: they were altered, or it was")
        if top is not None and (segment.last_at, segment.sealed_at) != (top, last):
            self._bad(segment, "the times kept with the segment are not those of its entries")

    def left(self) -> None:
        """The log is over, and these were not passed."""
        for segment in self.sealed:
            self._bad(segment, "sealed, but not all of its entries are here")

    def _bad(self, segment: Segment, text: str) -> None:
        self._findings.add(Kind.BAD_SEGMENT, segment.first, segment.first + segment.size, text)


class Marks:
    """All of them in order of size. `judge` compares what the rows gave so far."""

    def __init__(
        self,
        log: AuditRecords,
        verifiers: list[Verifier],
        external: Sequence[tuple[str, str]],
        findings: Findings,
    ) -> None:
        self._log = log
        self._verifiers = verifiers
        self._find = findings.add
        self.held = 0  # checkpoints of the store whose signature and root hold
        self.external_held = 0
        self._proven = 0  # entries under the last checkpoint from outside that held
        self.trees = Trees()
        self.tree = self._tree()
        self._tree_seen = False
        self.segments = Segments(log, findings)
        self._stored = self._stored_checkpoints()
        self._checkpoint = next(self._stored, None)
        self._external = self._trusted(external)

    def start(self) -> int:
        """Pass the dropped segments; the number of the first entry that should be there."""
        size = 0
        if self.next() == 0:
            self.judge(0)
        for segment in self.segments.dropped:
            size = segment.first + segment.size
            self.trees.lose()
            while (mark := self.next()) < size:
                self.judge(mark)
            self.trees.now = [self.segments.skip(segment)]
            self.judge(size)
        return size

    def next(self) -> int:
        """The nearest size at which something is known."""
        return min(
            self._checkpoint.size if self._checkpoint else NEVER,
            self._external[0][1].size if self._external else NEVER,
            self.segments.next_end,
            NEVER if self._tree_seen else self.tree.size,
        )

    def judge(self, size: int, top: str | None = None, last: str = "") -> str | None:
        """Compare at the mark `next` named. `top`: the latest label since the last segment, also returned."""
        if self.segments.next_end == size:
            self.segments.passed(self.trees, top, last)
            top = ""
        while self._checkpoint and self._checkpoint.size == size:
            self.held += self._hold(self._checkpoint, Kind.EDIT, self.trees.signed, "")
            self._checkpoint = next(self._stored, None)
        while self._external and self._external[0][1].size == size:
            where, checkpoint = self._external.popleft()
            if self._hold(checkpoint, Kind.FORK, self._proven, f" in {where}"):
                self.external_held += 1
                self._proven = size
        if self.tree.size == size and not self._tree_seen:
            self._tree_seen = True
            if self.trees.now and self.tree not in self.trees.now:
                self._find(Kind.BAD_TREE, 0, 0, "the entries do not give the tree that is kept with them")
        return top

    def end(self, size: int) -> None:
        """The log is over with `size` entries: what was signed beyond was cut off."""
        if self.tree.size > size:
            self._find(Kind.CUT_TAIL, size, self.tree.size, "not there, though the tree was made over them")
        if self.tree.size < size and self.tree.whole():
            self._find(Kind.ADDED, self.tree.size, size, "here, though the tree knows nothing of them")
        largest = self._checkpoint
        for checkpoint in self._stored:
            largest = checkpoint
        if largest:
            text = f"not there, though a checkpoint was signed over {largest.size}"
            self._find(Kind.CUT_TAIL, size, largest.size, text)
        for where, kept in self._external:
            text = f"not there, though the checkpoint in {where} was signed over {kept.size}"
            self._find(Kind.CUT_TAIL, size, kept.size, text)
        self.segments.left()

    def _hold(self, checkpoint: Checkpoint, kind: Kind, since: int, where: str) -> bool:
        trees = self.trees
        if not trees.now:
            return False  # nobody can tell: entries are missing, or dropped
        if trees.hold(checkpoint.root, checkpoint.size):
            return True
        if not trees.astray:
            trees.astray = True
            text = (
                "not what was signed" if kind is Kind.EDIT else "this log has another history"
            ) + f": the checkpoint{where} over {checkpoint.size} entries has another root"
            self._find(kind, since, checkpoint.size, text)
        return False

    def _tree(self) -> Frontier:
        try:
            tree = self._log.tree()
            if not tree.whole():
                raise ValueError(f"{len(tree.peaks)} peaks for {tree.size} entries")
        except UNREADABLE as error:
            self._find(Kind.BAD_TREE, 0, 0, f"what is kept of the tree is none: {error}")
            return Frontier()
        return tree

    def _stored_checkpoints(self) -> Iterator[Checkpoint]:
        above = -(2**63)  # a size that somebody made negative, too
        while True:
            try:
                kept = self._log.checkpoints(above)
            except UNREADABLE as error:
                text = f"checkpoints over more than {above} entries cannot be read: {error}"
                self._find(Kind.FORGED_CHECKPOINT, 0, 0, text)
                return
            if not kept:
                return
            for checkpoint in kept:
                above = checkpoint.size
                if found := self._stored_checkpoint(checkpoint):
                    yield found

    def _stored_checkpoint(self, kept: StoredCheckpoint) -> Checkpoint | None:
        found = self._opened(kept.note, f"the checkpoint kept over {kept.size} entries")
        if found and (found.size, found.root, found.at) != (kept.size, kept.root, kept.at):
            text = f"the checkpoint kept over {kept.size} entries was signed with another size, root or time"
            self._find(Kind.FORGED_CHECKPOINT, 0, 0, text)
            return None
        return found

    def _trusted(self, external: Sequence[tuple[str, str]]) -> deque[tuple[str, Checkpoint]]:
        found = [(where, self._opened(note, f"the checkpoint in {where}")) for where, note in external]
        kept = [(where, checkpoint) for where, checkpoint in found if checkpoint]
        return deque(sorted(kept, key=lambda it: it[1].size))

    def _opened(self, note: str, what: str) -> Checkpoint | None:
        try:
            checkpoint = opened(note, self._verifiers)
        except UnknownSigner as error:
            self._find(Kind.FORGED_CHECKPOINT, 0, 0, f"{what}: {error}")
        except UNREADABLE as error:  # BadNote among them
            self._find(Kind.BAD_SIGNATURE, 0, 0, f"{what}: {error}")
        else:
            if checkpoint.origin in {it.name for it in self._verifiers}:
                return checkpoint
            self._find(Kind.FORGED_CHECKPOINT, 0, 0, f"{what}: of another log, {checkpoint.origin!r}")
        return None
