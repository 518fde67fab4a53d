"""Traffic for the judge: made by chance with a fixed seed, at virtual time."""

from random import Random

from proxy.core.rollback.judge import Judge
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import FAILED, HITS, LATE, READS, REQUESTS, SHORT, SLOTS, Delta, Key, columns

TARGETS = (0.075, 0.2)
KEY = Key("recommendations", "treatment_a", "exposed")


def cell(n, failed=0, short=0.0, late=0, late_cold=0, reads=0, hits=0):
    """Counts of n requests; `short` in requests."""
    counts = [0] * columns(len(TARGETS))
    counts[REQUESTS], counts[FAILED], counts[SLOTS] = n, failed, 10 * n
    counts[SHORT] = round(short * 1000)
    counts[LATE], counts[LATE + 1] = late, late_cold
    counts[READS], counts[HITS] = reads, hits
    return counts


def delta(**cells):
    return Delta(targets=TARGETS, cells={KEY._replace(side=side): counts for side, counts in cells.items()})


def of(parts, targets=TARGETS):
    return Delta(targets=targets, cells=parts)


class Traffic:
    """Requests at `rate` a second, told to a judge in ticks of `tick` seconds."""

    def __init__(self, rate=50.0, tick=0.25, seed=1, judge=None, **settings):
        self.now = 1_000.0
        self.chance = Random(seed)
        self.judge = judge or Judge(RollbackSettings(**settings), self.now)
        self.rate, self.tick = rate, tick
        self.targets = TARGETS

    def drawn(self, n, share):
        return sum(self.chance.random() < share for _ in range(n))

    def arrivals(self, rate):
        """A Poisson number."""
        n, left = 0, self.chance.expovariate(1.0)
        while left < rate * self.tick:
            n, left = n + 1, left + self.chance.expovariate(1.0)
        return n

    def run(self, seconds, stop=lambda judgement: False, key=KEY, rate=None, others=(), **shares):
        """Go on for so long. Each share is of requests that went wrong (`hits`: right), by its name in
        `cell`; `others`: (key, rate, shares) beside it. The seconds until `stop`; None: it never did.
        """
        began = self.now
        while self.now < began + seconds - 1e-9:
            self.now += self.tick
            cells = {
                key: self.cell(rate, shares)
                for key, rate, shares in ((key, self.rate if rate is None else rate, shares), *others)
            }
            self.judge.feed(of(cells, self.targets), self.now)
            if stop(self.judge.judge(self.now)):
                return self.now - began
        return None

    def cell(self, rate, shares):
        n = self.arrivals(rate)
        counts = {name: self.drawn(n, share) for name, share in shares.items()}
        return cell(n, reads=n if "hits" in shares else 0, **counts)


def breach(name):
    """Whether the trigger of this name breaches, about whatever."""
    return lambda judgement: any(it.trigger == name and it.answer == "breach" for it in judgement.verdicts)


def verdict(judgement, name):
    """Of the trigger about all traffic."""
    return next(it for it in judgement.verdicts if it.trigger == name and not it.segment.dimension)
