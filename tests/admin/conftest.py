"""A running admin face over real control services, real files and a plane that only holds state."""

from types import SimpleNamespace

import aiohttp
import pytest

from proxy.admin.app import AdminServer, application
from proxy.admin.endpoints import Services
from proxy.control import BreakerControl, KillSwitch, StatusBoard
from proxy.core.breaker import Breaker, BreakerSettings
from proxy.core.policy import Policy, Route, Upstream
from proxy.core.roles import Role
from proxy.storage.kill_file import KillFile
from proxy.storage.tokens import TokenFile
from proxy.telemetry.collector import Metrics, SidecarCollector
from proxy.telemetry.counters import Counters


class StillPlane:
    """Carries no traffic."""

    def __init__(self):
        self.policy = Policy(
            routes=(Route(name="payment", path="/payment/", upstream="payment"),),
            upstreams={"payment": Upstream(url="http://127.0.0.1:9103")},
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


class Admin:
    """The server under test, and a client with or without a token of some role."""

    def __init__(self, directory):
        self.clock = Clock()
        self.plane = StillPlane()
        self.counters = Counters()
        self.tokens_file = directory / "tokens.json"
        self.kill_file = directory / "kill.json"
        self.reasons = []
        tokens = TokenFile(self.tokens_file)
        self.tokens = {role: tokens.create(f"the-{role.label}", role) for role in Role}
        kill = KillSwitch(self.plane, KillFile(self.kill_file))
        breakers = BreakerControl(self.plane)
        self.plane.on_transition = breakers.heard
        self.board = StatusBoard(self.plane, self.counters, kill=kill, breakers=breakers)
        self.services = Services(
            tokens=tokens,
            kill=kill,
            breakers=breakers,
            board=self.board,
            readiness=SimpleNamespace(unready=lambda: self.reasons),
            metrics=Metrics(SidecarCollector(self.counters, self.plane, self.board.policy_age_s)),
        )
        self.server = AdminServer(application(self.services, clock=self.clock))

    async def start(self):
        self.host, self.port = await self.server.start("127.0.0.1", 0)
        self.session = aiohttp.ClientSession(f"http://{self.host}:{self.port}")

    async def stop(self):
        await self.session.close()
        await self.server.stop()

    async def ask(self, method, path, *, role=None, token=None, headers=None, **kwargs):
        """The response with its body read; `role` picks a token, `token` is sent as it is."""
        headers = dict(headers or {})
        if role is not None:
            token = self.tokens[role]
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self.session.request(method, path, headers=headers, **kwargs) as response:
            await response.read()
            return response


@pytest.fixture
async def admin(tmp_path):
    admin = Admin(tmp_path)
    await admin.start()
    yield admin
    await admin.stop()
