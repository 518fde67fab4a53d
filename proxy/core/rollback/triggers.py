"""One trigger about one part of the traffic: when it breaches, when that is over, what it answers.

A breach begins when either of two concludes, the detector or the window, and stays until there is evidence
against it. While it lasts, the requests since the last sign of it are held against the share that was found
then: once that explains them a thousand times worse than the allowed share does, for `KEEP_S` at least, and
no more than is allowed went wrong among them, it is over, and the window begins anew where they began. A
breach that comes back within the window must stay away twice as long each time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log, log1p
from typing import Final, Literal, TypeAlias

from proxy.core.rollback.detector import PAUSE_S, Alternatives, Detector
from proxy.core.rollback.estimate import CONFIDENT, lower, needed, odds, over, under, upper
from proxy.core.rollback.settings import Trigger
from proxy.core.rollback.signals import FAILED, HITS, LATE, READS, REQUESTS, SHORT
from proxy.core.rollback.verdicts import Answer, Segment, Verdict
from proxy.core.rollback.window import Counts, Series

ALL_BUT: Final = 1.0 - 1e-9
"""A share of one would be refuted for ever by a single request that went well."""
ENDED: Final = log(1000.0)
"""Evidence that a breach is over, in nats. It is looked for all the time, so 20 to 1 would be found soon."""
KEEP_S: Final = 10.0
KEEP_MAX_S: Final = 160.0
WORSE: Final = 3.0
"""`ok` says that the odds of going wrong are not so many times those allowed, at 95 %."""
MILD: Final = 100.0
"""Times the odds allowed: what may be left of a breach that seems to have passed."""
DAY_S: Final = 86_400.0

Measure: TypeAlias = Callable[[Counts, Counts], tuple[float, float]]
"""Between two totals of a series: how many requests, and how many of them went wrong."""


def _coverage(total: Counts, before: Counts) -> tuple[float, float]:
    return total[REQUESTS] - before[REQUESTS], (total[SHORT] - before[SHORT]) / 1000.0


def _error(total: Counts, before: Counts) -> tuple[float, float]:
    return total[REQUESTS] - before[REQUESTS], total[FAILED] - before[FAILED]


def _cache(total: Counts, before: Counts) -> tuple[float, float]:
    # Reads of one request go wrong together: they count as one that went wrong in part.
    reads = total[READS] - before[READS]
    n = min(reads, total[REQUESTS] - before[REQUESTS])
    return n, n * (reads - total[HITS] + before[HITS]) / reads if reads else 0.0


def _late(place: int) -> Measure:
    column = LATE + place

    def late(total: Counts, before: Counts) -> tuple[float, float]:
        return total[REQUESTS] - before[REQUESTS], total[column] - before[column]

    return late


def measure(trigger: Trigger, known: Sequence[float]) -> Measure:
    """What a trigger looks at, in cells with these latency targets."""
    if trigger.metric == "latency":
        return _late(known.index((trigger.target_ms or 0.0) / 1000))
    return {"coverage": _coverage, "error": _error, "cache": _cache}[trigger.metric]


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """How sure a stream must be, made from how long it shall be to a false alarm.

    That is said of everything that runs at once. Chances of false alarms add up, so each of `streams`
    gets its part of them, half for its detector and half for its window, which is asked once a slot.
    """

    detector: float  # seconds between two false alarms, at least
    window: float  # nats
    minimum: int  # requests, in the window; for the detector since the side began

    @classmethod
    def shared(cls, alarm_s: float, streams: int, slot_s: float, minimum: int) -> "Care":
        """For each of so many."""
        seconds = alarm_s * 2 * streams
        return cls(detector=seconds, window=log(max(seconds / slot_s, 1.0)), minimum=minimum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A breach that goes on."""

    at: float
    since: float  # the moment from which on the alternative explains best what came
    share: float  # that alternative, or what was seen since, whichever is less
    by: Literal["window", "detector"]
    relapsed: bool  # one before has ended within the window


class Past:
    """When breaches have ended, by trigger and part of the traffic: it outlives the streams."""

    __slots__ = ("_ends", "_span_s")

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._ends: dict[tuple[str, Segment], list[float]] = {}

    def add(self, trigger: str, segment: Segment, now: float) -> None:
        """One has ended."""
        self._ends = {
            key: kept
            for key, ends in self._ends.items()
            if (kept := [it for it in ends if it > now - self._span_s])
        }
        self._ends.setdefault((trigger, segment), []).append(now)

    def recent(self, trigger: str, segment: Segment, now: float) -> int:
        """How many have, as long as a window is."""
        since = now - self._span_s
        return sum(it > since for it in self._ends.get((trigger, segment), ()))


class Stream:
    """One trigger, one series. `series` is told on each call, and counts the tick already."""

    __slots__ = (
        "_armed", "_begun", "_of", "_past", "_quiet_at", "_quiet_n", "_quiet_s",
        "_run", "_run_at", "_run_from",
        "alarm", "care", "detector", "measure", "part", "segment", "trigger",
    )  # fmt: skip

    def __init__(
        self,
        trigger: Trigger,
        segment: Segment,
        measure: Measure,
        of: Alternatives,
        care: Care,
        past: Past,
        now: float,
    ) -> None:
        self.segment = segment
        self.part = segment
        """What it is of the traffic of other sides; another where that part is all there is on this one."""
        self.trigger = trigger
        self.measure = measure
        self.alarm: Alarm | None = None
        self.detector = Detector(of, now)
        self._of = of
        self.care = care
        self._past = past
        self._begun: Counts | None = None  # the total where this window began, if it was cut short
        self._armed = trigger.metric != "cache"
        self._quiet_n = self._quiet_s = 0.0  # not told to the detector yet, until …
        self._quiet_at = now
        # The requests since the last sign of the breach: nats against it, since when, and the total then.
        self._run = 0.0
        self._run_at = 0.0
        self._run_from: Counts = ()

    def tick(self, counts: Counts, nothing: Counts, series: Series, now: float) -> bool:
        """Take in what came since the tick before. Whether a breach began or ended."""
        n, s = self.measure(counts, nothing)
        if n <= 0 and s <= 0:
            return False
        if self.alarm is not None:
            return self._ease(n, s, series, now)
        if not self._armed:
            return False
        if s <= n * self.trigger.share:
            # No alternative explains a tick better in which no more went wrong than is allowed. So several
            # of them told as one, which bets from before the first only, give a value that is lower than
            # that of each by itself: no more false alarms, and most ticks cost nothing.
            self._quiet_n += n
            self._quiet_s += s
            self._quiet_at = now
            if now - self.detector.at >= PAUSE_S:
                self._tell_quiet()
            return False
        if self._quiet_n:
            self._tell_quiet()
        if (
            self.detector.add(n, s, now) >= self.care.detector
            and self.measure(series.total, nothing)[0] >= self.care.minimum  # a window may hold too few
        ):
            self._raise(self._of.shares[self.detector.leading], "detector", series, now)
            return True
        return False

    def look(self, series: Series, now: float) -> tuple[float, float]:
        """Conclude from the window, if it allows to; returns it."""
        n, s = found = self.window(series, now)
        share = self.trigger.share
        if n < self.care.minimum:
            if not n and self.alarm is not None:  # nothing came for as long as the window is: nobody knows
                self.alarm = None
                self.detector = Detector(self._of, now)
        elif not self._armed:
            self._armed = s <= n * share  # a cache that has not been warm yet cannot have got worse
        elif s > n * share and self.alarm is None and over(n, s, share) >= self.care.window:
            self._raise(min(max(s / n, self._of.shares[0]), ALL_BUT), "window", series, now)
        return found

    def window(self, series: Series, now: float) -> tuple[float, float]:
        """Requests and those that went wrong, in the window or since a breach ended in it."""
        before = series.start(now)
        if self._begun is not None:
            if self._begun[REQUESTS] > before[REQUESTS]:
                before = self._begun
            else:
                self._begun = None
        n, s = self.measure(series.total, before)
        return n, min(s, n)

    def verdict(self, n: float, s: float, baseline: float | None) -> Verdict:
        """The answer, where this is what the window holds, or what came since the breach began."""
        trigger, care, alarm = self.trigger, self.care, self.alarm
        observed = s / n if n else None
        bound = missing = None
        answer: Answer = "breach" if alarm is not None else "inconclusive"
        if observed is None:
            if alarm is None:
                answer, missing = "no_data", care.minimum
        else:
            allowed = max(trigger.share, min(baseline or 0.0, odds(trigger.share, 1.5)))
            worst = odds(allowed, WORSE)
            bad = observed > trigger.share
            bound = lower(n, s, care.window) if bad else upper(n, s, CONFIDENT)
            if alarm is None:
                if n < care.minimum:
                    missing = int(care.minimum - n)
                elif observed <= allowed:
                    if self._armed and under(n, s, worst) >= CONFIDENT:
                        answer = "ok"
                    else:
                        missing = needed(n, s, worst, CONFIDENT)
                elif self._armed:
                    missing = needed(n, s, trigger.share, care.window)
        return Verdict(
            trigger=trigger.name,
            metric=trigger.metric,
            priority=trigger.priority,
            segment=self.segment,
            answer=answer,
            threshold=trigger.share,
            observed=observed,
            bound=bound,
            n=int(n),
            needed=missing,
            since=alarm.since if alarm is not None else None,
            by=alarm.by if alarm is not None else "",
            baseline=baseline,
        )

    def against(self, n: float, s: float, *, mild: bool = False) -> float:
        """Evidence of these requests that the breach is over, in nats; needs one that goes on.

        `mild`: also that it does not go on more mildly than it was found. Else two good requests would be
        enough after an outage.
        """
        share = self.trigger.share
        found = self.alarm.share if self.alarm is not None else share
        if mild:
            found = min(found, odds(share, MILD))
        return -s * log(found / share) - max(n - s, 0.0) * (log1p(-found) - log1p(-share))

    def end(self, total: Counts | None, now: float) -> None:
        """The breach is over since the moment of this total; None: in a window that is not read any more."""
        self.alarm = None
        self._past.add(self.trigger.name, self.segment, now)
        self.detector = Detector(self._of, now)
        self._quiet_n = self._quiet_s = 0.0
        self._begun = total

    def _raise(self, share: float, by: Literal["window", "detector"], series: Series, now: float) -> None:
        bad = log(share / self.trigger.share)
        good = log1p(-share) - log1p(-self.trigger.share)
        since, best, seen = now, 0.0, share
        for when, before in series.moments():
            if self._begun is not None and before[REQUESTS] < self._begun[REQUESTS]:
                break
            n, s = self.measure(series.total, before)
            evidence = s * bad + max(n - s, 0.0) * good
            if evidence > best:
                since, best, seen = when, evidence, s / n if n else share
        self.alarm = Alarm(
            at=now,
            since=since,
            share=max(min(share, seen), self._of.shares[0]),
            by=by,
            relapsed=self._past.recent(self.trigger.name, self.segment, now) > 0,
        )
        self._run, self._run_at, self._run_from = 0.0, now, series.total

    def _ease(self, n: float, s: float, series: Series, now: float) -> bool:
        self._run += self.against(n, s)
        if self._run <= 0.0:
            self._run, self._run_at, self._run_from = 0.0, now, series.total
        if self._run < ENDED or now - self._run_at < self._keep_s(now):
            return False
        n, s = self.measure(series.total, self._run_from)
        if s > n * self.trigger.share:  # less than it was, and still too much
            alarm = self.alarm
            if alarm is not None:
                share = min(max(s / n, self._of.shares[0]), alarm.share)
                self.alarm = replace(alarm, share=share)
            self._run, self._run_at, self._run_from = 0.0, now, series.total
            return False
        self.end(self._run_from, now)
        return True

    def _tell_quiet(self) -> None:
        self.detector.add(self._quiet_n, self._quiet_s, self._quiet_at)
        self._quiet_n = self._quiet_s = 0.0

    def _keep_s(self, now: float) -> float:
        return float(min(KEEP_S * 2 ** self._past.recent(self.trigger.name, self.segment, now), KEEP_MAX_S))
