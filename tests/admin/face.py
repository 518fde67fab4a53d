"""A running admin face over real control services, real files and a plane that only holds state.

Every answer that a test gets is compared with the OpenAPI document on its way.
"""

import asyncio
import re
import threading
from dataclasses import replace
from types import SimpleNamespace

import aiohttp

from proxy.admin.app import AdminServer, application
from proxy.admin.calls import Services
from proxy.admin.endpoints import ENDPOINTS
from proxy.admin.openapi import document
from proxy.control import BreakerControl, KillSwitch, Numbers, StatusBoard, ToggleControl
from proxy.control.drills import DrillControl
from proxy.control.layering import Layering
from proxy.control.preview import Previews
from proxy.control.rollback import RollbackControl
from proxy.control.rollback_board import RollbackBoard
from proxy.control.rollback_criticals import Criticals
from proxy.control.rollback_loads import Loads
from proxy.control.rollback_world import Surroundings
from proxy.core.audit import Entry, Outcome
from proxy.core.breaker import Breaker, BreakerSettings
from proxy.core.inputs import Recent
from proxy.core.policy import Policy, Route, Sources, Upstream
from proxy.core.roles import Role
from proxy.ports import StoreError
from proxy.ports.audit import AuditPage
from proxy.ports.records import StoredCheckpoint
from proxy.storage.kill_file import KillFile
from proxy.storage.memory import MemoryStore
from proxy.storage.rollback_file import RollbackFile
from proxy.storage.toggles_file import TogglesFile
from proxy.storage.tokens import TokenFile
from proxy.telemetry.collector import Metrics, SidecarCollector
from proxy.telemetry.counters import Counters


class StillPlane:
    """Carries no traffic."""

    def __init__(self):
        self.policy = Policy(
            routes=(
                Route(name="payment", path="/payment/", upstream="payment", flag="billing"),
                Route(name="films", path="/r", kind="recommend", sources=Sources(cf="cf", content="content")),
            ),
            upstreams={
                "payment": Upstream(url="http://127.0.0.1:9103"),
                "cf": Upstream(url="http://127.0.0.1:9101"),
                "content": Upstream(url="http://127.0.0.1:9102"),
            },
            signing_key=b"k" * 32,
        )
        self.draining = False
        self.on_transition = None
        self.breakers = {
            "payment": Breaker(
                "payment", BreakerSettings(), rng=lambda: 0.5, on_transition=self.moved, now=0.0
            )
        }

    def moved(self, change):
        self.on_transition(change)

    def apply(self, policy):
        self.policy = policy

    async def settled(self):
        pass


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


AT = "2026-01-02T03:04:05.000000Z"


class Trail:
    """Keeps entries in a list; `gone` and `full` are why neither store nor spool takes any."""

    def __init__(self):
        self.entries = []
        self.gone = self.full = ""
        self.newest = StoredCheckpoint(size=2, root=b"r" * 32, at=AT, note="fusebox\n2\n...\n")
        self.asked = []
        self.report = {"ok": True}
        self.reached = asyncio.Event()  # somebody writes, or verifies
        self.killed = asyncio.Event()  # somebody has thrown the kill switch
        self.loop = asyncio.get_running_loop()
        self.go = asyncio.Event()  # cleared: the store hangs
        self.go.set()
        self.stuck = threading.Event()  # cleared: so does the disk of the spool
        self.stuck.set()

    def entry(self, action, outcome=Outcome.ACCEPTED, **fields):
        return Entry(action=action, outcome=outcome, at=AT, instance="test", **fields)

    async def record(self, entry):
        await self._gone_on()
        if self.gone:
            raise StoreError(self.gone)
        self.entries.append(entry)
        return len(self.entries) - 1

    def note(self, entry, *, sync=True):
        self.loop.call_soon_threadsafe(self.reached.set)
        if entry.action == "kill.on":
            self.loop.call_soon_threadsafe(self.killed.set)
        if entry.action != "kill.on":
            assert self.stuck.wait(20)
        if self.full:
            raise StoreError(self.full)
        self.entries.append(entry)

    async def find(self, wanted, **how):
        self.asked.append((wanted, how))
        shown = [{"seq": seq, "at": AT, "action": it.action} for seq, it in enumerate(self.entries)]
        return AuditPage(entries=tuple(reversed(shown)), next=7)

    async def verify(self):
        await self._gone_on()
        return self.report

    async def checkpoint(self):
        return self.newest

    async def _gone_on(self):
        self.reached.set()
        await self.go.wait()

    def told(self):
        return [(it.action, it.outcome.value) for it in self.entries]


class Journal:
    """The store, at once; `gone` is why it cannot be used."""

    trouble = ""

    def __init__(self, store):
        self.store = store
        self.gone = ""

    async def write(self, work):
        return self._done(self.store.write, work)

    async def read(self, work):
        return self._done(self.store.read, work)

    def _done(self, how, work):
        if self.gone:
            raise StoreError(self.gone)
        return how(work)


class Admin:
    """The server under test, and a client with or without a token of some role."""

    def __init__(self, directory, **more):
        self.clock = Clock()
        self.plane = StillPlane()
        self.counters = Counters()
        self.recent = Recent()
        self.tokens_file = directory / "tokens.json"
        self.kill_file = directory / "kill.json"
        self.reasons = []
        self.wall = 1_700_000_000.0
        tokens = TokenFile(self.tokens_file, wall=lambda: self.wall)
        self.tokens = {role: tokens.create(f"the-{role.label}", role) for role in Role}
        self.trail = Trail()
        numbers = Numbers()
        layering = Layering(self.plane)
        kill = KillSwitch(layering, KillFile(self.kill_file), numbers=numbers)
        self.store = Journal(MemoryStore())
        self.toggles = ToggleControl(
            layering,
            kill,
            file=TogglesFile(directory / "toggles.json"),
            journal=self.store,
            trail=self.trail,
            numbers=numbers,
            wall=lambda: self.wall,
        )
        self.toggles.restore()
        previews = Previews(self.plane, self.counters, self.recent, monotonic=self.clock)
        clocks = {"monotonic": self.clock, "wall": lambda: self.wall}
        self.rollback = RollbackControl(
            layering,
            Surroundings(
                layering, Criticals(self.plane, self.counters), Loads(self.counters, previews.shown)
            ),
            store=RollbackFile(directory / "rollback.json"),
            trail=self.trail,
            **clocks,
        )
        self.rollback.restore()
        kill.beyond = self.rollback.kills
        board = RollbackBoard(self.rollback, layering, **clocks)
        self.drills = DrillControl(layering, self.rollback.earnest, **clocks)
        breakers = BreakerControl(self.plane)
        self.plane.on_transition = breakers.heard
        self.board = StatusBoard(
            self.plane,
            self.counters,
            kill=kill,
            breakers=breakers,
            toggles=self.toggles,
            rollback=board.brief,
        )
        self.services = replace(
            Services(
                tokens=tokens,
                kill=kill,
                toggles=self.toggles,
                previews=previews,
                rollback=self.rollback,
                rollback_board=board,
                drills=self.drills,
                breakers=breakers,
                board=self.board,
                readiness=SimpleNamespace(unready=lambda: self.reasons),
                metrics=Metrics(SidecarCollector(self.counters, self.plane, self.board.policy_age_s)),
                trail=self.trail,
                audit=self.trail,
            ),
            **more,
        )
        self.server = AdminServer(application(self.services, clock=self.clock))

    def make(self, name, role=Role.ADMIN, **how):
        """A token more."""
        return self.services.tokens.create(name, role, **how)

    async def start(self):
        await self.toggles.begin()
        self.host, self.port = await self.server.start("127.0.0.1", 0)
        self.session = aiohttp.ClientSession(f"http://{self.host}:{self.port}")

    async def stop(self):
        await self.session.close()
        await self.server.stop()
        await self.toggles.stop()

    async def ask(self, method, path, *, role=None, token=None, headers=None, **kwargs):
        """The response with its body read; `role` picks a token, `token` is sent as it is."""
        headers = dict(headers or {})
        if role is not None:
            token = self.tokens[role]
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self.session.request(method, path, headers=headers, **kwargs) as response:
            await response.read()
            await documented(method, path, response)
            return response


PATHS = {
    re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): item for path, item in document(ENDPOINTS)["paths"].items()
}


async def documented(method, path, response):
    """Fail when the answer is not one that the document tells of."""
    path = path.partition("?")[0]
    item = next((item for known, item in PATHS.items() if known.fullmatch(path)), {})
    operation = item.get("get" if method == "HEAD" else method.lower())
    if operation is None:
        assert response.status in {404, 405}, (method, path)
        return
    told = operation["responses"].get(str(response.status))
    assert told, f"{method} {path} may answer {response.status}?"
    assert response.content_type in told["content"], (method, path, response.content_type)
    if response.content_type == "application/problem+json" and method != "HEAD":
        codes = told["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"][
            "enum"
        ]
        assert (await response.json())["code"] in codes, (method, path)
