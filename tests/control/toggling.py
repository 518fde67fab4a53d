"""A whole `ToggleControl`: a plane that only holds state, real files, a store in memory, clocks to be set."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

from auditing import AT, Clock, Direct

from proxy.control.kill import KillSwitch
from proxy.control.toggle_plans import baseline, flags, patch
from proxy.control.toggle_versions import Numbers
from proxy.control.toggles import ToggleControl
from proxy.core.audit import Entry, Outcome
from proxy.core.experiment import Experiment
from proxy.core.policy import Policy, Route, Sources
from proxy.core.toggles import Toggles
from proxy.storage.kill_file import KillFile
from proxy.storage.memory import MemoryStore
from proxy.storage.toggles_file import TogglesFile

RUNNING = Experiment(name="hybrid_v1")


def policy(toggles=None, experiment=RUNNING, sources=None, flag="billing"):
    sources = Sources(cf="cf", content="content") if sources is None else sources
    return Policy(
        routes=(
            Route(name="recommendations", path="/r", kind="recommend", sources=sources),
            Route(name="payment", path="/payment/", upstream="payment", flag=flag),
        ),
        upstreams={},
        toggles=toggles or Toggles(),
        experiment=experiment,
    )


class Plane:
    def __init__(self, policy):
        self.policy = policy
        self.applied = []

    def apply(self, policy):
        self.policy = policy
        self.applied.append((policy.toggles.version, policy.toggles.kill_switch))

    async def settled(self):
        pass


class Journal(Direct):
    """Waits at the gate when one is set; `lost` makes the next write happen and fail all the same."""

    def __init__(self, store):
        super().__init__(store)
        self.gate = None
        self.lost = ""
        self.reached = asyncio.Event()

    async def write(self, work):
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        done = await super().write(work)
        if self.lost:
            self.trouble, self.lost = self.lost, ""
            await super().write(work)
        return done


class Trail:
    def __init__(self):
        self.entries = []

    def entry(self, action, outcome=Outcome.ACCEPTED, **fields):
        return Entry(action=action, outcome=outcome, at=AT, **fields)

    def note(self, entry, *, sync=True):
        self.entries.append(entry)


class Rig:
    """State directory and store outlive `start`s; each is a sidecar of its own."""

    def __init__(self, directory, settings=None):
        self.file = directory / "toggles.json"
        self.kill_file = directory / "kill.json"
        self.settings = settings or policy()
        self.store = MemoryStore()
        self.journal = Journal(self.store)
        self.monotonic, self.wall = Clock(100.0), Clock()
        self.trail = Trail()
        self.control = self.kill = self.plane = None

    def made(self):
        self.plane = Plane(self.settings)
        numbers = Numbers()
        self.kill = KillSwitch(self.plane, KillFile(self.kill_file), numbers=numbers, wall=self.wall)
        self.control = ToggleControl(
            self.plane,
            self.kill,
            file=TogglesFile(self.file),
            journal=self.journal,
            trail=self.trail,
            numbers=numbers,
            environment="test",
            monotonic=self.monotonic,
            wall=self.wall,
        )
        return self.control

    @asynccontextmanager
    async def started(self, *, ended=True):
        """As a sidecar does it; what should happen by itself happens when `turn` is called. Without `ended`
        it was killed.
        """
        control = self.made()
        control.restore()
        await control._state.begin()
        await self.turn()
        yield control
        if ended:
            control._keeper.end()
            await control._catch_up()

    async def turn(self):
        await self.control._returns.expire()
        await self.control._catch_up()

    def pass_time(self, seconds):
        self.monotonic.now += seconds
        self.wall.now += seconds

    async def change(self, wanted, *, strict=False, reason="why", by="ann"):
        return await self.control.carry_out(self.control.plan(wanted), reason=reason, by=by, strict=strict)

    async def patch(self, ttl_s=None, rules=None, **toggles):
        return await self.change(patch(toggles, rules, ttl_s))

    async def baseline(self, name, ttl_s=None):
        return await self.change(baseline(name, ttl_s))

    async def flags(self, ttl_s=None, **values):
        return await self.change(flags(values, ttl_s))

    @property
    def toggles(self):
        return self.plane.policy.toggles

    def rows(self):
        found = self.store.read(lambda it: it.toggles.page(before=None, limit=1000))
        return [SimpleNamespace(version=it.version, kind=it.kind, by=it.actor) for it in reversed(found)]

    def kinds(self):
        return [(it.version, it.kind) for it in self.rows()]


async def changed(rig, *shares, ended=True):
    """A sidecar that made these changes and ended, or was killed."""
    async with rig.started(ended=ended):
        for share in shares:
            await rig.patch(exposure_percent=share)
