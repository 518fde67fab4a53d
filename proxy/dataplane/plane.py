"""The data plane: a listener, one policy at a time, and what all connections share."""

import asyncio
import contextlib
import logging
import os
import random
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from proxy.clock import monotonic
from proxy.core.actions import ActionRules
from proxy.core.breaker import Breaker, Transition
from proxy.core.decision import killed_by
from proxy.core.identity import IdentityReader
from proxy.core.override import HEADER as OVERRIDE
from proxy.core.policy import Policy, Route, Upstream
from proxy.core.popularity import Popularity
from proxy.core.routing import SALT, RouteTable, bucket
from proxy.core.trust import TrustedProxies
from proxy.dataplane import own_methods
from proxy.dataplane.access_log import AccessLog
from proxy.dataplane.binding import Bound
from proxy.dataplane.chunked import ChunkedReader, forbidden_trailers
from proxy.dataplane.client import ClientConnection, Exchange
from proxy.dataplane.deadlines import Ticker
from proxy.dataplane.deciding import Deciding
from proxy.dataplane.failures import Failure
from proxy.dataplane.forward import Forward
from proxy.dataplane.memory import Memory
from proxy.dataplane.overriding import Overriding
from proxy.dataplane.paging import Paging
from proxy.dataplane.place import Place, key
from proxy.dataplane.pool import Pool
from proxy.dataplane.recommend import Recommend, popular
from proxy.dataplane.recording import Recorder
from proxy.dataplane.remembering import Files, Remembering
from proxy.dataplane.request_head import RequestHead, RequestReader
from proxy.dataplane.response_head import ResponseReader
from proxy.dataplane.sampling import Sampling, keeping_nothing
from proxy.dataplane.shadow import Shadowing
from proxy.dataplane.warming import Warming
from proxy.errors import Fault, Refusal
from proxy.telemetry.counters import Counters

_log = logging.getLogger("fusebox.dataplane")

RESERVED = Route(name="fusebox", path="/__fusebox", guarded=True)
"""Paths of the sidecar itself (contract, Headers): in the table so that nothing else can be reached there."""

_TICK_S = 0.05
_DRAIN_QUIET_S = 1.0
"""How long a connection has to be idle before a drain closes it: who is in the middle of a
conversation hears `Connection: close` with an answer instead."""


class DataPlane:
    """What a policy means, in motion.

    `start` binds; `apply` swaps the policy, effective with the next request; `drain` stops taking
    connections and returns when the last request is answered or `deadlines.drain_s` is over.
    """

    def __init__(
        self,
        policy: Policy,
        counters: Counters,
        *,
        on_transition: Callable[[Transition], None],
        recorder: Recorder | None = None,
        sampling: Sampling | None = None,
        seen: Files | None = None,
    ) -> None:
        """Without a `recorder` the policy's actions are not recorded."""
        self.counters = counters
        self.draining = False
        self.address: tuple[str, int] = ("", 0)
        self.breakers: Mapping[str, Breaker] = {}
        self._on_transition = on_transition
        self._recorder = recorder
        self._sampling = sampling or keeping_nothing()
        self._header_names: frozenset[bytes] = frozenset()
        self.ticker = Ticker()
        self.ticker.also(self._tick)
        self.ticker.also(self._sampling.tick)
        self._next_tick = 0.0
        self._next_sweep = 0.0
        self._responses = ResponseReader()
        self._pools: dict[str, Pool] = {}
        self._ever: dict[str, Pool] = {}  # also those a reload took away: one may come back
        self._connections: set[ClientConnection] = set()
        self._servers: list[asyncio.Server] = []
        self._emptied: asyncio.Event | None = None
        self._id_prefix = b"%016x" % (int.from_bytes(os.urandom(8), "big") | 1)
        self._id = int.from_bytes(os.urandom(4), "big")
        self._access = AccessLog()
        self._deciding: Deciding | None = None
        self._memory = Memory()
        self._warming = Warming(self)
        self.remembering = Remembering(seen)
        self._shadowing = Shadowing(self, self._responses)
        self.apply(policy)

    # -- policy

    def apply(self, policy: Policy) -> None:
        """Serve by `policy` from the next request on. Requests under way end as they began."""
        # Whatever can fail comes first: a policy is taken over whole or not at all.
        identity = IdentityReader(policy.identity)
        trusted = TrustedProxies(policy.trusted_proxies)
        actions = ActionRules(policy.actions if self._recorder is not None else (), policy.identity)
        places = {
            name: self._place(name, settings, policy.authorities.get(settings.ca_file, ""))
            for name, settings in policy.upstreams.items()
        }
        pools = {}
        for name, settings in policy.upstreams.items():
            known = self._ever.get(name)
            if known is None:
                known = self._ever[name] = self._new_pool(name, settings, places[name], policy)
            known.reconfigure(settings, places[name], policy.limits)
            pools[name] = known
        previous = getattr(self, "policy", None)
        gone = [pool for name, pool in self._pools.items() if pools.get(name) is not pool]
        self.policy = policy
        self._pools = pools
        self.breakers = {name: pool.breaker for name, pool in pools.items()}
        self._memory.configure(policy.cache)
        self._bound = {
            route.name: Bound(route, policy, pools, self.counters, self.ticker, actions.of(route))
            for route in policy.routes
        }
        self._table = RouteTable((*policy.routes, RESERVED))
        self._identity = identity
        self.trusted = trusted
        self.killed = killed_by(policy) is not None
        if previous is None or previous.popularity is not policy.popularity:
            self.popularity = Popularity(policy.popularity)
        self._overriding = Overriding(policy.overrides, policy.signing_key)
        self.paging = Paging(policy.signing_key, identity, policy.limits.target_bytes)
        self.remembering.turn(policy.experiment, frozen=policy.toggles.experiment_freeze)
        self._deciding = Deciding(policy, self.popularity, self._deciding, self.remembering, self._memory)
        self._shadowing.apply(policy, pools, self._bound, self._deciding)
        for bound in self._bound.values():
            if bound.recommends:
                self._deciding.bind(bound)
        self._warming.apply(policy, self._bound, identity)
        names = identity.header_names | actions.header_names
        if previous is None or previous.limits != policy.limits or names != self._header_names:
            self._header_names = names
            self.reader = RequestReader(policy.limits, names)
            self._forbidden = forbidden_trailers(names)
        deadlines = policy.deadlines
        self.head_lane = self.ticker.lane(deadlines.head_s)
        self.gap_lane = self.ticker.lane(deadlines.body_gap_s)
        self.linger_lane = self.ticker.lane(deadlines.linger_s)
        self.tunnel_lane = self.ticker.lane(deadlines.tunnel_idle_s)
        self._access.sample = policy.access_log_sample
        for pool in gone:
            pool.close()

    async def settled(self) -> None:
        """Return when the policy applied last is in force: here it is at once."""

    def _place(self, name: str, settings: Upstream, authorities: str) -> Place:
        """The one in use if it is the same: making one for TLS takes its time."""
        known = self._pools.get(name)
        if known is not None and known.place.key == key(settings, authorities):
            return known.place
        return Place(settings, authorities)

    def _new_pool(self, name: str, settings: Upstream, place: Place, policy: Policy) -> Pool:
        breaker = Breaker(
            name,
            settings.breaker,
            rng=random.random,
            on_transition=self._on_transition,
            now=monotonic(),
        )
        cell = self.counters.upstream(name)
        return Pool(name, settings, place, breaker, cell, self.ticker, self._responses, policy.limits)

    # -- life

    async def start(self, address: str) -> None:
        """Listen on `address` ("host:port"). OSError when that cannot be."""
        host, _, port = address.rpartition(":")
        server = await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(self), host.strip("[]"), int(port), backlog=4096
        )
        self._servers.append(server)
        name = server.sockets[0].getsockname()
        self.address = (name[0], name[1])
        self.ticker.start()

    async def listen(self, sock: socket.socket) -> asyncio.Server:
        """Listen on a bound socket, beside any others; it is taken over, and closes with the server."""
        server = await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(self), sock=sock, backlog=4096
        )
        self._servers = [*(other for other in self._servers if other.is_serving()), server]
        self.ticker.start()
        return server

    async def drain(self) -> None:
        """Take no more connections, end those there are with their present request."""
        self.draining = True
        self._next_sweep = 0.0
        self._emptied = asyncio.Event()
        if self._servers:
            await asyncio.sleep(0)  # take what the kernel has already accepted for us
            for server in self._servers:
                server.close()
            await asyncio.sleep(0)  # … and let it become a connection
        if self._connections:
            deadline = self.policy.deadlines.drain_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline):
                    await self._emptied.wait()

    def close(self) -> None:
        """Abort what is left and stop."""
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            connection.transport.abort()
        self._warming.close()
        self._memory.close(monotonic())
        if self._recorder is not None:
            self._recorder.close()
        self._shadowing.close()
        for pool in self._ever.values():
            pool.close()
        self.ticker.stop()

    def _tick(self, now: float) -> None:
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK_S
        self._memory.tell(self.counters)
        self._warming.tick(now)
        if now >= self._next_sweep:
            idle_s = self.policy.deadlines.idle_client_s
            if self.draining:
                idle_s = min(idle_s, _DRAIN_QUIET_S)
            self._next_sweep = now + min(1.0, idle_s / 4)
            for connection in tuple(self._connections):
                connection.close_if_idle(now - idle_s)
        for pool in (*self._pools.values(), *self._shadowing.pools.values()):
            pool.tick(now)

    # -- asked by client connections

    def admit(self, connection: ClientConnection) -> bool:
        self.counters.accepted += 1
        if len(self._connections) >= self.policy.limits.connections:
            return False
        self._connections.add(connection)
        self.counters.connections = len(self._connections)
        return True

    def gone(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        self.counters.connections = len(self._connections)
        if not self._connections and self._emptied is not None:
            self._emptied.set()

    def new_id(self) -> bytes:
        """32 hex digits, unique: a request id that is a trace id as well (W3C trace context)."""
        self._id += 1
        return b"%b%016x" % (self._id_prefix, self._id)

    def chunks(self) -> ChunkedReader:
        limits = self.policy.limits
        return ChunkedReader(
            extension_limit=limits.chunk_extension_bytes,
            trailer_limit=limits.head_bytes,
            fields_limit=limits.head_fields,
            forbidden=self._forbidden,
        )

    def exchange(
        self, client: ClientConnection, head: RequestHead, piece: bytes, *, ended: bool
    ) -> Exchange | None:
        """Begin to serve a request; None when it is already answered."""
        now = monotonic()
        head.started = now
        head.bound = None
        head.action = None
        head.bucket = 0
        head.user = b""
        head.made_id = not head.request_id
        if head.made_id:
            head.request_id = self.new_id()
        forward: Forward | None = None
        try:
            if head.method in own_methods.METHODS and own_methods.stays_here(head):
                own_methods.answer(client, head)
                return None
            bound = self._route(client, head, len(piece))
            user = head.user = self._identity.user(head.fields, head.query)
            head.bucket = bucket(user or head.request_id, SALT)
            if bound.recommends:
                sampling = self._sampling
                sampling.left -= 1
                if not sampling.left:
                    sampling.picked(bound.name, head, self._identity)
                if self.killed:
                    popular(client, head, bound)
                    return None
                choices = bound.choices
                if OVERRIDE in head.fields:
                    bound = self._overriding.bound(head, choices, self._identity)
                else:
                    bound = choices.fixed or choices.of(head, self._identity)
                head.bound = bound
                if not user:
                    bound.counters.unsticky += 1
                elif bound.remembering is not None:
                    bound.remembering.add(user)
                head.identify(self.new_id)
                return Recommend.begin(client, head, bound, now)
            head.identify(self.new_id)
            kind = Forward if bound.shadow is None else bound.shadow.kind(head)
            forward = kind(client, head, bound, piece, ended=ended)
            if head.action is not None:
                head.action.call = forward
            forward.begin(now, head.bucket)
            if not ended:
                forward.limit_total()
        except Refusal as refusal:
            client.refuse(refusal)
            return None
        except Exception:  # noqa: BLE001 - a fault of ours: the client gets an answer all the same
            _log.exception("serving a request failed")
            if forward is not None:
                forward.give_up(Failure.INTERNAL, now)
            client.refuse(Failure.INTERNAL.refusal("a fault in the sidecar"))
            return None
        return forward

    def _route(self, client: ClientConnection, head: RequestHead, received: int) -> Bound:
        """The route that serves this request, with `received` bytes of its body. Raises `Refusal`."""
        route = self._table.resolve(head.path)
        if route is None or route is RESERVED:
            raise Refusal("no_route", 404, "Not Found", "no route has this path")
        bound = head.bound = self._bound[route.name]
        if bound.actions is not None and self._recorder is not None:
            self._recorder.begin(client, head, bound.actions)
        if bound.methods is not None and head.method not in bound.methods:
            raise Refusal("bad_request", 405, "Method Not Allowed", allow=bound.allow)
        if bound.flag_off:
            raise Refusal("flag_off", 503, "Service Unavailable", f"{route.flag} is switched off")
        if head.content_length > bound.max_body or received > bound.max_body:
            raise bound.too_large()
        return bound

    def own_lines(self, head: RequestHead) -> bytes:
        """The fields on every answer that the sidecar makes itself."""
        bound = head.bound
        if bound is None:
            return b"X-Request-Id: %b\r\nX-Fusebox-Decision: route=none;v=%d\r\n" % (
                head.request_id,
                self.policy.toggles.version,
            )
        return b"X-Request-Id: %b\r\n%b%d%b" % (
            head.request_id,
            bound.decision_start,
            head.bucket,
            bound.decision_end,
        )

    # -- accounts

    def finished(self, head: RequestHead, status: int, now: float, failure: Failure | None = None) -> None:
        """Count an answered request; log a sample, and all that went wrong."""
        bound = head.bound
        seconds = now - head.started
        if bound is not None:
            bound.cell.count(status, seconds)
        if self._access.wants(always=status >= 500 or failure is not None):
            self._access.write(head, status, seconds, failure.name.lower() if failure else "")

    def refused(self, head: RequestHead | None, refusal: Refusal, now: float) -> None:
        """Count an answer that the sidecar made itself; log a sample, and every failure of an upstream."""
        self.counters.refusals[refusal.code] += 1
        if head is None or head.bound is None:
            self.counters.cell("none", "none").count(refusal.status, now - head.started if head else 0.0)
        else:
            head.bound.cell.count(refusal.status, now - head.started)
        failed = refusal.status >= 500 and refusal.fault is not Fault.SIDECAR
        if self._access.wants(always=failed) and head is not None:
            self._access.write(head, refusal.status, now - head.started, refusal.code)


if TYPE_CHECKING:  # what this class is to others
    from proxy.ports import PolicyTarget

    _: type[PolicyTarget] = DataPlane
