"""Everything that is known about one side of the traffic: its sums, its streams, the parts looked at."""

from collections.abc import Iterator
from operator import add

from proxy.core.rollback.detector import Alternatives
from proxy.core.rollback.segments import MOST_SEGMENTS, busiest, rest_of
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import LATE, REQUESTS, Side
from proxy.core.rollback.triggers import Care, Measure, Past, Stream, measure
from proxy.core.rollback.verdicts import ALL, Segment
from proxy.core.rollback.window import SLOTS, Counts, Series, Window


class Rules:
    """The settings' triggers, made ready to be applied to any stream."""

    __slots__ = (
        "_alternatives", "_measures", "_past", "_past_of_control", "all", "minimum", "part", "slot_s",
        "span_s", "targets", "triggers", "width",
    )  # fmt: skip

    def __init__(self, settings: RollbackSettings) -> None:
        self.triggers = settings.triggers
        self.targets = settings.targets
        self.width = LATE + len(self.targets)
        self.span_s = settings.window_s
        self.slot_s = settings.window_s / SLOTS
        self.minimum = settings.minimum_requests
        # Half of the false alarms that are allowed are those about all traffic, half those about its parts.
        streams = 2 * max(len(self.triggers), 1)
        self.all = Care.shared(settings, streams, self.slot_s)
        self.part = Care.shared(settings, streams * MOST_SEGMENTS, self.slot_s)
        self._measures: list[Measure] = [measure(it, self.targets) for it in self.triggers]
        shares = {it.share for it in self.triggers}
        self._alternatives = {share: Alternatives(share) for share in shares}
        self._past = Past(settings.window_s)  # of all sides but control: traffic moves between those
        self._past_of_control = Past(settings.window_s)

    def streams(self, side: Side, segment: Segment, now: float) -> list[Stream]:
        """One for each trigger."""
        care = self.all if segment == ALL else self.part
        past = self._past_of_control if side == "control" else self._past
        return [
            Stream(trigger, segment, measure, self._alternatives[trigger.share], care, past, now)
            for trigger, measure in zip(self.triggers, self._measures, strict=True)
        ]


class Book:
    """One side since `began` (monotonic seconds)."""

    __slots__ = (
        "_nothing",
        "_rules",
        "_side",
        "_slot",
        "_tick",
        "all",
        "began",
        "parts",
        "streams",
        "watched",
    )

    def __init__(self, rules: Rules, side: Side, now: float) -> None:
        self.began = now
        self.all = Series(rules.width, rules.slot_s)
        self.parts: Window[Segment] = Window(rules.width, rules.span_s, rest_of)
        self.streams = rules.streams(side, ALL, now)
        self.watched: dict[Segment, list[Stream]] = {}
        """Parts that are judged by themselves."""
        self._rules = rules
        self._side = side
        self._slot = 0
        self._tick: dict[Segment, Counts] = {}
        self._nothing = (0,) * rules.width

    def collect(self, segments: tuple[Segment, ...], counts: Counts) -> None:
        """A cell of the tick that `count` ends."""
        tick = self._tick
        for segment in segments:
            found = tick.get(segment)
            tick[segment] = counts if found is None else [*map(add, found, counts)]

    def count(self, now: float) -> bool:
        """Take in the tick. Whether a breach began or ended."""
        tick, self._tick = self._tick, {}
        nothing, changed = self._nothing, False
        counts = tick.pop(ALL, None)
        if counts is None:
            return False
        self.all.add(counts, now)
        for stream in self.streams:
            changed |= stream.tick(counts, nothing, self.all, now)
        for segment, counts in tick.items():
            self.parts.add(segment, counts, now)
            streams = self.watched.get(segment)
            series = self.parts.series.get(segment)
            if streams is not None and series is not None:
                for stream in streams:
                    changed |= stream.tick(counts, nothing, series, now)
        return changed

    def look(self, now: float) -> None:
        """What the windows say; and, once a slot, which parts are worth looking at."""
        for series, stream in self.each():
            stream.look(series, now)
        slot = int(now / self._rules.slot_s)
        if slot != self._slot:
            self._slot = slot
            self._choose(now)

    def series(self, segment: Segment) -> Series | None:
        """None: nothing is known of it, or it shares one with others."""
        return self.all if segment == ALL else self.parts.series.get(segment)

    def each(self) -> Iterator[tuple[Series, Stream]]:
        """All streams, those about all traffic first."""
        for stream in self.streams:
            yield self.all, stream
        for segment, streams in self.watched.items():
            series = self.parts.series.get(segment)
            if series is None:  # it had to make room for others
                continue
            for stream in streams:
                yield series, stream

    def _choose(self, now: float) -> None:
        total = self.all.sums(now)[REQUESTS]
        chosen = busiest(self.parts.series.items(), total, self._rules.minimum, now)
        kept = {
            segment: streams
            for segment, streams in self.watched.items()
            if segment in self.parts.series and any(it.alarm is not None for it in streams)
        }
        for segment in chosen:
            if len(kept) >= MOST_SEGMENTS:
                break
            if segment not in kept:
                found = self.watched.get(segment)
                kept[segment] = self._rules.streams(self._side, segment, now) if found is None else found
        self.watched = kept
