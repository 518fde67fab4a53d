"""A rollback to be tested: the real engine at a clock that a test moves, real files, no traffic."""

from proxy.control.layering import Layering
from proxy.control.rollback import RollbackControl
from proxy.control.rollback_criticals import Criticals
from proxy.control.rollback_loads import Loads
from proxy.control.rollback_world import Surroundings
from proxy.core.audit import Entry, Outcome
from proxy.core.capacity import Shown
from proxy.core.policy import Policy, Route, Sources, Upstream
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import FAILED, FILLED, REQUESTS, SHORT, SLOTS, Delta, Key, columns
from proxy.ports import StoreError
from proxy.storage.rollback_file import RollbackFile
from proxy.telemetry.counters import Counters

TARGETS = (0.075, 0.2)
TICK_S = 0.25


class Plane:
    def __init__(self, settings):
        self.applied = []
        self.breakers = {}
        self.policy = Policy(
            routes=(
                Route(name="r", path="/r", kind="recommend", sources=Sources(cf="cf", content="content")),
            ),
            upstreams={name: Upstream(url="http://127.0.0.1:1") for name in ("cf", "content")},
            rollback=settings,
        )

    def apply(self, policy):
        self.policy = policy
        self.applied.append(policy.layers)

    async def settled(self):
        pass


class Trail:
    def __init__(self):
        self.entries = []
        self.full = ""

    def entry(self, action, outcome=Outcome.ACCEPTED, **fields):
        return Entry(action=action, outcome=outcome, at="2026-01-02T03:04:05.000000Z", **fields)

    def note(self, entry, *, sync=True):
        if self.full:
            raise StoreError(self.full)
        self.entries.append(entry)


class File(RollbackFile):
    """Counts, and fails as it is told."""

    def __init__(self, path, log):
        super().__init__(path)
        self.full = ""
        self.log = log

    def save(self, content):
        if self.full:
            raise StoreError(self.full)
        self.log.append("saved")
        super().save(content)


class Bench:
    """`again` is a restart after so many seconds in which nothing ran."""

    def __init__(self, directory, **settings):
        self.path = directory / "rollback.json"
        self.now, self.wall = 1000.0, 1_700_000_000.0
        self.settings = RollbackSettings(**{"mode": "act"} | settings)
        self.trail = Trail()
        self.log = []
        self.make()

    def make(self):
        self.plane = Plane(self.settings)
        self.counters = Counters()
        self.layering = Layering(self.plane)
        self.file = File(self.path, self.log)
        self.lay = self.layering.lay
        self.layering.lay = self._lay
        self.criticals = Criticals(self.plane, self.counters)
        self.control = RollbackControl(
            self.layering,
            Surroundings(self.layering, self.criticals, Loads(self.counters, lambda _: Shown(per_s=1000.0))),
            store=self.file,
            trail=self.trail,
            monotonic=lambda: self.now,
            wall=lambda: self.wall,
        )
        self.control.restore()

    def _lay(self, layers):
        self.log.append("laid")
        self.lay(layers)

    def pass_s(self, seconds):
        self.now += seconds
        self.wall += seconds

    async def again(self, after_s=0.0):
        """As if it had been killed: nothing is told to end."""
        self.pass_s(after_s)
        self.now = 5.0  # another boot has another monotonic clock
        self.log.clear()
        self.make()
        await self.control.begin()
        self.quiet()

    def quiet(self):
        """Steps come only when they are asked for."""
        self.control._running.cancel()

    async def begin(self):
        await self.control.begin()
        self.quiet()
        return self

    @property
    def state(self):
        return self.control.engine.state

    @property
    def stages(self):
        return [it.stage for it in self.plane.policy.layers]

    async def run(self, seconds, *, per_s=200, failed=0.0, unfilled=0.0, side=None, until=None):
        """Traffic of whom the layers make it, a tick at a time."""
        for _ in range(int(seconds / TICK_S)):
            self.pass_s(TICK_S)
            n = int(per_s * TICK_S)
            if n:
                self.control.feed(self.delta(n, failed, unfilled, side))
            await self.control.tick()
            if until is not None and self.state == until:
                return True
        return until is None

    def delta(self, n, failed, unfilled, side):
        counts = [0] * columns(len(TARGETS))
        bad = round(n * failed)
        counts[REQUESTS], counts[FAILED], counts[SLOTS] = n, bad, 10 * n
        short = max(bad, round(n * unfilled))
        counts[FILLED], counts[SHORT] = 10 * (n - short), 1000 * short
        layers = self.plane.policy.layers
        side = side or ("staged" if layers else "exposed")
        if side == "staged" and layers and layers[0].low > 0:
            side = "recovered"
        return Delta(targets=TARGETS, cells={Key("r", "all", side): counts})
