"""A judge that says what a test has told it to, and an engine on it at virtual time."""

from dataclasses import replace

from proxy.core.rollback.engine import Engine, World
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import Delta, Key, columns
from proxy.core.rollback.verdicts import ALL, Judgement, Segment, Verdict

ACT = RollbackSettings(mode="act")
EU, US = Segment("region", "eu"), Segment("region", "us")


def verdict(answer="breach", priority="P1", segment=ALL, *, shared=False):
    return Verdict(
        trigger=f"error_{priority.lower()}", metric="error", priority=priority, segment=segment,
        answer=answer, threshold=0.001, observed=0.2 if answer == "breach" else 0.0, bound=0.1, n=500,
        needed=None, since=None, shared=shared,
    )  # fmt: skip


GREEN = Judgement(verdicts=(verdict("ok"), verdict("ok", "P2")))
UNSURE = Judgement(verdicts=(verdict("inconclusive"),))
SILENT = Judgement(verdicts=(verdict("no_data"),))
P1 = Judgement(verdicts=(verdict(),))
P2 = Judgement(verdicts=(verdict("ok"), verdict("breach", "P2")))
SHARED = Judgement(verdicts=(verdict(shared=True),))


def p1_in(segment):
    return Judgement(verdicts=(verdict(), verdict(segment=segment)), blamed=segment, warned=segment)


class Scripted:
    """What is said of a side stays until it is said otherwise; what is asked of it is noted."""

    def __init__(self):
        self.says = {}
        self.learning = False
        self.over = False
        self.passing = False
        self.restarts = []
        self.carried = []
        self.awaited = []

    def feed(self, delta, now):
        pass

    def judge(self, now, side="exposed", criticals=()):
        return replace(self.says.get(side, SILENT), criticals=tuple(criticals))

    def restart(self, side, now):
        self.restarts.append((side, now))

    def carry(self, side, to, now, segment=ALL):
        self.carried.append((side, to, now) if segment == ALL else (side, to, now, segment))

    def pending(self, now):
        self.awaited.append(now)

    def passed(self, now):
        return self.over


class Bench:
    """An engine, its judge and the world around it; time passes in ticks."""

    def __init__(self, settings=ACT, saved=None, now=1_000.0, tick=1.0):
        self.judge = Scripted()
        self.now = now
        self.tick = tick
        self.world = World(settle_s=0.0)
        self.engine = Engine(settings, now, saved, judge=self.judge)
        self.moves = []

    def says(self, **sides):
        self.judge.says |= sides
        return self

    def step(self, seconds=0.0):
        """So much time, in ticks; what moved meanwhile."""
        before = len(self.moves)
        until = self.now + seconds
        while True:
            self.moves += self.engine.step(self.now, self.world)
            if self.now + self.tick > until + 1e-9:
                self.now = until
                break
            self.now += self.tick
        return self.moves[before:]

    def until(self, state, within):
        """How long it took; fails when it takes longer."""
        began = self.now
        while self.engine.state != state:
            assert self.now - began <= within, f"{self.engine.state} after {within} s"
            self.now += self.tick
            self.moves += self.engine.step(self.now, self.world)
        return self.now - began

    def came(self, side, requests):
        """So many requests of a side."""
        counts = [0] * columns(0)
        counts[0] = requests
        self.engine.feed(Delta(cells={Key("recommendations", "", side): counts}), self.now)

    def rolled_back(self):
        """By a P1 about all traffic, and quiet since."""
        self.says(exposed=P1, staged=P1)
        self.until("ROLLED_BACK", 10)
        self.says(exposed=GREEN, staged=GREEN, recovered=GREEN)
        return self


def states(moves):
    return [move.to for move in moves]
