"""The data plane: one policy at a time, and what all connections share."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn

from proxy.clock import monotonic
from proxy.core.actions import ActionRules
from proxy.core.breaker import Breaker, Transition
from proxy.core.decision import killed_by
from proxy.core.identity import IdentityReader
from proxy.core.override import HEADER as OVERRIDE
from proxy.core.policy import Policy, Route
from proxy.core.popularity import Popularity
from proxy.core.rollback.signals import Delta
from proxy.core.routing import SALT, RouteTable, bucket
from proxy.core.trust import TrustedProxies
from proxy.dataplane import own_methods
from proxy.dataplane.accounting import Accounting
from proxy.dataplane.accounts import Books
from proxy.dataplane.binding import Bound
from proxy.dataplane.chunked import ChunkedReader, forbidden_trailers
from proxy.dataplane.client import ClientConnection, Exchange
from proxy.dataplane.clients import Clients
from proxy.dataplane.deadlines import Ticker
from proxy.dataplane.deciding import Deciding
from proxy.dataplane.emitting import Emitting
from proxy.dataplane.failures import Failure
from proxy.dataplane.forward import Forward
from proxy.dataplane.memory import Memory
from proxy.dataplane.overriding import Overriding
from proxy.dataplane.paging import Paging
from proxy.dataplane.pools import Pools
from proxy.dataplane.recommend import Recommend, popular
from proxy.dataplane.recording import Recorder
from proxy.dataplane.remembering import Files, Remembering
from proxy.dataplane.request_head import RequestHead, RequestReader
from proxy.dataplane.response_head import ResponseReader
from proxy.dataplane.sampling import Sampling, keeping_nothing
from proxy.dataplane.shadow import Shadowing
from proxy.dataplane.warming import Warming
from proxy.errors import Refusal
from proxy.telemetry.counters import Counters

if TYPE_CHECKING:
    from proxy.dataplane.pool import Pool

_log = logging.getLogger("fusebox.dataplane")

RESERVED = Route(name="fusebox", path="/__fusebox", guarded=True)
"""Paths of the sidecar itself (contract, Headers): in the table so that nothing else can be reached there."""

_TICK_S = 0.05
_HEX = tuple(b"%02x" % number for number in range(256))


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
        on_signals: Callable[[Delta], None] | None = None,
        events: Emitting | None = None,
    ) -> None:
        """Without a `recorder` the policy's actions are not recorded. `on_signals` hears four times a second
        what was counted; without it `books.take` gives that. `events`: where the event log is told.
        """
        self.counters = counters
        self.draining = False
        self.address: tuple[str, int] = ("", 0)
        self.breakers: Mapping[str, Breaker] = {}
        self._recorder = recorder
        self._sampling = sampling or keeping_nothing()
        self._header_names: frozenset[bytes] = frozenset()
        self.ticker = Ticker()
        self.ticker.also(self._tick)
        self.ticker.also(self._sampling.tick)
        self._next_tick = 0.0
        responses = ResponseReader()
        self._upstreams = Pools(counters, self.ticker, responses, on_transition)
        self._pools: dict[str, Pool] = {}
        self.clients = Clients(self)
        self._id_prefix = b"%016x" % (int.from_bytes(os.urandom(8), "big") | 1)
        self._id = int.from_bytes(os.urandom(4), "big") << 8
        self._id_stem = b""  # of the present 256
        self.accounting = Accounting(counters, events)
        self.books = Books(counters, self._upstreams.ever, on_signals, events)
        self.ticker.also(self.books.tick)
        self._deciding: Deciding | None = None
        self._memory = Memory()
        self._warming = Warming(self)
        self.remembering = Remembering(seen)
        self._shadowing = Shadowing(self, responses)
        self.apply(policy)

    # -- policy

    def apply(self, policy: Policy) -> None:
        """Serve by `policy` from the next request on. Requests under way end as they began."""
        # Whatever can fail comes first: a policy is taken over whole or not at all.
        identity = IdentityReader(policy.identity)
        trusted = TrustedProxies(policy.trusted_proxies)
        actions = ActionRules(policy.actions if self._recorder is not None else (), policy.identity)
        pools = self._upstreams.take(policy, self._upstreams.places(policy))
        previous = getattr(self, "policy", None)
        gone = [pool for name, pool in self._pools.items() if pools.get(name) is not pool]
        self.policy = policy
        self._pools = pools
        self.breakers = {name: pool.breaker for name, pool in pools.items()}
        self._memory.configure(policy.cache)
        self.books.apply(policy, identity)
        self._bound = {
            route.name: Bound(route, policy, pools, self.counters, self.ticker, self.books, actions.of(route))
            for route in policy.routes
        }
        self._table = RouteTable((*policy.routes, RESERVED))
        self._identity = identity
        self.trusted = trusted
        self.killed = killed_by(policy) is not None
        if previous is None or previous.popularity is not policy.popularity:
            self.popularity = Popularity(policy.popularity)
        self._overriding = Overriding(policy)
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
        self.accounting.access.sample = policy.access_log_sample
        for pool in gone:
            pool.close()

    async def settled(self) -> None:
        """Return when the policy applied last is in force: here it is at once."""

    # -- life

    async def start(self, address: str) -> None:
        """Listen on `address` ("host:port"). OSError when that cannot be."""
        self.address = await self.clients.start(address)
        self.ticker.start()

    async def listen(self, sock: socket.socket) -> asyncio.Server:
        """Listen on a bound socket, beside any others; it is taken over, and closes with the server."""
        server = await self.clients.listen(sock)
        self.ticker.start()
        return server

    async def drain(self) -> None:
        """Take no more connections, end those there are with their present request."""
        self.draining = True
        await self.clients.drain(self.policy.deadlines.drain_s)

    def close(self) -> None:
        """Abort what is left and stop."""
        self.clients.close()
        self._warming.close()
        self._memory.close(monotonic())
        if self._recorder is not None:
            self._recorder.close()
        self._shadowing.close()
        self._upstreams.close()
        self.ticker.stop()

    def _tick(self, now: float) -> None:
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK_S
        self._memory.tell(self.counters)
        self._warming.tick(now)
        self.clients.tick(now, self.policy.deadlines.idle_client_s)
        for pool in (*self._pools.values(), *self._shadowing.pools.values()):
            pool.tick(now)

    # -- asked by client connections

    def new_id(self) -> bytes:
        """32 hex digits, unique: a request id that is a trace id as well (W3C trace context)."""
        self._id = number = self._id + 1
        low = number & 0xFF
        if not low or not self._id_stem:
            self._id_stem = b"%b%014x" % (self._id_prefix, number >> 8)
        return self._id_stem + _HEX[low]

    def chunks(self) -> ChunkedReader:
        limits = self.policy.limits
        return ChunkedReader(
            extension_limit=limits.chunk_extension_bytes,
            trailer_limit=limits.head_bytes,
            fields_limit=limits.head_fields,
            forbidden=self._forbidden,
        )

    def exchange(
        self, client: ClientConnection, head: RequestHead, piece: bytes, ended: bool
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
            if head.method != b"GET" and head.method in own_methods.METHODS and own_methods.stays_here(head):
                own_methods.answer(client, head)
                return None
            route = self._table.resolve(head.path)
            if route is None or route is RESERVED:
                _no_route()
            bound = head.bound = self._bound[route.name]
            if bound.guarded or piece or not ended:
                self._guard(client, head, bound, len(piece))
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
            forward = kind(client, head, bound, piece, ended)
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

    def _guard(self, client: ClientConnection, head: RequestHead, bound: Bound, received: int) -> None:
        """What a route has before it, with `received` bytes of the body. Raises `Refusal`."""
        if bound.actions is not None and self._recorder is not None:
            self._recorder.begin(client, head, bound.actions)
        if bound.methods is not None and head.method not in bound.methods:
            raise Refusal("bad_request", 405, "Method Not Allowed", allow=bound.allow)
        if bound.flag_off:
            raise Refusal("flag_off", 503, "Service Unavailable", f"{bound.route.flag} is switched off")
        if head.content_length > bound.max_body or received > bound.max_body:
            raise bound.too_large()

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


def _no_route() -> NoReturn:
    raise Refusal("no_route", 404, "Not Found", "no route has this path")


if TYPE_CHECKING:  # what this class is to others
    from proxy.ports import PolicyTarget

    _: type[PolicyTarget] = DataPlane
