"""The judge: takes in what requests came to, and says of each trigger what is known."""

from collections.abc import Sequence
from math import inf, nextafter
from typing import Final, NamedTuple

from proxy.core.rollback.baseline import Baseline
from proxy.core.rollback.book import Book, Rules
from proxy.core.rollback.estimate import CONFIDENT
from proxy.core.rollback.segments import segments_of
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import Delta, Key, Side
from proxy.core.rollback.triggers import Stream
from proxy.core.rollback.verdicts import ALL, Critical, Judgement, Segment, Verdict

JUDGED: Final[tuple[Side, ...]] = ("exposed", "control", "staged", "recovered")
_KEYS_KNOWN: Final = 4_096
_AGE: Final = 20.0
"""Figures are at most as old as this part of what they are about, and as a slot."""
_FRESH_S: Final = 1.0


class Share(NamedTuple):
    """How much of the traffic went wrong, for people to read."""

    side: Side
    segment: Segment
    requests: int
    wrong: dict[str, float]  # by trigger; of what went wrong, 0…1


class Judge:
    """Judges several sides of the traffic, each by itself. `now`: monotonic seconds, never going back."""

    def __init__(self, settings: RollbackSettings, now: float, sides: Sequence[Side] = JUDGED) -> None:
        self.learning = False
        """Whether what is seen is normal: set while nothing is wrong and no toggle is laid on."""
        self._rules = Rules(settings)
        self._books = {side: Book(self._rules, side, now) for side in sides}
        self._segments: dict[Key, tuple[Segment, ...]] = {}
        self._latest: dict[Side, tuple[float, tuple[Verdict, ...]]] = {}  # and until when it is good
        fewest = [max(self._rules.minimum, 1.0 / it.share) for it in self._rules.triggers]
        self._baselines = [Baseline(it, now) for it in fewest]
        self._learned_at = now
        self._pending_at = now

    def feed(self, delta: Delta, now: float) -> None:
        """Count a delta. One of other latency targets than the triggers' is left out: its columns mean
        something else (a reload is on its way to a worker).
        """
        if not delta.cells or delta.targets != self._rules.targets:
            return
        books, known, fed = self._books, self._segments, set()
        for key, counts in delta.cells.items():
            book = books.get(key.side)
            if book is None:
                continue
            segments = known.get(key)
            if segments is None:
                if len(known) >= _KEYS_KNOWN:
                    known.clear()
                segments = known[key] = segments_of(key)
            book.collect(segments, counts)
            fed.add(key.side)
        for side in fed:
            if books[side].count(now):
                self._latest.pop(side, None)

    def judge(self, now: float, side: Side = "exposed", criticals: Sequence[Critical] = ()) -> Judgement:
        """What is known about one side.

        About parts of the traffic it holds breaches only. Breaches that a detector finds are in it at
        once; the figures beside them are up to a slot old while nothing is wrong.
        """
        until, verdicts = self._latest.get(side, (now, ()))
        if now >= until:
            verdicts = self._look(side, now)
        return Judgement(verdicts=verdicts, criticals=tuple(criticals))

    def restart(self, side: Side, now: float) -> None:
        """That side begins anew: a stage took effect, a step of the recovery began."""
        self._books[side] = Book(self._rules, side, now)
        self._latest.pop(side, None)

    def pending(self, now: float) -> None:
        """From now on `passed` is asked: what comes is held against what was found."""
        self._pending_at = nextafter(now, inf)  # the tick that is counted already is what was found

    def passed(self, now: float) -> bool:
        """Whether what came since `pending`, on whatever side, says that every P1 breach is over.

        True ends those breaches. One that came back within two minutes is not believed.
        """
        found = [
            (book, segment, series, stream)
            for book in self._books.values()
            for segment, series, stream in book.each()
            if stream.alarm is not None and stream.trigger.priority == "P1"
        ]
        if not found:
            return True
        if any(it.relapsed or self._over(segment, it) < CONFIDENT for _, segment, _, it in found):
            return False
        for _, _, series, stream in found:
            stream.end(series.at(self._pending_at), now)
        self._latest.clear()
        return True

    def shares(self, now: float) -> tuple[Share, ...]:
        """Of every side and part that is looked at, over the window."""
        found: dict[tuple[Side, Segment], Share] = {}
        for side, book in self._books.items():
            for segment, series, stream in book.each():
                n, s = stream.window(series, now)
                if n:
                    share = found.setdefault((side, segment), Share(side, segment, int(n), {}))
                    share.wrong[stream.trigger.name] = s / n
        return tuple(found.values())

    def _look(self, side: Side, now: float) -> tuple[Verdict, ...]:
        book = self._books[side]
        book.look(now)
        if side == "exposed":
            self._learn(now)
        normal = {it.name: base.share for it, base in zip(self._rules.triggers, self._baselines, strict=True)}
        verdicts = tuple(
            stream.verdict(segment, series, now, normal[stream.trigger.name])
            for segment, series, stream in book.each()
            if segment == ALL or stream.alarm is not None
        )
        breach = any(it.answer == "breach" for it in verdicts)
        age = min((now - book.began) / _AGE, _FRESH_S if breach else self._rules.slot_s)
        self._latest[side] = now + age, verdicts
        return verdicts

    def _learn(self, now: float) -> None:
        """Once a slot, of the slots that are over."""
        since, slot_s = self._learned_at, self._rules.slot_s
        if now - since < slot_s:
            return
        self._learned_at = now
        if not self.learning:
            return
        book = self._books["exposed"]
        for stream, baseline in zip(book.streams, self._baselines, strict=True):
            if stream.alarm is None:
                n, s = stream.measure(book.all.total, book.all.at(nextafter(since, inf)))
                if n > 0:
                    baseline.learn(n, min(s, n), now)

    def _over(self, segment: Segment, stream: Stream) -> float:
        """Evidence that the breach is over, in nats: of what came since the last sign of it, but not
        before `pending`, on every side but control.
        """
        every = [
            book.all if segment == ALL else book.parts.series.get(segment)
            for side, book in self._books.items()
            if side != "control"
        ]
        series = [it for it in every if it is not None]
        moments = {when for it in series for when, _ in it.moments() if when >= self._pending_at}
        best = 0.0
        for moment in moments:
            parts = [stream.measure(it.total, it.at(moment)) for it in series]
            n, s = sum(n for n, _ in parts), sum(s for _, s in parts)
            if s <= n * stream.trigger.share:
                best = max(best, stream.against(n, s, mild=True))
        return best
