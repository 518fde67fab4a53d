"""Everything that is known about one side of the traffic: its sums, its streams, the parts looked at."""

from collections.abc import Iterator
from itertools import product
from operator import add
from typing import Final

from proxy.core.rollback.detector import Alternatives
from proxy.core.rollback.segments import MOST_PARTS, MOST_SEGMENTS, busiest, rest_of
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import LATE, REQUESTS, Side
from proxy.core.rollback.triggers import DAY_S, Care, Measure, Past, Stream, measure
from proxy.core.rollback.verdicts import ALL, Segment
from proxy.core.rollback.window import SLOTS, Counts, Series, Window

RECOVERIES: Final = 100.0
"""Recoveries to one that is broken off for nothing. What was just taken back is as likely broken as not, so
less is asked for than of traffic that has been fine for years; and all that it costs is another hold.
"""


class Rules:
    """The settings' triggers, made ready to be applied to any stream."""

    def __init__(self, settings: RollbackSettings) -> None:
        self.triggers = settings.triggers
        self.targets = settings.targets
        self.width = LATE + len(self.targets)
        self.span_s = settings.window_s
        self.slot_s = settings.window_s / SLOTS
        self.minimum = settings.minimum_requests
        # Half of the false alarms that are allowed are those about all traffic, half those about its parts.
        streams = 2 * max(len(self.triggers), 1)
        alarm_s = settings.false_alarm_days * DAY_S
        recovery_s = len(settings.recovery_steps) * settings.recovery_step_s
        self._cares = {
            (recovering, part): Care.shared(
                min(alarm_s, RECOVERIES * recovery_s) if recovering else alarm_s,
                streams * (MOST_SEGMENTS if part else 1),
                self.slot_s,
                self.minimum,
            )
            for recovering, part in product((False, True), repeat=2)
        }
        self._measures: list[Measure] = [measure(it, self.targets) for it in self.triggers]
        shares = {it.share for it in self.triggers}
        self._alternatives = {share: Alternatives(share) for share in shares}
        self._past = Past(settings.window_s)  # of all sides but control: traffic moves between those
        self._past_of_control = Past(settings.window_s)

    def care(self, side: Side, segment: Segment) -> Care:
        """Of each stream there."""
        return self._cares[side == "recovered", segment != ALL]

    def streams(self, side: Side, segment: Segment, now: float) -> list[Stream]:
        """One for each trigger."""
        care = self.care(side, segment)
        past = self._past_of_control if side == "control" else self._past
        return [
            Stream(trigger, segment, measure, self._alternatives[trigger.share], care, past, now)
            for trigger, measure in zip(self.triggers, self._measures, strict=True)
        ]


class Book:
    """One side since `began` (monotonic seconds)."""

    def __init__(self, rules: Rules, side: Side, now: float) -> None:
        self.began = now
        self.all = Series(rules.width, rules.slot_s)
        self.parts: Window[Segment] = Window(rules.width, rules.span_s, rest_of, MOST_PARTS)
        self.streams = rules.streams(side, ALL, now)
        self._watched: dict[Segment, tuple[Series, list[Stream]]] = {}  # parts that are judged by themselves
        self._rules = rules
        self._side = side
        self._part = ALL  # of all traffic, what this one has
        self._slot = 0
        self._tick: dict[Segment, Counts] = {}
        self._nothing = (0,) * rules.width

    def becomes(self, side: Side) -> None:
        """It is about that side from now on."""
        self._side = side
        for _, stream in self.each():
            stream.care = self._rules.care(side, stream.segment)

    def takes(self, segment: Segment, other: "Book") -> None:
        """That part of the other side's traffic is all there is on this one from now on."""
        series, streams = other.known(segment)
        if series is not None:
            self.all = series.copy()  # who is under way counts there still
            self.streams = streams or self.streams
        for stream in self.streams:
            stream.segment, stream.part, stream.care = ALL, segment, self._rules.care(self._side, ALL)
        self._part = segment

    def known(self, segment: Segment) -> tuple[Series | None, list[Stream]]:
        """Of a part, that is judged here no more."""
        return self._watched.pop(segment, (self.parts.series.get(segment), []))

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
            if segment in self._watched:
                series, streams = self._watched[segment]
                for stream in streams:
                    changed |= stream.tick(counts, nothing, series, now)
        return changed

    def choose(self, now: float) -> None:
        """Once a slot: which parts are worth looking at by themselves."""
        slot = int(now / self._rules.slot_s)
        if slot == self._slot:
            return
        self._slot = slot
        total, series = self.all.sums(now)[REQUESTS], self.parts.series
        watched = {
            segment: (its, streams)
            for segment, (its, streams) in self._watched.items()
            if series.get(segment) is its  # else it had to make room for others
        }
        kept = {
            segment: it
            for segment, it in watched.items()
            if any(stream.alarm is not None for stream in it[1])
        }
        for segment in busiest(series.items(), total, self._rules.minimum, now):
            if len(kept) >= MOST_SEGMENTS:
                break
            if segment not in kept:
                streams = self._rules.streams(self._side, segment, now)
                kept[segment] = watched.get(segment, (series[segment], streams))
        self._watched = kept

    def series(self, segment: Segment) -> Series | None:
        """None: nothing is known of it, or it shares one with others."""
        return self.all if segment in {ALL, self._part} else self.parts.series.get(segment)

    def each(self) -> Iterator[tuple[Series, Stream]]:
        """All streams, those about all traffic first."""
        for stream in self.streams:
            yield self.all, stream
        for series, streams in self._watched.values():
            for stream in streams:
                yield series, stream
