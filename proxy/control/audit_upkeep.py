"""What keeps the log provable: checkpoints signed and sent away, segments sealed, old ones dropped.

Segments are perfect subtrees, side by side from the first entry on. One is sealed only when the roots of
all segments and the leaves behind them give the tree as committed: a log that was changed is never
sealed into something that looks whole, and nothing of it is dropped.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from proxy.clock import Clock, monotonic, rfc3339, wall
from proxy.control.audit import append
from proxy.control.audit_segments import (
    DROPPED,
    DamagedLog,
    dropped,
    full_segments,
    grown,
    leads_from,
    ledger_digest,
    proven_tree,
)
from proxy.control.publishing import Publisher
from proxy.core.audit import Entry, Outcome
from proxy.core.audit_settings import Audit
from proxy.core.checkpoint import BadNote, Signer, opened
from proxy.core.merkle import Frontier
from proxy.core.sealing import Sealer
from proxy.ports import StoreError
from proxy.ports.audit import LastSigned
from proxy.ports.records import AuditRecords, Journal, Records, Segment, StoredCheckpoint
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.audit")

KEY_CHANGED = "audit.key_changed"
LOOK_S = 1.0
"""How often the size of the log is looked at."""

STEADY_S = 3600.0
"""How long a segment has to be seen expired before it is dropped: a clock that jumped is set by then."""

_DROPPED_AT_ONCE = 16  # segments per transaction
_DAMAGE_S = 60.0  # until a log that was found damaged is looked at again: it may be long


class Upkeep:
    """One task, where the store is. `trouble` says what keeps it from its work; empty: nothing."""

    def __init__(
        self,
        journal: Journal,
        signer: Signer,
        sealer: Sealer,
        settings: Audit,
        publishers: Sequence[Publisher] = (),
        *,
        last: LastSigned | None,
        instance: str = "",
        wall: Clock = wall,
        monotonic: Clock = monotonic,
    ) -> None:
        self._last = last  # None: no log outlives a restart
        self._remembered = ""
        self._journal = journal
        self._signer = signer
        self._sealer = sealer
        self._settings = settings
        self._publishers = publishers
        self._instance = instance
        self._wall = wall
        self._monotonic = monotonic
        self._started = wall(), monotonic()
        self._signed_at = monotonic()
        self._known: Frontier | None = None  # the tree at the last checkpoint, followed from there
        self._signed_size = -1  # unknown: the first look signs whatever is new
        self._expired: dict[int, float] = {}  # first entry of a segment: since when it was seen expired
        self._again_at = monotonic()
        self._trouble = ""

    @property
    def trouble(self) -> str:
        return "; ".join(filter(None, [self._trouble, *(it.trouble for it in self._publishers)]))

    async def run(self) -> None:
        """Until cancelled."""
        for publisher in self._publishers:
            spawn(publisher.run(), f"checkpoints to {publisher.name}")
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def finish(self, deadline_s: float) -> None:
        """At a clean stop: a last checkpoint, handed over to the sinks within `deadline_s` seconds."""
        try:
            await self.checkpoint()
            await self.seal()
        except (StoreError, DamagedLog) as error:
            _log.error("audit log: not signed or sealed to its end: %s", error)
        await asyncio.gather(*(it.finish(deadline_s) for it in self._publishers))

    async def look(self) -> None:
        """Do what is due; a store in trouble is looked at again the next time."""
        try:
            await self._checkpoint_when_due()
            if self._monotonic() >= self._again_at:
                await self.seal()
                await self.drop()
                self._tell("")
        except DamagedLog as error:
            self._again_at = self._monotonic() + _DAMAGE_S
            self._tell(f"{error}; see  fusebox audit verify")
        except StoreError as error:
            self._tell(str(error))
        except Exception as error:  # noqa: BLE001 - rows that somebody altered can fail in any way
            self._again_at = self._monotonic() + _DAMAGE_S
            _log.error("audit log: upkeep failed", exc_info=error)
            self._tell(f"{type(error).__name__}: {error}; see  fusebox audit verify")

    # -- checkpoints ------------------------------------------------------------------------------------

    async def _checkpoint_when_due(self) -> None:
        size = await self._journal.read(lambda it: it.audit.tree().size)
        late = self._monotonic() - self._signed_at >= self._settings.checkpoint_s
        many = size - self._signed_size >= self._settings.checkpoint_entries
        if self._signed_size < 0 or (size != self._signed_size and (late or many)):
            await self.checkpoint()

    async def checkpoint(self) -> StoredCheckpoint | None:
        """Sign the log as it is, keep that and send it away; None when nothing was added since the last.

        DamagedLog when the log does not follow from what was signed before: two histories are never signed.
        """
        if self._known is None:
            remembered = await asyncio.to_thread(self._last.read) if self._last else ""
            self._known = await self._journal.read(lambda it: self._proven(it.audit, remembered))
        known = self._known
        made, self._known = await self._journal.write(lambda records: self._sign(records, known))
        kept = made or await self._journal.read(lambda it: it.audit.last_checkpoint())
        self._signed_at, self._signed_size = self._monotonic(), kept.size if kept else 0
        if kept:
            for publisher in self._publishers:
                publisher.offer(kept.note)  # also an old one: perhaps the last end came before it was sent
            await self._remember(kept.note)
        return made

    def _proven(self, log: AuditRecords, remembered: str) -> Frontier:
        """`proven_tree`, of a log that is the one remembered, too: in the store all can be changed."""
        tree = proven_tree(log)
        try:
            signed = opened(remembered, [self._signer.verifier]) if remembered else None
        except BadNote as error:  # another key since, or another origin
            _log.warning("the checkpoint remembered beside the store says nothing: %s", error)
            return tree
        if signed and not leads_from(log, signed.size, signed.root):
            raise DamagedLog(
                f"the log, with {tree.size} audit entries, is not the one that was signed over {signed.size} "
                "(audit.last): it was cut or rewritten, or an older backup was put back"
            )
        return tree

    async def _remember(self, note: str) -> None:
        if self._last is None or note == self._remembered:
            return
        try:
            await asyncio.to_thread(self._last.write, note)
            self._remembered = note
        except StoreError as error:  # the next one will do
            _log.error("the newest checkpoint is not remembered: %s", error)

    def _sign(self, records: Records, known: Frontier) -> tuple[StoredCheckpoint | None, Frontier]:
        log = records.audit
        last, tree = log.last_checkpoint(), log.tree()
        grown(log, known, tree)
        if tree.size == (last.size if last else 0):
            return None, tree
        if last and (stranger := self._stranger(last)):
            append(records, (stranger,), self._sealer)
        tree, at = log.tree(), rfc3339(self._wall())
        note = self._signer.checkpoint(tree.size, tree.root(), at)
        made = StoredCheckpoint(size=tree.size, root=tree.root(), at=at, note=note)
        log.add_checkpoint(made)
        return made, tree

    def _stranger(self, last: StoredCheckpoint) -> Entry | None:
        """What to record when the last checkpoint is not ours: another key signed it, or it was altered."""
        try:
            opened(last.note, [self._signer.verifier])
        except BadNote as error:
            _log.warning(
                "the last checkpoint (%d entries) is not signed by the key in audit.key: %s; "
                "verifying the log needs the former key as well:  fusebox audit verify --key FILE",
                last.size,
                error,
            )
            return self._entry(
                KEY_CHANGED,
                target=self._signer.verifier.vkey,
                after={"size": last.size},
                reason=f"the checkpoint over {last.size} entries: {error}",
            )
        return None

    # -- segments ---------------------------------------------------------------------------------------

    async def seal(self) -> int:
        """Seal what is full; how many segments. DamagedLog when the entries do not give the tree."""
        found = await self._journal.read(lambda it: full_segments(it.audit, self._settings.segment_entries))
        if not found:
            return 0

        def keep(records: Records) -> int:
            held = records.audit.segments()
            if (held[-1].first + held[-1].size if held else 0) != found[0].first:
                return 0  # somebody else did
            for segment in found:
                records.audit.add_segment(segment)
            return len(found)

        return await self._journal.write(keep)

    async def drop(self) -> int:
        """Drop sealed segments that are older than retention asks for; how many."""
        due = await self._due()
        if not due:
            return 0
        await self._journal.write(lambda records: self._drop(records, due))
        for segment in due:
            self._expired.pop(segment.first, None)
        return len(due)

    async def _due(self) -> list[Segment]:
        """The oldest segments, as long as each has been seen expired for `STEADY_S`."""
        if not self._settings.retention_days:
            return []
        now = self._monotonic()
        limit = self._present() - self._settings.retention_days * 86_400
        held = [it for it in await self._journal.read(lambda it: it.audit.segments()) if not it.dropped_at]
        seen: dict[int, float] = {}
        for segment in held:
            if _seconds(segment.last_at) >= limit:
                break  # only from the left: what is newer by number is never dropped before
            seen[segment.first] = self._expired.get(segment.first, now)
        self._expired = seen
        due = [it for it in held if now - seen.get(it.first, now) >= STEADY_S]
        return due[:_DROPPED_AT_ONCE]

    def _present(self) -> float:
        """Wall time in seconds that a jump forward of the clock since the start has not moved."""
        wall, monotonic = self._started
        return min(self._wall(), wall + self._monotonic() - monotonic)

    def _drop(self, records: Records, due: Sequence[Segment]) -> None:
        log = records.audit
        at = rfc3339(self._wall())
        gone = [it for it in log.segments() if it.dropped_at]
        ledger = [*gone, *(dropped(it, at) for it in due)]
        first, end = due[0].first, due[-1].first + due[-1].size
        entry = self._entry(
            DROPPED,
            at=at,
            target=f"{first}-{end - 1}",
            after={"first": first, "end": end, "last_at": due[-1].last_at, "ledger": ledger_digest(ledger)},
            reason=f"older than {self._settings.retention_days} days",
        )
        append(records, (entry,), self._sealer)
        for segment in due:
            log.drop_segment(segment.first, at)
        _log.info("audit entries %d to %d dropped: %s", first, end - 1, entry.reason)

    # ---------------------------------------------------------------------------------------------------

    def _entry(self, action: str, *, at: str = "", **fields: object) -> Entry:
        made: Callable[..., Entry] = Entry
        return made(
            action=action,
            outcome=Outcome.DONE,
            at=at or rfc3339(self._wall()),
            actor="fusebox",
            instance=self._instance,
            **fields,
        )

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.error("audit log: %s", trouble)
        self._trouble = trouble


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
