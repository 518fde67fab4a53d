"""The judge: takes in what requests came to, and says of each trigger what is known."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf, nextafter
from typing import Final, NamedTuple

from proxy.core.rollback.baseline import Baseline
from proxy.core.rollback.book import Book, Rules
from proxy.core.rollback.estimate import CONFIDENT
from proxy.core.rollback.segments import Case, blamed, busiest, segments_of, shared
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import REQUESTS, Calls, Delta, Key, Side
from proxy.core.rollback.triggers import Stream
from proxy.core.rollback.verdicts import ALL, Critical, Judgement, Segment, Verdict
from proxy.core.rollback.window import Series, Window

JUDGED: Final[tuple[Side, ...]] = ("exposed", "control", "staged", "recovered")
_KEYS_KNOWN: Final = 4_096
_AGE: Final = 20.0
"""Figures are at most as old as this part of what they are about, and as a slot."""
_FRESH_S: Final = 1.0
"""… and as this, while something breaches."""
_NOTHING: Final = Judgement()


class Share(NamedTuple):
    """How much of some traffic went wrong, over the window."""

    side: Side | None  # None: the calls of an upstream, whoever they were for
    segment: Segment
    requests: int
    wrong: dict[str, float]  # by trigger; of an upstream `failed` and `late` (past slow_call_ms). 0…1


class Judge:
    """Judges several sides of the traffic, each by itself. `now`: monotonic seconds, never going back."""

    def __init__(self, settings: RollbackSettings, now: float) -> None:
        self.learning = False
        """Whether what is seen is normal: set while nothing is wrong and no toggle is laid on."""
        self._rules = Rules(settings)
        self._books = {side: Book(self._rules, side, now) for side in JUDGED}
        self._upstreams: Window[str] = Window(len(Calls._fields), settings.window_s, lambda _: "")
        self._segments: dict[Key, tuple[Segment, ...]] = {}
        self._latest: dict[Side, tuple[float, Judgement]] = {}  # until when it is good enough
        self._baselines = {
            it.name: Baseline(max(self._rules.minimum, 1.0 / it.share), now) for it in settings.triggers
        }
        self._learned_at = now
        self._pending_at = now
        self._charges: list[tuple[float, Stream]] = []  # breaches of sides that began anew, and when

    def feed(self, delta: Delta, now: float) -> None:
        """Count a delta. One of other latency targets than the triggers' is left out: its columns mean
        something else (a reload is on its way to a worker).
        """
        for name, calls in delta.upstreams.items():
            self._upstreams.add(name, calls, now)
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
        until, found = self._latest.get(side, (now, _NOTHING))
        if now >= until:
            found = self._look(side, now)
        return replace(found, criticals=tuple(criticals)) if criticals else found

    def restart(self, side: Side, now: float) -> None:
        """That side begins anew: a stage took effect, a step of the recovery began.

        What breaches there is still what `passed` is asked about, if `pending` follows at the same moment.
        """
        self._charges = [it for it in self._charges if it[0] == now]
        self._charges += [(now, stream) for _, stream in self._books[side].each() if _grave(stream)]
        self._books[side] = Book(self._rules, side, now)
        self._latest.pop(side, None)

    def carry(self, side: Side, to: Side, now: float, segment: Segment = ALL) -> None:
        """All that is known about one side, or that part of it, is from now on about the other, whose traffic
        it has become; of all of it the one begins anew. What is not enough yet for a breach is not lost by
        that.
        """
        if segment == ALL:
            self._books[to] = self._books[side]
            self._books[to].becomes(to)
            self._books[side] = Book(self._rules, side, now)
        else:
            self._books[to] = Book(self._rules, to, now)
            self._books[to].takes(segment, self._books[side])
        self._latest.pop(side, None)
        self._latest.pop(to, None)
        self._learned_at = now

    def pending(self, now: float) -> None:
        """From now on `passed` is asked: what comes is held against what was found."""
        self._pending_at = nextafter(now, inf)  # the tick that is counted already is what was found
        self._charges = [it for it in self._charges if it[0] == now]
        self._charges += [(now, stream) for _, stream in self._breaches()]

    def passed(self, now: float) -> bool:
        """Whether what came since `pending`, on every side but control, says that each P1 breach is over.

        True ends those breaches. One that has come back within the window is not believed.
        """
        current = list(self._breaches())
        found = self._charged()
        if not self._all_over(found, CONFIDENT):
            return False
        for series, stream in current:
            stream.end(series.at(self._over(stream)[1]), now)
        for stream in found:
            if stream.alarm is not None:
                stream.end(None, now)
        self._charges = []
        self._latest.clear()
        return True

    @property
    def passing(self) -> bool:
        """Whether it says so rather than not: `passed` may be about to."""
        found = self._charged()
        return bool(found) and self._all_over(found, CONFIDENT / 2)

    def _charged(self) -> list[Stream]:
        """What `passed` is about."""
        found = [stream for _, stream in self._breaches()]
        return found + [stream for _, stream in self._charges if _grave(stream) and stream not in found]

    def _all_over(self, found: Sequence[Stream], nats: float) -> bool:
        return not any(
            (stream.alarm is not None and stream.alarm.relapsed) or self._over(stream)[0] < nats
            for stream in found
        )

    def shares(self, now: float) -> tuple[Share, ...]:
        """Of every side and part that is looked at by itself, and of upstreams: for people to read."""
        found: dict[tuple[Side, Segment], Share] = {}
        for side, book in self._books.items():
            for series, stream in book.each():
                n, s = stream.window(series, now)
                if n:
                    share = found.setdefault((side, stream.segment), Share(side, stream.segment, int(n), {}))
                    share.wrong[stream.trigger.name] = s / n
        calls = {name: Calls(*series.sums(now)) for name, series in self._upstreams.series.items()}
        return (
            *found.values(),
            *(
                Share(
                    None,
                    Segment("upstream", name),
                    it.calls,
                    {"failed": it.failed / it.calls, "late": min(it.late / it.calls, 1.0)},
                )
                for name, it in calls.items()
                if it.calls
            ),
        )

    def _look(self, side: Side, now: float) -> Judgement:
        book = self._books[side]
        book.choose(now)
        if side == "exposed":
            self._learn(now)
        verdicts: list[Verdict] = []
        cases: dict[str, Case] = {}
        grave: list[Case] = []
        breach = False
        for series, stream in book.each():
            n, s = stream.look(series, now)
            if stream.alarm is None and stream.segment != ALL:
                continue
            trigger = stream.trigger
            if stream.alarm is not None:  # what is too much is told of what came since
                n, s = stream.measure(series.total, series.at(stream.alarm.since))
            verdict = stream.verdict(n, min(s, n), self._baselines[trigger.name].share)
            if stream.alarm is not None:
                breach = True
                verdict = self._beside_control(side, verdict, series, stream, now)
                if not verdict.shared and trigger.name not in cases:
                    case = cases[trigger.name] = Case(stream.measure, trigger.share, stream.alarm.since)
                    if trigger.priority == "P1":
                        grave.append(case)
            verdicts.append(verdict)
        found = Judgement(
            verdicts=tuple(verdicts),
            blamed=self._blamed(book, grave, now),
            warned=self._blamed(book, [*cases.values()], now),
        )
        age = min((now - book.began) / _AGE, _FRESH_S if breach else self._rules.slot_s)
        self._latest[side] = now + age, found
        return found

    def _blamed(self, book: Book, cases: Sequence[Case], now: float) -> Segment:
        if not cases:
            return ALL
        parts = book.parts.series
        chosen = busiest(parts.items(), book.all.sums(now)[REQUESTS], 1, now)
        return blamed(cases, book.all, [(it, parts[it]) for it in chosen])

    def _beside_control(
        self, side: Side, verdict: Verdict, series: Series, stream: Stream, now: float
    ) -> Verdict:
        """A breach, compared with what control had of it where it had enough requests."""
        book = self._books.get("control")
        control = book.series(stream.part) if book is not None and side != "control" else None
        alarm = stream.alarm
        if book is None or control is None or alarm is None:
            return verdict
        m, t = stream.measure(control.total, control.start(now))
        own = stream.measure(series.total, series.at(alarm.since))
        # What control has had for longer than this side was looked at, a step of a recovery say, it has now.
        had = [
            it.alarm.since
            for _, it in book.each()
            if it.alarm is not None and (it.trigger, it.segment) == (stream.trigger, stream.part)
        ]
        beside = stream.measure(control.total, control.at(min([alarm.since, *had])))
        if m < self._rules.minimum:
            return verdict
        return replace(verdict, control=min(t / m, 1.0), shared=shared(own, beside, stream.trigger.share))

    def _learn(self, now: float) -> None:
        """Once a slot, of what came since."""
        since = self._learned_at
        if now - since < self._rules.slot_s:
            return
        self._learned_at = now
        if not self.learning:
            return
        book = self._books["exposed"]
        before = book.all.at(nextafter(since, inf))
        for stream in book.streams:
            if stream.alarm is None:
                n, s = stream.measure(book.all.total, before)
                if n > 0:
                    self._baselines[stream.trigger.name].learn(n, min(s, n), now)

    def _breaches(self) -> Iterator[tuple[Series, Stream]]:
        """P1 breaches that go on, on every side but control."""
        for side, book in self._books.items():
            if side != "control":
                yield from ((series, stream) for series, stream in book.each() if _grave(stream))

    def _over(self, stream: Stream) -> tuple[float, float]:
        """Evidence that a breach is over, in nats, and since when: of what came since the last sign of it,
        but not before `pending`, on every side but control.
        """
        series = [
            found
            for side, book in self._books.items()
            if side != "control" and (found := book.series(stream.part)) is not None
        ]
        moments = {when for it in series for when, _ in it.moments() if when >= self._pending_at}
        best = 0.0, self._pending_at
        for moment in moments:
            parts = [stream.measure(it.total, it.at(moment)) for it in series]
            n, s = sum(n for n, _ in parts), sum(s for _, s in parts)
            if s <= n * stream.trigger.share:
                best = max(best, (stream.against(n, s, mild=True), moment))
        return best


def _grave(stream: Stream) -> bool:
    return stream.alarm is not None and stream.trigger.priority == "P1"
