"""One call of one upstream: permit, connection, deadlines, retries, and exactly one account of it.

What the answer is used for is the subclass's business: `forward` streams it to a client, `recommend`
collects candidates. A call ends once, by `_settle`; whatever comes later finds it over.
"""

import logging
from math import inf

from proxy.clock import monotonic
from proxy.core.addresses import Address
from proxy.core.breaker import Outcome
from proxy.dataplane.deadlines import Lane
from proxy.dataplane.failures import Failure
from proxy.dataplane.pool import WRITE_REUSE_S, Pool
from proxy.dataplane.response_head import ResponseHead
from proxy.dataplane.upstream import UpstreamConnection
from proxy.errors import Fault, Refusal
from proxy.telemetry.counters import UpstreamCell, bucket_of

_log = logging.getLogger("fusebox.dataplane")

# Phases. `on_deadline` is read by the phase in which it comes.
WAITING, SENDING, SENT, ANSWERING, TUNNEL, OVER = range(6)

_MAX_ATTEMPTS = 3
_SUCCESS = Outcome.SUCCESS  # looking a member up takes ten times as long

_CUT_OFF = {
    "manual": "held cut off by an operator",
    "half_open": "being probed after an outage",
    "ramp": "recovering and takes back its users step by step",
    "slow_rate": "cut off after slow answers",
}


class Call:
    """The subclass fills what is declared without a value; `begin` starts it, hooks tell the subclass."""

    pool: Pool
    request: bytes  # what goes out first: the head, and the body as far as it is there
    priority: int
    first_byte: Lane  # of the deadline from sent to first byte of the answer

    # Defaults stand on the class: a call that goes well touches few of them, and those the subclass sets.
    # (So no __slots__; CPython keeps the attributes of such an object inline as well.)
    idempotent = True
    bodiless = False  # HEAD
    whole = True  # `request` is all of it; false when a body is streamed behind it
    upgrade = b""
    outcome = "success"  # once it is over, in the words of `counters.OUTCOMES`
    aside: UpstreamCell | None = None  # counted there alone, and nothing is learnt from it (facts 2.18)
    one_deadline = False  # `first_byte` runs from the beginning to the end, not from phase to phase
    phase = WAITING
    sent_at = 0.0
    first_byte_s = 0.0
    _permit = 0
    _lane: Lane | None = None
    _connection: UpstreamConnection | None = None
    _attempts = 1
    _stale_retried = False

    # -- hooks of the subclass

    def sent(self) -> None:
        """The request is on its way: stream what is there of the body."""

    def on_failed(self, failure: Failure, detail: str) -> None:
        """The call is over without a complete answer."""
        raise NotImplementedError

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx answer; not every caller wants them."""

    def on_response(self, head: ResponseHead, body: bytes, ended: bool) -> None:
        raise NotImplementedError

    # -- the way out

    def begin(self, now: float, bucket: int) -> None:
        """Raises `Refusal` when the breaker does not let it pass."""
        pool = self.pool
        if self.aside is None:
            passes = self._permit = pool.breaker.admit(now, bucket)
        else:  # without a permit the breaker does not know of it
            passes = pool.breaker.passes(now, bucket)
        if not passes:
            self.phase = OVER
            self.outcome = "breaker_open"
            (self.aside or pool.cell).outcomes["breaker_open"] += 1
            raise self._breaker_refusal(now)
        pool.budget.made += 1
        connection = pool.acquire(self, now, inf if self.idempotent else WRITE_REUSE_S, None)
        if connection is not None:
            self._send(connection, now)
        elif self.phase == WAITING:
            self._arm(self.first_byte, now)  # it covers the way to a connection, too
            if pool.queues(self):
                pool.breaker.paused(self._permit)

    def _breaker_refusal(self, now: float) -> Refusal:
        refused = self.pool.breaker.refusal(now)
        return Refusal(
            "breaker_open",
            503,
            "Service Unavailable",
            # Not the reason as given: an operator's words are not for the public.
            f"{self.pool.name} is {_CUT_OFF.get(refused.rule, 'cut off after failures')}; nothing was sent",
            fault=Fault.SIDECAR,
            retry_after_s=refused.retry_after_s,
            proxy_error="destination_unavailable",
        )

    def on_connection(self, connection: UpstreamConnection) -> None:
        if self.phase != WAITING or self._connection is not None:
            # Given up meanwhile: the connection is good, somebody else will use it.
            self.pool.release(connection, True)
            return
        now = monotonic()
        try:
            self.pool.breaker.sent(self._permit, now)
            self._send(connection, now)
        except Exception:  # noqa: BLE001 - a fault of ours: nobody above knows whose call this is
            _log.exception("sending a request failed")
            self._connection = connection
            self.expire(Failure.INTERNAL, "a fault in the sidecar", now)

    def on_no_connection(self, failure: Failure, detail: str, address: Address | None) -> None:
        if self.phase != WAITING:
            return
        now = monotonic()
        if not self.one_deadline:
            self._disarm()
        if (
            failure is Failure.UNREACHABLE
            and self._attempts < _MAX_ATTEMPTS
            and len(self.pool.addresses) > 1
            and self.pool.budget.withdraw(now)
        ):
            self._retry(now, address)
            return
        self._disarm()
        self._settle(failure, detail, now)
        self.on_failed(failure, detail)

    def _retry(self, now: float, avoid: Address | None) -> None:
        self._attempts += 1
        (self.aside or self.pool.cell).retries += 1
        self.phase = WAITING
        connection = self.pool.acquire(self, now, 0.0, avoid)
        if connection is not None:
            self._send(connection, now)
        elif self.phase == WAITING:
            if self._lane is None:
                self._arm(self.first_byte, now)
            if self.pool.queues(self):
                self.pool.breaker.paused(self._permit)

    def _send(self, connection: UpstreamConnection, now: float) -> None:
        self._connection = connection
        self.sent_at = now
        if self.whole:
            connection.unsent = False
            self.phase = SENT
            if self._lane is None:
                self._lane = lane = self.first_byte
                lane.entries[self] = now + lane.seconds  # not in it yet
            elif not self.one_deadline:
                self._arm(self.first_byte, now)
            connection.take(self, self.request)
        else:
            connection.unsent = True
            self.phase = SENDING
            self._disarm()
            self.pool.breaker.paused(self._permit)
            connection.take(self, self.request)
            connection.keep_spare()
            self.sent()

    def sent_whole(self, now: float) -> None:
        """The last piece of a streamed body is written: from here the upstream is waited for."""
        if self._connection is not None:
            self._connection.unsent = False
        if self.phase == SENDING:
            self.phase = SENT
            self.pool.breaker.sent(self._permit, now)
            self._arm(self.first_byte, now)

    # -- the way back

    def answering(self, now: float) -> None:
        """The answer has begun; called by subclasses first thing in `on_response`, unless it has ended."""
        self._clock_first_byte(now)
        if not self.one_deadline:
            self._disarm()
        self.phase = ANSWERING
        self.pool.breaker.responded(self._permit, now)

    def _clock_first_byte(self, now: float) -> None:
        self.first_byte_s = seconds = now - self.sent_at
        cell = self.aside or self.pool.cell
        cell.buckets[bucket_of(seconds)] += 1
        cell.seconds += seconds

    def concluded(self, status: int, now: float, broken: str = "") -> None:
        """A whole answer, judged by its content: `status` 0: it broke the contract, and `broken` says how."""
        if status:
            self.succeeded(status, now)
        else:
            if not self.first_byte_s:
                self._clock_first_byte(now)
            self._connection = None
            self._disarm()
            self._settle(Failure.INVALID, f"not what sources answer: {broken}", now)

    def succeeded(self, status: int, now: float) -> None:
        """The answer is complete. 5xx is the upstream's failure all the same (facts 2.20)."""
        pool = self.pool
        cell = self.aside or pool.cell
        if not self.first_byte_s:  # it ended with its first piece
            self._clock_first_byte(now)
        connection = self._connection
        self.phase = OVER
        self._connection = None
        if self._lane is not None:
            self._lane.entries.pop(self, None)
            self._lane = None
        if status < 500:
            cell.outcomes["success"] += 1
            pool.breaker.done(self._permit, _SUCCESS, now)
        else:
            self.outcome = "error"
            cell.outcomes["error"] += 1
            pool.complain("error", f"answered {status}", now)
            pool.breaker.done(self._permit, Outcome.FAILURE, now)
        if connection is not None and connection.address.failures and self.aside is None:
            pool.addresses.succeeded(connection.address)

    def on_failure(self, failure: Failure, detail: str) -> None:
        """Told by the connection, which is closed: reset, truncated or invalid."""
        if self.phase == OVER:
            return
        now = monotonic()
        connection = self._connection
        self._connection = None
        if not self.one_deadline:
            self._disarm()
        if connection is not None:
            self.pool.give_up(connection)
            if connection.reused and self._may_repeat(failure):
                # The upstream closed a kept-alive connection under us. It has not seen the request,
                # and nothing is said about it: neither a failure nor a draw on the budget.
                self._stale_retried = True
                self._retry(now, None)
                return
            self._blame(connection.address, now)
        self._disarm()
        self._settle(failure, detail, now)
        self.on_failed(failure, detail)

    def _may_repeat(self, failure: Failure) -> bool:
        return (
            failure is Failure.RESET
            and self.idempotent
            and self.whole
            and self.phase == SENT
            and not self._stale_retried
        )

    def on_deadline(self, now: float) -> None:
        """The phase took too long."""
        self._lane = None
        if self.phase == OVER:
            return
        if self.phase == WAITING:
            if self.pool.leave(self):
                self._settle(Failure.OVERLOADED, "", now)
                self.on_failed(Failure.OVERLOADED, "no slot became free in time")
            else:
                self.expire(Failure.TIMEOUT, "no connection came about in time", now)
            return
        self.expire(Failure.TIMEOUT, "the upstream did not answer in time", now)

    def expire(self, failure: Failure, detail: str, now: float) -> None:
        """End the call for `failure`, whatever phase it is in."""
        self.give_up(failure, now, detail)
        self.on_failed(failure, detail)

    def give_up(self, failure: Failure, now: float, detail: str = "") -> None:
        """End the call without telling the subclass: it knows."""
        if self.phase == OVER:
            return
        connection = self._connection
        self._connection = None
        self._disarm()
        if connection is not None:
            self.pool.give_up(connection)
            if failure is Failure.TIMEOUT:
                self._blame(connection.address, now)
        else:
            self.pool.leave(self)
        self._settle(failure, detail, now)

    def on_fault(self) -> None:
        """An exception of ours while the answer was handled; the connection is back in the pool."""
        if self.phase != OVER:
            self._connection = None
            self._disarm()
            self._settle(Failure.INTERNAL, "", monotonic())
        self.on_failed(Failure.INTERNAL, "a fault in the sidecar")

    def _blame(self, address: Address, now: float) -> None:
        if self.aside is None:
            self.pool.addresses.failed(address, now)

    def _settle(self, failure: Failure, detail: str, now: float) -> None:
        """The one account of a call that did not succeed."""
        self.phase = OVER
        self.outcome = outcome = failure.value.outcome
        (self.aside or self.pool.cell).outcomes[outcome] += 1
        counts = failure.value.fault is Fault.UPSTREAM
        if counts:
            self.pool.complain(failure.value.outcome, detail, now)
        self.pool.breaker.done(self._permit, Outcome.FAILURE if counts else Outcome.NEUTRAL, now)

    def _arm(self, lane: Lane, now: float) -> None:
        if self._lane is not None:
            self._lane.clear(self)
        self._lane = lane
        lane.set(self, now)

    def _disarm(self) -> None:
        if self._lane is not None:
            self._lane.clear(self)
            self._lane = None

    # -- not every caller streams or tunnels

    def on_body(self, piece: bytes, trailers: bytes, *, ended: bool) -> None:
        raise NotImplementedError

    def on_switch(self, head: ResponseHead, data: bytes) -> None:
        raise NotImplementedError

    def on_tunnel(self, data: bytes) -> None:
        raise NotImplementedError

    def on_tunnel_end(self) -> None:
        raise NotImplementedError

    def on_upstream_full(self) -> None:
        """The upstream takes no more for now."""

    def on_upstream_ready(self) -> None:
        """The upstream takes more again."""
